"""NUTS in float32 far out, where momenta overflow: it never goes where there is no mass."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc import metrics

from capriole import PerChain
from capriole.sampling import _nuts, run_nuts
from densities import Gaussian

pytestmark = pytest.mark.usefixtures("standard_promotion")

EXAMPLE = Path(__file__).parents[2] / "examples" / "regression.py"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-np.inf, np.inf), (np.nan, np.inf), (-1e30, np.inf), (np.inf, np.inf), (-0.1, -0.1), (3, 3)],
)
def test_a_kinetic_energy_overflows_upwards_only(monkeypatch, value, expected):
    """Only rounding makes a kinetic energy negative, and by little; that stays as it is."""
    plain = metrics.gaussian_euclidean(jnp.eye(2))
    overflowing = plain._replace(kinetic_energy=lambda momentum, position: jnp.asarray(value * 1.0))
    monkeypatch.setattr(metrics, "default_metric", lambda metric: overflowing)
    found = _nuts._without_overflow(jnp.eye(2)).kinetic_energy(jnp.ones(2))
    assert float(found) == expected


@pytest.mark.parametrize("dense", [True, False])
def test_an_energy_of_minus_infinity_is_never_accepted(monkeypatch, dense):
    """As if every momentum overflowed: nothing moves, where unguarded all would."""
    real = metrics.default_metric

    def overflowing(metric):
        if isinstance(metric, metrics.Metric):  # made safe before
            return metric
        known = real(metric)

        def kinetic_energy(momentum, position=None):
            value = known.kinetic_energy(momentum, position)
            return jnp.where(value > 50, -jnp.inf, value)

        return known._replace(kinetic_energy=kinetic_energy)

    monkeypatch.setattr(metrics, "default_metric", overflowing)
    starts = jnp.zeros((2, 4))
    draws = run_nuts(
        jax.random.key(0), Gaussian(jnp.ones(2)), starts, num_draws=200, num_warmup=100, dense=dense
    )
    assert np.abs(draws.position).max() < 8, "50 nats up are ten deviations out"
    assert min(draws.settings["step_size"]) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_step_size_of_float32_collapses(seed):
    """The README's regression, where one of 250 chains had a step size of 3e-4."""
    noise = np.random.default_rng(0).normal(size=(3, 256)) * [[0.03], [0.02], [0.15]]
    with jax.enable_x64(False):
        spec = importlib.util.spec_from_file_location("regression", EXAMPLE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        starts = jnp.asarray(np.array([[1.5], [-0.3], [-2.5]]) + noise, jnp.float32)
        target, key = PerChain(module.logdensity), jax.random.key(seed)
        draws = run_nuts(key, target, starts, num_draws=10, dense=True)
    assert min(draws.settings["step_size"]) > 0.3
