"""``capriole.fit`` with networks on a bent density."""

import numpy as np
import pytest

import capriole
from densities import Banana

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.slow]


def test_a_network_trained_in_the_whole_search_is_no_worse_than_what_it_started_from():
    target = Banana(scale=10.0, bend=0.03)
    verdict = capriole.fit(target, np.zeros(2), seed=0, train_steps=400).verdict
    assert not verdict.failed, verdict.problems
    chosen = verdict.row(verdict.chosen)
    others = [row.worst for row in verdict.rows if not row.is_nuts and row.reach == 1]
    assert chosen.worst > 0.5 * max(others), "its own run's figure beside those of the search"
