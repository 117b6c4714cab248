"""The warm-up: white coordinates from poor starts, chains that disagree, modes rarely met."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import PerChain
from capriole.adaptation import _warmup, explore, start_state, whiten_by_gradients
from capriole.adaptation._thresholds import WARMUP
from capriole.adaptation._warmup import Window, _explored_ends, _without_the_lost, change
from capriole.coordinates import (
    Whitened,
    Whitening,
    fisher_whitening,
)
from capriole.kernels import hmc
from densities import Correlated, Mixture2


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


def test_a_state_made_on_the_host_is_the_kernels_own():
    density = PerChain(lambda x: -jnp.sum(jnp.cosh(x)))
    kernel = hmc(Whitened(density, some(4, 2)), step_size=0.1, num_leapfrogs=1)
    z = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))
    for made, own in zip(start_state(kernel, z), kernel.init(z), strict=True):
        assert made.dtype == own.dtype
        np.testing.assert_allclose(made, own, rtol=1e-10)
    plain = hmc(density, step_size=0.1, num_leapfrogs=1)
    np.testing.assert_array_equal(start_state(plain, z).logdensity, plain.init(z).logdensity)


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
    assert whiten_by_gradients(target, draws[:1], jnp.ones((1, 8)))[0] is None


def test_change_is_one_for_the_same_map_and_the_ratio_of_scales_else():
    a = some(3, 3)
    assert change(a, a) == pytest.approx(1, abs=1e-9)
    wider = Whitening(a.location, 7 * a.scale, a.directions, a.stretches)
    assert change(a, wider) == pytest.approx(7)
    assert change(wider, a) == pytest.approx(7)


def test_the_pilot_whitens_a_badly_conditioned_target_from_starts_of_unit_size():
    target = Correlated.of()  # condition number 1e4
    found = explore(jax.random.key(0), target, target.start(jax.random.key(1), 64))
    z = np.asarray(found.whitening.inverse(target.sample(jax.random.key(2), 20_000)))
    eigenvalues = np.linalg.eigvalsh(np.cov(z))
    assert found.rhat_max < WARMUP.mixed_rhat
    assert 0.7 < eigenvalues[0] <= eigenvalues[-1] < 1.4
    assert found.draws.shape == (64, 100, 2)


def test_the_pilot_tells_that_chains_disagree():
    target = Mixture2(centre=5.0, wide=0.5**0.5, narrow=0.5**0.5)
    starts = 5.7 * jax.random.normal(jax.random.key(1), (2, 32))
    found = explore(jax.random.key(0), target, starts, max_windows=2)
    assert found.rhat_max > WARMUP.mixed_rhat
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
    assert found.num_negligible == lost
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


@pytest.mark.parametrize(("density", "lost"), [(-3.0, 1), (3.0, 0)])
def test_under_a_bell_a_frozen_chain_far_out_is_lost_unless_it_is_dense_there(density, lost):
    rng = np.random.default_rng(7)
    draws = rng.normal(size=(3, 100, 16))
    draws[:, :, 5] = 9.0
    lp = rng.normal(size=(100, 16)) / 10
    lp[:, 5] = density
    window = Window(draws, lp, draws[:, -1], 0.3, 0.8, 1)
    assert _without_the_lost(window, gaussianized=False)[1] == 0
    kept, num = _without_the_lost(window, gaussianized=True)
    assert num == lost
    assert (kept.last[:, 5] == 9).all() == (not lost)


def test_scouts_stay_in_a_narrow_mode(monkeypatch):
    """mog-asym's, 30 times narrower than the starts. Steps that suit the wide mode left 3 of 569
    scouts in it.
    """
    target, ends = Mixture2(centre=5.0, wide=3**0.5, narrow=0.05**0.5), []

    def watched(*arguments):
        ends.append(_explored_ends(*arguments)[0])
        return ends[-1], 0

    monkeypatch.setattr(_warmup, "_explored_ends", watched)
    for seed in range(3):
        starts = 6.73 * jax.random.normal(jax.random.key(seed), (256, 2)).T
        _warmup.explore(jax.random.key(seed + 9), target, starts, max_windows=1)
    distance = np.linalg.norm(np.concatenate(ends, axis=1) - np.array([[5.0], [0.0]]), axis=0)
    assert np.sum(distance < 1) >= 10
