"""A-NICE-MC: an exact kernel whatever its networks; training does what its formulas say."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import diagnostics
from capriole.kernels import Transition
from capriole.sampling import draw_chains
from capriole_lab.baselines import NiceRecipe, nice, train_nice
from capriole_lab.baselines._nice_train import Buffer, _critic_loss, fake_pairs, rollout
from capriole_lab.targets import make_target
from densities import Mixture2
from invariance import check_invariance, check_symmetry

TINY = NiceRecipe(
    width=12,
    critic_width=10,
    burn=3,
    batch=8,
    epochs=2,
    epoch_steps=40,
    num_chains=6,
    num_draws=50,
    num_warmup=10,
)


def proposal(seed=3, width=16):
    return nice(jax.random.key(seed), dim=2, width=width)


def test_invariance_with_random_networks():
    target = Mixture2()
    kernel = Transition(target, proposal())
    check_invariance(kernel, target)
    check_symmetry(kernel, target)


def test_the_map_has_volume_one_and_moves_both_halves():
    def flat(z):
        return jnp.concatenate(proposal().couple(z[:2], z[2:], jnp.asarray(True)))

    z = jnp.asarray(np.random.default_rng(0).normal(size=4))
    jacobian = np.asarray(jax.jacrev(flat)(z))
    assert np.linalg.det(jacobian) == pytest.approx(1, abs=1e-12)
    assert np.abs(flat(z) - z).min() > 0


def test_a_rollout_is_so_many_moves_and_no_more():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)))
    key = jax.random.key(0)
    ends = [rollout(key, proposal(), x, jnp.asarray(length), 4)[0] for length in range(5)]
    np.testing.assert_array_equal(ends[0], x)
    again, momentum = rollout(key, proposal(), x, jnp.asarray(2), 2)
    np.testing.assert_allclose(again, ends[2], rtol=1e-12)
    assert momentum.shape == x.shape
    steps = [float(np.abs(b - a).min()) for a, b in itertools.pairwise(ends)]
    assert min(steps) > 0


def test_pairs_hold_the_later_state_first_and_the_earlier_passes_its_gradient_on():
    data = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8)))
    one = jnp.asarray(1)
    pairs, kinetic = fake_pairs(jax.random.key(0), proposal(), data, one, one, TINY)
    assert pairs.shape == (4, 16)
    np.testing.assert_array_equal(pairs[2:, :8], data)
    assert kinetic > 0

    def later(dynamics):
        return jnp.sum(fake_pairs(jax.random.key(0), dynamics, data, one, one, TINY)[0][2:])

    grads = jax.grad(later)(proposal())
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads)) > 0


def test_the_critic_is_rewarded_for_low_values_on_real_pairs_and_for_unit_slope():
    real, fake = jnp.zeros((4, 6)), jnp.ones((4, 6))

    def loss(critic):
        return float(_critic_loss(critic, jax.random.key(0), real, fake, TINY))

    assert loss(lambda y: jnp.sum(y, axis=0) / 2) == pytest.approx(-2)
    assert loss(lambda y: -jnp.sum(y, axis=0) / 2) == pytest.approx(2)
    assert loss(lambda y: jnp.sum(y, axis=0)) == pytest.approx(-4 + 10)


def test_the_buffer_gives_filled_columns_only():
    buffer = Buffer(jnp.arange(10.0)[None], jnp.asarray(4))
    assert set(np.asarray(buffer.draw(jax.random.key(0), 200)).ravel()) == {0.0, 1.0, 2.0, 3.0}


@pytest.mark.usefixtures("standard_promotion")
def test_training_changes_the_kernel_counts_its_gradients_and_keeps_it_exact():
    target, events = Mixture2(), []
    starts = jnp.asarray(target.draw(np.random.default_rng(0), 6))
    key = jax.random.key(0)
    result = train_nice(key, target, starts, TINY, progress=events.append)
    untrained = nice(jax.random.split(key, 3)[0], dim=2, width=TINY.width)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), result.transition.dynamics, untrained
    )
    # 80 updates of Adam, of at most about the learning rate each.
    assert all(
        10 * TINY.learning_rate < each < 100 * TINY.learning_rate for each in jax.tree.leaves(moved)
    ), moved
    assert [event.step for event in events] == [40, 80]
    assert result.completed
    assert result.history["loss"].shape == (80,)
    assert np.isfinite(result.history["loss"]).all()
    # The first buffer costs 10 gradients per step, the second one evaluation.
    assert result.num_gradients == 6 * 60 * (10 + 1)
    assert int(result.buffer.filled) == 300 + 150
    check_invariance(result.transition, target)


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_it_mixes_equal_modes_ten_apart():
    target = make_target("mog2")
    result = train_nice(
        jax.random.key(1), target, target.start(jax.random.key(9), 32), NiceRecipe(epochs=5)
    )
    state = result.transition.init(target.sample_mode(jax.random.key(3), 100, 0))
    position = draw_chains(
        jax.random.key(4), result.transition, state, num_draws=2000
    ).record.position[:, 500:]
    labels = np.asarray(target.mode(position.reshape(-1, 2).T)).reshape(position.shape[:2])
    summary = diagnostics.mode_occupation(labels, 2)
    assert abs(summary.weights[0] - 0.5) < 0.03
    assert diagnostics.mode_rhat(labels, 2) < 1.01
