"""``capriole.fit`` with networks: modes that plain HMC does not connect, and a bent density."""

from functools import partial

import numpy as np
import pytest

import capriole
from capriole.fitting import Kind, _api
from capriole.fitting._search import search
from capriole.fitting.proposers import Networks, Rotations, TransportMaps
from densities import Banana, Mixture2

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.slow]


def test_two_modes_of_different_width_are_connected_by_a_network(monkeypatch):
    """Half of the mass in a mode a tenth as wide, which plain HMC leaves and does not find again;
    as if its modes were no Gaussians.
    """
    proposers = (Rotations(), TransportMaps(), Networks())
    monkeypatch.setattr(_api, "search", partial(search, proposers=proposers))
    target = Mixture2(centre=5.0, wide=3**0.5, narrow=0.05**0.5)
    found = capriole.fit(target, np.zeros(2), spread=5.0, seed=0, num_chains=32)
    assert found.verdict.chosen == Kind.MODE_NETWORK.value
    assert not found.verdict.failed, found.verdict.problems
    right = found.tree["posterior"]["x"].values[..., 0] > 2
    assert right.mean() == pytest.approx(0.5, abs=0.05)
    assert np.ptp(right.astype(int), axis=1).min() == 1, "every chain was in both"


def test_a_network_trained_in_the_whole_search_is_no_worse_than_what_it_started_from():
    target = Banana(scale=10.0, bend=0.03)
    verdict = capriole.fit(target, np.zeros(2), seed=0, train_steps=400).verdict
    assert not verdict.failed, verdict.problems
    chosen = verdict.row(verdict.chosen)
    others = [row.worst for row in verdict.rows if not row.is_nuts and row.reach == 1]
    assert chosen.worst > 0.5 * max(others), "its own run's figure beside those of the search"
