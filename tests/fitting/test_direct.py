"""Few effective draws by the direct way: a short warm-up, one rotation, and when that is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.adaptation import explore_briefly
from capriole.coordinates import on_host
from capriole.fitting import NoteKind
from capriole.kernels import Rotation, Transition
from densities import Banana, Funnel, Gaussian

pytestmark = pytest.mark.usefixtures("standard_promotion")

SCALES = np.array([1e-2, 1.0, 30.0])


def correlated(x):
    """N(0, S) with standard deviations from 0.01 to 30 and a correlation of 0.99."""
    y = x / SCALES
    return -(y[0] ** 2 + (y[1] - 0.99 * y[0]) ** 2 / (1 - 0.99**2) + y[2] ** 2) / 2


def total(found):
    """All gradients of a fit, from its own account."""
    parts = found.verdict.settings
    spent = sum(parts[name]["num_gradients"] for name in ("preparation", "final_warmup"))
    return spent + found.tree["posterior"].attrs["num_gradients"]


@pytest.fixture(scope="module")
def simple():
    return capriole.fit(correlated, jnp.zeros(3), num_effective=400, seed=1)


def test_effective_draws_are_had_for_few_gradients(simple):
    assert not simple.verdict.failed
    assert simple.verdict.effective_draws >= 400
    assert total(simple) < 25_000, "the whole search takes over 300,000 before its first draw"
    assert simple.verdict.nuts is None


def test_draws_of_the_direct_way_are_right(simple):
    draws = simple.tree.posterior["x"].values.reshape(-1, 3)
    expected = np.array([1.0, 1.0, 1.0]) * SCALES
    np.testing.assert_allclose(draws.std(axis=0), expected, rtol=0.15)
    assert np.all(np.abs(draws.mean(axis=0)) < 0.2 * expected)


def test_the_kernel_is_an_exact_rotation_in_white_coordinates(simple):
    assert isinstance(simple.transition, Transition)
    assert isinstance(simple.transition.dynamics, Rotation)
    again = capriole.sample(simple.transition, jnp.zeros(3), num_draws=50, num_warmup=20)
    assert again.posterior["x"].shape == (4, 50, 3)


@pytest.mark.parametrize("density", [Gaussian(jnp.array([1e-3, 1.0, 1e3])), correlated])
def test_the_short_warm_up_finds_white_coordinates(density):
    flat = density if isinstance(density, Gaussian) else jax.vmap(density, -1, -1)

    class Lifted(capriole.AbstractLogDensity):
        def __call__(self, position):
            return density(position) if position.ndim == 1 else flat(position)

    start = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16)))
    warmup = explore_briefly(jax.random.key(0), Lifted(), start)
    host = on_host(warmup.whitening)
    columns = host.forward(np.eye(3)) - host.location[:, None]
    curvature = -np.asarray(jax.hessian(density)(jnp.zeros(3)))
    np.testing.assert_allclose(columns.T @ curvature @ columns, np.eye(3), atol=0.05)
    assert warmup.num_gradients < 30_000


@pytest.mark.slow
@pytest.mark.parametrize("density", [Funnel(3.0), Banana(3.0, 1.0)])
def test_a_curved_density_gets_the_whole_search(density):
    found = capriole.fit(density, jnp.zeros(2), num_effective=200, train_steps=0)
    notes = [note.kind for note in found.verdict.notes]
    assert NoteKind.NOT_DIRECT in notes
    assert found.verdict.effective_draws is None or found.verdict.effective_draws >= 200


def test_both_askings_at_once_are_refused():
    with pytest.raises(ValueError, match="num_effective=100 and num_draws=50"):
        capriole.fit(correlated, jnp.zeros(3), num_effective=100, num_draws=50)


@pytest.mark.parametrize("asked", [0, 9, 2.5])
def test_a_number_of_effective_draws_that_cannot_be_is_refused(asked):
    with pytest.raises(ValueError, match="num_effective"):
        capriole.fit(correlated, jnp.zeros(3), num_effective=asked)
