"""Whitening: an exact affine map, estimated well and robustly, and a pilot that finds it from poor
starts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import PerChain
from capriole.adaptation import _warmup as _explore
from capriole.adaptation import by_gradients, explore, start_state
from capriole.adaptation._warmup import MIXED, _scouted, change
from capriole.coordinates import (
    Whitened,
    Whitening,
    estimate_whitening,
    fisher_whitening,
    from_user,
    identity,
    to_user,
)
from capriole.diagnostics import APART, Met, farthest, left_behind
from capriole.fitting import judge
from capriole.kernels import Transition, hmc
from capriole.sampling import draw_chains
from capriole_lab.targets import make_target


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


def test_a_state_made_on_the_host_is_the_kernels_own():
    density = PerChain(lambda x: -jnp.sum(jnp.cosh(x)))
    kernel = hmc(Whitened(density, some(4, 2)), step_size=0.1, num_leapfrogs=1)
    z = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    for made, own in zip(start_state(kernel, z), kernel.init(z), strict=True):
        assert made.dtype == own.dtype
        np.testing.assert_allclose(made, own, rtol=1e-10)
    plain = hmc(density, step_size=0.1, num_leapfrogs=1)
    np.testing.assert_array_equal(start_state(plain, z).logdensity, plain.init(z).logdensity)


@pytest.mark.parametrize("condition", [1e2, 1e8])
def test_gradients_make_a_gaussian_white_from_few_and_biased_draws(condition):
    """Exact from 20 draws of another distribution, where the draws alone would be off by a factor."""
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


def test_gradients_that_do_not_vary_give_no_whitening():
    """Exponential tails: the second coordinate's gradient is -0.3 everywhere, but for rounding of
    its mean.
    """
    draws = np.random.default_rng(5).exponential(size=(2, 1000))
    grads = np.stack([-draws[0], np.full(1000, -0.3)])
    with pytest.raises(
        ValueError, match=r"do not vary in coordinates \[1\]; whiten by the draws alone"
    ):
        fisher_whitening(draws, grads)
    target = PerChain(lambda x: jnp.where(x[0] > 0, -x[0], -jnp.inf))
    assert by_gradients(target, draws[:1], jnp.ones((1, 8)))[0] is None


def test_draws_that_count_for_none_give_scales_alone():
    draws = np.random.default_rng(6).normal(size=(3, 40))
    assert estimate_whitening(draws, num_independent=0.0).stretches.size == 0


def test_one_chain_of_many_in_another_mode_is_noticed():
    draws = np.random.default_rng(0).normal(size=(64, 100, 2))
    assert farthest(draws)[0] < 1
    draws[5, :, 1] += 10
    apart, frozen = farthest(draws)
    assert apart > APART
    assert frozen == 0


def test_a_frozen_chain_is_counted_and_sits_nowhere():
    draws = np.random.default_rng(0).normal(size=(64, 100, 2))
    draws[5] = draws[5, :1] + 1.0
    apart, frozen = farthest(draws)
    assert apart < 1
    assert frozen == 1


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


def test_change_is_one_for_the_same_map_and_the_ratio_of_scales_else():
    a = some(3, 3)
    assert change(a, a) == pytest.approx(1, abs=1e-9)
    wider = Whitening(a.location, 7 * a.scale, a.directions, a.stretches)
    assert change(a, wider) == pytest.approx(7)
    assert change(wider, a) == pytest.approx(7)


def test_the_pilot_whitens_a_badly_conditioned_target_from_starts_of_unit_size():
    target = make_target("scg")  # condition number 1e4
    found = explore(jax.random.key(0), target, target.start(jax.random.key(1), 64))
    z = np.asarray(found.whitening.inverse(target.sample(jax.random.key(2), 20_000)))
    eigenvalues = np.linalg.eigvalsh(np.cov(z))
    assert found.rhat_max < MIXED
    assert 0.7 < eigenvalues[0] <= eigenvalues[-1] < 1.4
    assert found.draws.shape == (64, 100, 2)


def test_the_pilot_tells_that_chains_disagree():
    target = make_target("mog2")
    found = explore(jax.random.key(0), target, target.start(jax.random.key(1), 32), max_windows=2)
    assert found.rhat_max > MIXED
    assert found.num_windows == 2


def two_places(depth):
    """Log density of a Gaussian at 0 and one at 20 with ``exp(-depth)`` of its mass, in two
    dimensions.
    """

    def logdensity(x):
        return jnp.logaddexp(-jnp.sum(x**2) / 2, -jnp.sum((x - 20) ** 2) / 2 - depth)

    return PerChain(logdensity)


@pytest.mark.parametrize(("depth", "lost"), [(100.0, 4), (5.0, 0)])
def test_chains_in_a_place_without_mass_are_taken_out_and_others_are_not(depth, lost):
    near = jax.random.normal(jax.random.key(1), (2, 28))
    starts = jnp.concatenate([near, 20 + near[:, :4]], axis=1)
    found = explore(jax.random.key(0), two_places(depth), starts, max_windows=4)
    assert found.num_lost == lost
    assert found.agreed == (lost > 0)


def test_scouts_bring_a_mode_that_the_first_chains_do_not_meet():
    near = jax.random.normal(jax.random.key(1), (2, 32))
    scouts = jnp.concatenate([near[:, :30], 20 + near[:, 30:]], axis=1)
    alone = explore(jax.random.key(0), two_places(1.0), near, max_windows=3)
    helped = explore(
        jax.random.key(0),
        two_places(1.0),
        jnp.concatenate([near, scouts], axis=1),
        num_chains=32,
        max_windows=3,
    )
    assert alone.agreed
    assert not np.any(np.asarray(alone.position)[0] > 10)
    assert not helped.agreed
    assert np.any(np.asarray(helped.position)[0] > 10)
    assert helped.position.shape == (2, 32)
    assert helped.num_gradients > alone.num_gradients


def test_scouts_stay_in_a_narrow_mode(monkeypatch):
    """mog-asym's, 30 times narrower than the starts. Steps that suit the wide mode left 3 of 569
    scouts in it.
    """
    target, ends = make_target("mog-asym"), []

    def watched(*arguments):
        ends.append(_scouted(*arguments)[0])
        return ends[-1], 0

    monkeypatch.setattr(_explore, "_scouted", watched)
    for seed in range(3):
        starts = target.start(jax.random.key(seed), 256)
        _explore.explore(jax.random.key(seed + 9), target, starts, max_windows=1)
    distance = np.linalg.norm(
        np.concatenate(ends, axis=1) - np.asarray(target.means[1])[:, None], axis=0
    )
    assert np.sum(distance < 1) >= 10


def test_a_place_denser_than_a_gaussians_mode_is_noticed():
    draws = -np.random.default_rng(0).chisquare(5, size=(100, 64)) / 2
    met = Met(np.arange(4.0)[None], np.array([-30.0, -1.0, 0.0, 3.5]))
    assert left_behind(met, draws).tolist() == [[3.0]]
    assert left_behind(met, np.full((2, 2), -np.inf)).size == 0


def test_the_judge_measures_in_the_users_coordinates():
    target = make_target("scg")
    white = Whitened(
        target, estimate_whitening(np.asarray(target.sample(jax.random.key(0), 10_000)))
    )
    kernel = hmc(white, step_size=0.5, num_leapfrogs=3)
    found = judge(
        jax.random.key(1), kernel, white.whitening.inverse(target.sample(jax.random.key(2), 32))
    )
    assert 0.05 < found.worst < 1
    assert found.worst == min(found.ess_per_gradient, found.ess_sq_per_gradient)
    assert found.num_gradients == 32 * 500 * 3
    assert found.rhat_max < 1.05


def test_whitened_draws_are_draws_of_the_target():
    target = make_target("scg")
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
