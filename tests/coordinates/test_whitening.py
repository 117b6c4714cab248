"""Whitening: an exact affine map, estimated well and robustly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import PerChain
from capriole.coordinates import (
    Whitened,
    Whitening,
    estimate_whitening,
    fisher_whitening,
    from_user,
    identity,
    to_user,
)
from capriole.kernels import Transition, hmc
from capriole.sampling import draw_chains
from densities import Correlated


def some(dim, rank, seed=0):
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:, :rank]
    parts = (
        rng.normal(size=dim),
        np.exp(rng.normal(size=dim)),
        directions,
        np.exp(rng.normal(size=rank)),
    )
    return Whitening(*(jnp.asarray(part) for part in parts))


@pytest.mark.parametrize("rank", [0, 2, 5])
def test_forward_and_inverse_undo_each_other(rank):
    whitening = some(5, rank)
    z = jnp.asarray(np.random.default_rng(1).normal(size=(5, 7)))
    np.testing.assert_allclose(whitening.inverse(whitening.forward(z)), z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(whitening.forward(z[:, 0]), whitening.forward(z)[:, 0], rtol=1e-12)


def test_coordinates_of_user_and_kernel():
    target = Whitened(PerChain(lambda x: -jnp.sum(x**2)), some(4, 2))
    z = jnp.ones((4, 3))
    np.testing.assert_allclose(from_user(target, to_user(target, z)), z, atol=1e-12)
    np.testing.assert_allclose(target(z), -jnp.sum(to_user(target, z) ** 2, axis=0), rtol=1e-12)
    assert to_user(target.logdensity, z) is z


def test_gradients_transform_against_positions():
    whitening = some(4, 2)
    density = PerChain(lambda x: -jnp.sum(jnp.cosh(x)))
    z = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    x = whitening.forward(z)
    force = jax.grad(lambda z: jnp.sum(density(whitening.forward(z))))(z)
    np.testing.assert_allclose(whitening.gradient(force), -np.sinh(x), rtol=1e-10)
    np.testing.assert_allclose(whitening.force(whitening.gradient(force)), force, rtol=1e-10)


@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_gradients_make_a_gaussian_white_from_few_and_biased_draws(condition):
    """Exact from 20 draws of another distribution; the draws alone would be off by a factor."""
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    covariance = basis * np.geomspace(1, condition, 6) @ basis.T
    mean = rng.normal(size=(6, 1))
    draws = mean + 3 + np.linalg.cholesky(covariance) @ rng.exponential(size=(6, 20))
    whitening = fisher_whitening(draws, -np.linalg.solve(covariance, draws - mean))
    linear = np.asarray(whitening.forward(jnp.eye(6)) - whitening.location[:, None])
    np.testing.assert_allclose(linear @ linear.T, covariance, atol=1e-6 * condition)
    white = np.asarray(
        whitening.inverse(mean + np.linalg.cholesky(covariance)) - whitening.inverse(mean)
    )
    np.testing.assert_allclose(white @ white.T, np.eye(6), atol=1e-4)
    np.testing.assert_allclose(whitening.inverse(mean), 0, atol=1e-4)
    with pytest.raises(
        ValueError, match="need at least 12 finite draws and gradients in 6 dimensions, got 11"
    ):
        fisher_whitening(draws[:, :11], draws[:, :11])


def test_draws_that_count_for_none_give_scales_alone():
    draws = np.random.default_rng(6).normal(size=(3, 40))
    assert estimate_whitening(draws, num_independent=0.0).stretches.size == 0


@pytest.mark.parametrize("condition", [1e2, 1e10])
def test_the_estimate_makes_draws_white(condition):
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    covariance = basis * np.geomspace(1, condition, 6) @ basis.T
    draws = np.linalg.cholesky(covariance) @ rng.normal(size=(6, 50_000)) + 3
    z = np.asarray(estimate_whitening(draws).inverse(jnp.asarray(draws)))
    eigenvalues = np.linalg.eigvalsh(np.cov(z))
    assert 0.95 < eigenvalues[0] <= eigenvalues[-1] < 1.05
    assert np.abs(z.mean(axis=1)).max() < 0.01


def test_few_draws_give_a_diagonal_map_and_many_a_dense_one():
    rng = np.random.default_rng(3)
    few = estimate_whitening(rng.normal(size=(40, 60)))
    assert (
        np.sum(np.asarray(few.stretches) != 1) <= 3
    )  # noise alone stays inside Marchenko and Pastur's range
    mixed = np.eye(40) + 0.5
    many = estimate_whitening(mixed @ rng.normal(size=(40, 20_000)))
    assert many.stretches.size > 20


def test_outliers_do_not_move_it():
    rng = np.random.default_rng(4)
    draws = rng.normal(size=(2, 10_000))
    draws[0, :20] = 1e8
    scale = np.asarray(estimate_whitening(draws).scale)
    assert 0.9 < scale[0] < 1.2


def test_draws_that_are_no_use_are_refused():
    with pytest.raises(ValueError, match="at least 4 finite draws"):
        estimate_whitening(np.full((2, 10), np.nan))
    with pytest.raises(ValueError, match="got 3 in 2"):
        estimate_whitening(np.ones((2, 3)))


def test_whitened_draws_are_draws_of_the_target():
    target = Correlated.of()
    white = Whitened(
        target, estimate_whitening(np.asarray(target.sample(jax.random.key(0), 10_000)))
    )
    kernel = Transition(white, hmc(white, step_size=0.5, num_leapfrogs=3).dynamics)
    start = white.whitening.inverse(target.sample(jax.random.key(3), 4000))
    draws = draw_chains(jax.random.key(4), kernel, kernel.init(start), num_draws=5)
    x = np.asarray(white.whitening.forward(jnp.asarray(draws.record.position[:, -1].T)))
    assert draws.record.acceptance_rate.mean() > 0.8
    factor = np.asarray(target.factor)
    np.testing.assert_allclose(np.cov(x), factor @ factor.T, rtol=0.1)


def test_identity_changes_nothing():
    z = jnp.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(identity(3, z.dtype).forward(z), z)
