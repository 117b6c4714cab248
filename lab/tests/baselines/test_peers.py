"""Every peer through one test: its draws have the right moments, and its gradients are those the
log density saw.
"""

import importlib.metadata
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import AbstractLogDensity, PerChain, diagnostics
from capriole.sampling import _counted as _peers_base
from capriole_lab.baselines import PEERS, run_peer

CHAINS, DRAWS, WARMUP = 16, 500, 200
SLOW = {"flowmc"}  # compiles and trains for most of a minute


def members(slow):
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in PEERS]


FAMILIES = members(SLOW | {"nuts-dense"})  # the code of nuts-dense is that of nuts
BIASED = {"mclmc"}  # unadjusted: its moments carry the integrator's error
MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[1.0, 1.2], [1.2, 4.0]])


class Correlated(AbstractLogDensity):
    """Gaussian with correlation 0.6 and unequal scales, away from the origin."""

    mean: jnp.ndarray
    precision: jnp.ndarray

    def __init__(self, dtype):
        self.mean = jnp.asarray(MEAN, dtype)
        self.precision = jnp.asarray(np.linalg.inv(COVARIANCE), dtype)

    def __call__(self, position):
        centred = position - (self.mean if position.ndim == 1 else self.mean[:, None])
        return -jnp.sum(centred * (self.precision @ centred), axis=0) / 2


def starts(dtype, chains=CHAINS):
    noise = np.random.default_rng(0).normal(size=(2, chains))
    return jnp.asarray(MEAN[:, None] + np.linalg.cholesky(COVARIANCE) @ noise, dtype)


def run(name, *, dtype=np.float64, draws=DRAWS, chains=CHAINS, density=None, seed=1, warmup=WARMUP):
    if importlib.util.find_spec(PEERS[name].package) is None:
        pytest.skip(f"{PEERS[name].package} is not installed (extra 'peers')")
    density = density or Correlated(dtype)
    warmup = 40 if name in SLOW else warmup
    return run_peer(
        name,
        jax.random.key(seed),
        density,
        starts(dtype, chains),
        num_draws=draws,
        num_warmup=warmup,
    )


@pytest.mark.parametrize("name", members(SLOW))
def test_draws_and_costs(name, capfd):
    before = dict(jax.config.values)
    draws = run(name)
    assert dict(jax.config.values) == before
    assert capfd.readouterr() == ("", "")
    assert draws.position.shape == (CHAINS, DRAWS, 2)
    assert draws.position.dtype == np.float64
    means, squares = diagnostics.z_scores(draws.position, MEAN, np.diag(COVARIANCE))
    if name not in BIASED:
        assert np.abs([means, squares]).max() < 5
    assert np.abs(draws.position.mean(axis=(0, 1)) - MEAN).max() < 0.3
    assert np.abs(np.cov(draws.position.reshape(-1, 2).T) / COVARIANCE - 1).max() < 0.3
    assert draws.divergences == 0
    assert json.loads(json.dumps(draws.settings)) == draws.settings
    package, _, version = draws.settings["library"].partition(" ")
    assert (package, version) == (PEERS[name].package, importlib.metadata.version(package))
    assert min(draws.seconds, draws.warmup_seconds, draws.compile_seconds) > 0
    assert draws.settings["gradients_per_draw"] == draws.num_gradients / (CHAINS * DRAWS)
    assert np.isnan(draws.acceptance_rate) if name in BIASED else 0.3 < draws.acceptance_rate <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_and_determinism(name):
    first = run(name, dtype=np.float32, draws=20)
    again = run(name, dtype=np.float32, draws=20)
    assert first.position.dtype == np.float32
    assert np.isfinite(first.position).all()
    np.testing.assert_array_equal(first.position, again.position)
    assert (first.num_gradients, first.warmup_gradients) == (
        again.num_gradients,
        again.warmup_gradients,
    )
    chains = first.position.reshape(CHAINS, -1)
    assert len(np.unique(chains, axis=0)) == CHAINS


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_another_key_gives_other_draws(name):
    assert not np.array_equal(run(name, draws=20).position, run(name, draws=20, seed=2).position)


def counting(density):
    """The density, and a list that grows by one with every gradient that is computed."""
    calls = []

    @jax.custom_vjp
    def function(position):
        return density(position)

    def forward(position):
        return density(position), position

    def backward(position, weight):
        jax.debug.callback(lambda _: calls.append(1), position[0])
        return (weight * jax.grad(density)(position),)

    function.defvjp(forward, backward)
    return PerChain(function), calls


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_those_the_log_density_saw(name):
    """One chain, so that no chain waits for another: the callback then counts exactly the gradients
    that were used.
    """
    density, calls = counting(Correlated(np.float64))
    draws = run(name, density=density, chains=1, draws=30)
    jax.effects_barrier()
    assert len(calls) == draws.num_gradients + draws.warmup_gradients + 1  # one to check the start


@pytest.mark.slow
def test_nuts_chains_do_the_same_side_by_side_and_one_after_another(monkeypatch):
    alone = run("nuts", chains=3, draws=10, warmup=20)
    monkeypatch.setattr(_peers_base, "MANY_OPERATIONS", 0)
    together = run("nuts", chains=3, draws=10, warmup=20)
    assert (alone.settings["vectorised"], together.settings["vectorised"]) == (False, True)
    assert (alone.num_gradients, alone.warmup_gradients) == (
        together.num_gradients,
        together.warmup_gradients,
    )
    np.testing.assert_allclose(
        alone.position, together.position, rtol=1e-9
    )  # conditioning of 30 trajectories


def refused(match, error=ValueError, name="nuts", density=None, positions=None, **numbers):
    positions = starts(np.float64, 3) if positions is None else positions
    with pytest.raises(error, match=match):
        run_peer(
            name,
            jax.random.key(0),
            density or Correlated(np.float64),
            positions,
            **{"num_draws": 1, "num_warmup": 20, **numbers},
        )


def test_unknown_names_and_small_numbers_are_refused():
    refused(
        "unknown peer 'nut'; did you mean 'nuts'.*known are nuts, nuts-dense, chees", name="nut"
    )
    refused("num_draws >= 1 and num_warmup >= 20, got 0 and 20", num_draws=0)
    refused("got 1 and 19", num_warmup=19)
    refused("draw_from is for flowmc", draw_from=jnp.zeros((3, 3)))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "nutpie" else find(name)
    )
    refused(
        r"peer 'nutpie' needs nutpie: pip install 'capriole\[peers\]'",
        error=ImportError,
        name="nutpie",
    )


def test_starts_that_cannot_be_started_from_are_refused():
    refused(r"shape \(dim, chains\), got \(2,\)", positions=jnp.zeros(2))
    refused("float32 or float64, got int64", positions=jnp.zeros((2, 3), int))
    refused(
        "log density is float64 at float32 starts",
        density=Correlated(np.float64),
        positions=starts(np.float32),
    )
    refused(
        "chain 1 starts where the log density is nan",
        positions=starts(np.float64).at[0, 1].set(np.nan),
    )
    refused(
        "MCLMC needs at least 2 dimensions, got 1",
        name="mclmc",
        density=Line(),
        positions=jnp.ones((1, 3)),
    )


class Line(AbstractLogDensity):
    """One-dimensional Gaussian."""

    def __call__(self, position):
        return -jnp.sum(position**2, axis=0) / 2
