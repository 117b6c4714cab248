"""``capriole.fit`` with networks: trained from the rotation, and for modes that plain HMC does not
connect.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole import AbstractLogDensity
from capriole.fitting import _search
from capriole_lab.targets import make_target

pytestmark = pytest.mark.usefixtures("standard_promotion")


class Watched(AbstractLogDensity):
    """A Gaussian with tails, that counts the positions at which it is evaluated."""

    count: list = eqx.field(static=True)

    def __call__(self, position):
        jax.debug.callback(self.count.append, jnp.asarray(position[0].size))
        return -jnp.sum(jnp.sqrt(1 + position**2), axis=0)


def test_networks_are_trained_from_the_rotation_measured_and_paid_for(monkeypatch):
    """Where rotations suffice they are not; here nothing suffices."""
    monkeypatch.setattr(_search, "NO_NETWORKS", 1e9)
    monkeypatch.setattr(_search, "TRANSPORTED_ENOUGH", 1e9)
    monkeypatch.setattr(_search, "transported", lambda *args: None)
    seen = []
    options = {"seed": 0, "num_chains": 8, "num_draws": 100, "train_steps": 40, "compare": False}
    verdict = capriole.fit(Watched(seen), np.zeros(2), **options).verdict
    jax.effects_barrier()
    network, settings = verdict.row("small network"), verdict.settings
    assert network is not None
    assert network.worst > 0
    assert (
        network.fixed_gradients
        > settings["pilot"]["num_gradients"] + 40 * 200 * network.num_leapfrogs
    )
    assert settings["training"]["num_gradients"] > 40 * 200 * network.num_leapfrogs
    told = (
        settings["preparation"]["num_gradients"]
        + settings["warmup"]["num_gradients"]
        + settings["final"]["num_gradients"]
    )
    checks = sum(int(size) for size in seen) - told
    assert abs(checks) < 0.02 * told, "but for those of the first checks and of starts"


@pytest.mark.slow
def test_two_modes_of_different_width_are_connected_by_a_network(monkeypatch):
    """mog-asym: half of the mass in a mode a tenth as wide, which plain HMC leaves and does not
    find again; as if its modes were no Gaussians.
    """
    monkeypatch.setattr(_search, "jumps", lambda *args: (None, 0))
    target = make_target("mog-asym")
    found = capriole.fit(target, seed=0, num_chains=32)
    assert found.verdict.chosen == "network for modes"
    assert not found.verdict.failed, found.verdict.problems
    position = found.tree["posterior"]["x"].values
    labels = np.asarray(target.mode(jnp.asarray(np.moveaxis(position, 2, 0))))
    assert (labels == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert np.ptp(labels, axis=1).min() == 1, "every chain was in both"


@pytest.mark.slow
def test_a_network_trained_in_the_whole_search_is_no_worse_than_what_it_started_from():
    verdict = capriole.fit(make_target("banana"), seed=0, train_steps=400).verdict
    assert not verdict.failed, verdict.problems
    chosen = verdict.row(verdict.chosen)
    others = [row.worst for row in verdict.rows if row.name != "NUTS" and row.reach == 1]
    assert chosen.worst > 0.5 * max(others), "its own run's figure beside those of the search"
