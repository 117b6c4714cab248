"""Rotations, surrogate forces, squashed networks, and kernels built around others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import PerChain
from capriole.kernels import (
    CrankNicolson,
    Jittered,
    Leapfrog,
    Mixture,
    Phase,
    Repeated,
    Rotation,
    Squashed,
    Transition,
    hmc,
    learned_leapfrog,
    rotation_step_sizes,
    surrogate_force,
)
from capriole.sampling import draw_chains
from densities import Correlated, Rough

GAUSSIAN = PerChain(lambda x: -jnp.sum(x**2) / 2)


def phase(dim=3, chains=5):
    x, v = jax.random.normal(jax.random.key(0), (2, dim, chains))
    return Phase(x, v, GAUSSIAN(x), -x)


@pytest.mark.parametrize("num_leapfrogs", [1, 2, 5])
def test_a_right_angle_turns_momentum_into_position(num_leapfrogs):
    start = phase()
    for dynamics in (
        Rotation(jnp.asarray(np.pi / 2), num_leapfrogs),
        CrankNicolson(jnp.asarray(np.pi / 2)),
    ):
        end, log_det = dynamics(GAUSSIAN, start, jnp.ones(5, bool))
        np.testing.assert_allclose(end.position, start.momentum, atol=1e-12)
        np.testing.assert_allclose(end.momentum, -start.position, atol=1e-12)
        np.testing.assert_array_equal(log_det, 0)


def test_a_length_may_be_data_and_gives_the_same():
    fixed, data = (
        Rotation(jnp.asarray(1.1), m)(GAUSSIAN, phase(), jnp.ones(5, bool))[0]
        for m in (3, jnp.asarray(3))
    )
    np.testing.assert_allclose(fixed.position, data.position, rtol=1e-14)


def test_an_untrained_learned_leapfrog_with_two_sizes_is_the_rotation():
    made = learned_leapfrog(
        jax.random.key(1), dim=3, num_leapfrogs=2, step_size=rotation_step_sizes(1.3, 2)
    )
    silent = jax.tree.map(lambda leaf: leaf, made)
    for name in ("momentum_network", "position_network"):
        silent = eqx.tree_at(
            lambda d, n=name: getattr(d, n).heads, silent, replace_fn=jnp.zeros_like
        )
    forward = jnp.array([True, False, True, False, True])
    ours, theirs = (
        d(GAUSSIAN, phase(), forward)[0] for d in (silent, Rotation(jnp.asarray(1.3), 2))
    )
    np.testing.assert_allclose(ours.position, theirs.position, atol=1e-12)
    np.testing.assert_allclose(ours.momentum, theirs.momentum, atol=1e-12)


def test_a_surrogate_force_needs_a_network_that_can_hold_it():
    narrow = learned_leapfrog(jax.random.key(0), dim=6, width=10)
    with pytest.raises(ValueError, match="width at least 12"):
        surrogate_force(narrow, mean=jnp.zeros(6), variance=jnp.ones(6))
    squashed = learned_leapfrog(jax.random.key(0), dim=2, squashed=True)
    assert isinstance(squashed.momentum_network, Squashed)
    with pytest.raises(ValueError, match="needs an MLP"):
        surrogate_force(squashed, mean=jnp.zeros(2), variance=jnp.ones(2))


def test_squashed_networks_are_not_moved_by_what_is_far_out():
    made = learned_leapfrog(jax.random.key(0), dim=2, squashed=True)
    far = jnp.array([1e6, -1e6])
    out = made.momentum_network(far, far, jnp.zeros(2))
    inner = made.momentum_network.network(jnp.arcsinh(far), jnp.arcsinh(far), jnp.zeros(2))
    np.testing.assert_array_equal(out.shift, inner.shift)
    assert np.abs(out.shift).max() < 10


def test_repeated_steps_are_steps_and_their_gradients_add_up():
    kernel = hmc(GAUSSIAN, step_size=0.3, num_leapfrogs=2)
    state = kernel.init(jnp.ones((3, 4)))
    new, info = Repeated(kernel, 3).move(jax.random.key(5), state)
    by_hand, infos = state, []
    for key in jax.random.split(jax.random.key(5), 3):
        by_hand, one = kernel.move(key, by_hand)
        infos.append(one)
    np.testing.assert_array_equal(new.position, by_hand.position)
    np.testing.assert_array_equal(info.num_gradients, 6)
    np.testing.assert_allclose(
        info.acceptance_rate, np.mean([one.acceptance_rate for one in infos], axis=0)
    )
    np.testing.assert_array_equal(
        info.is_accepted, np.any([one.is_accepted for one in infos], axis=0)
    )
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        Repeated(kernel, 0)


def test_factors_of_the_step_size_cover_their_range_evenly_in_log():
    kernel = Jittered(Transition(GAUSSIAN, Leapfrog(jnp.asarray(0.1), 1)), 0.01, 1.0)
    state = kernel.init(jnp.zeros((1, 20_000)))
    _, info = kernel.move(jax.random.key(6), state)
    # From the origin of a nearly flat start, x' = eps v: the spread of log |x'| - log |v| is the
    # factor's.
    propose_key = jax.random.split(jax.random.split(jax.random.key(6))[1])[0]
    momentum = jax.random.normal(propose_key, (20_000, 2)).T[:1]
    sign = jnp.where(info.forward, 1, -1)
    factor = np.asarray(info.proposal.position / momentum * sign)[0] / 0.1
    assert 0.0099 < factor.min() < 0.011
    assert 0.9 < factor.max() < 1.001
    assert abs(np.mean(np.log10(factor)) + 1) < 0.02
    with pytest.raises(ValueError, match=r"0 < low < high, got 2\.0 and 1\.0"):
        Jittered(kernel.transition, 2.0, 1.0)


def test_a_mixture_may_hold_jittered_and_learned_parts():
    target = Correlated.of()
    parts = (
        Transition(target, learned_leapfrog(jax.random.key(0), dim=2)),
        hmc(target, step_size=0.1, num_leapfrogs=3),
    )
    kernel = Mixture((parts[0], Jittered(parts[1], 0.1, 2.0)), (0.8, 0.2))
    draws = draw_chains(
        jax.random.key(1), kernel, kernel.init(target.sample(jax.random.key(2), 8)), num_draws=30
    )
    assert set(np.unique(draws.record.n_steps)) == {3, 10}


def test_a_surrogate_force_replaces_a_gradient_that_is_noise():
    target = Rough()
    mean, variance = jnp.array([0.2, -0.1]), jnp.array([1.0, 1.5])
    made = learned_leapfrog(
        jax.random.key(2), dim=2, num_leapfrogs=1, step_size=rotation_step_sizes(np.pi / 2, 1)
    )
    dynamics = surrogate_force(made, mean=mean, variance=variance)
    x, g = jnp.array([[0.7], [-1.1]]), jnp.array([[80.0], [-60.0]])
    kick = jnp.exp(dynamics.log_step_size[0])
    _, q, t = dynamics.momentum_network(x, g, jnp.zeros((2, 1)))
    np.testing.assert_allclose(
        g * jnp.exp(kick * q) + t, -(x - mean[:, None]) / variance[:, None], atol=0.02
    )
    kernel = Transition(target, surrogate_force(made, mean=jnp.zeros(2), variance=jnp.ones(2)))
    draws = draw_chains(
        jax.random.key(3),
        kernel,
        kernel.init(jax.random.normal(jax.random.key(4), (2, 200))),
        num_draws=20,
    )
    assert draws.record.acceptance_rate.mean() > 0.9
    assert np.mean(draws.record.jump_sq) > 1.5
