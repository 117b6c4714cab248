"""Every peer through one test: its draws have the right moments, and its gradients are those the log density saw."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import AbstractLogDensity, PerChain, diagnostics
from capriole.baselines import PEERS, run_peer

CHAINS, DRAWS, WARMUP = 16, 500, 200
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


def peer(name):
    if importlib.util.find_spec(PEERS[name].package) is None:
        pytest.skip(f"{PEERS[name].package} is not installed (extra 'peers')")
    return name


def run(name, *, dtype=np.float64, draws=DRAWS, chains=CHAINS, density=None, seed=1):
    density = density or Correlated(dtype)
    return run_peer(
        peer(name), jax.random.key(seed), density, starts(dtype, chains), num_draws=draws, num_warmup=WARMUP
    )


@pytest.mark.parametrize("name", PEERS)
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
    assert min(draws.seconds, draws.warmup_seconds, draws.compile_seconds) > 0
    assert draws.settings["gradients_per_draw"] == draws.num_gradients / (CHAINS * DRAWS)
    assert np.isnan(draws.acceptance_rate) or 0.3 < draws.acceptance_rate <= 1


@pytest.mark.parametrize("name", PEERS)
def test_float32_and_keys(name):
    first = run(name, dtype=np.float32, draws=20)
    again = run(name, dtype=np.float32, draws=20)
    other = run(name, dtype=np.float32, draws=20, seed=2)
    assert first.position.dtype == np.float32
    assert np.isfinite(first.position).all()
    np.testing.assert_array_equal(first.position, again.position)
    assert (first.num_gradients, first.warmup_gradients) == (again.num_gradients, again.warmup_gradients)
    assert not np.array_equal(first.position, other.position)
    chains = first.position.reshape(CHAINS, -1)
    assert len(np.unique(chains, axis=0)) == CHAINS


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


@pytest.mark.parametrize("name", PEERS)
def test_gradients_are_those_the_log_density_saw(name):
    """One chain, so that no chain waits for another: the callback then counts exactly the gradients that were used."""
    density, calls = counting(Correlated(np.float64))
    draws = run(name, density=density, chains=1, draws=30)
    jax.effects_barrier()
    assert len(calls) == draws.num_gradients + draws.warmup_gradients + 1  # one to check the start
