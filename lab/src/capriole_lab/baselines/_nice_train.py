"""Adversarial training of A-NICE-MC's proposal on a buffer (Song, Zhao and Ermon 2017)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from capriole.kernels import AbstractLogDensity, AbstractTransition, Key, Transition, Vector, hmc
from capriole.runtime import CompileClock, Progress
from capriole.sampling import draw_chains

from ._nice import Dense, Nice, nice


class NiceRecipe(NamedTuple):
    """Sizes and lengths of the training. The paper: width 400, critic 3 x 400, up to 100,000
    iterations.

    ``burn`` and ``mix`` are its B and M, the longest rollouts from noise and from data; ``epochs``
    buffers are filled, each by ``num_chains`` chains of ``num_draws`` draws, and followed by
    ``epoch_steps`` updates of the proposal, each after ``critic_steps`` of the critic. ``keep`` of
    the old buffer survives a refill.
    """

    width: int = 128
    critic_width: int = 64
    burn: int = 8
    mix: int = 2
    batch: int = 32
    epochs: int = 6
    epoch_steps: int = 500
    critic_steps: int = 5
    learning_rate: float = 5e-4
    penalty: float = 10.0
    kinetic_weight: float = 1.0
    num_chains: int = 32
    num_draws: int = 1000
    num_warmup: int = 200
    keep: float = 0.5


class Buffer(NamedTuple):
    """Draws to learn from: the first ``filled`` columns of an array that keeps its shape."""

    position: Vector
    filled: Int[Array, ""]

    def draw(self, key: Key, num: int) -> Vector:
        """Random columns, with replacement."""
        return self.position[:, jax.random.randint(key, (num,), 0, self.filled)]


class NiceState(NamedTuple):
    """Proposal and critic with their optimizer states."""

    dynamics: Nice
    critic: Dense
    opt_state: Any
    critic_opt_state: Any


class NiceMetrics(NamedTuple):
    """Losses of one iteration."""

    loss: Any
    critic_loss: Any


class NiceResult(NamedTuple):
    """The frozen kernel, what it took, and the buffer it was last trained on."""

    transition: Transition
    history: dict[str, np.ndarray]
    buffer: Buffer
    num_gradients: int
    seconds: float
    compile_seconds: float
    completed: bool


def _optimizer(recipe: NiceRecipe) -> optax.GradientTransformation:
    return optax.flatten(optax.adam(recipe.learning_rate, b1=0.5, b2=0.9))


def rollout(
    key: Key, dynamics: Nice, position: Vector, length: Int[Array, ""], longest: int
) -> tuple[Vector, Vector]:
    """``length`` (at most ``longest``) applications of the map or its inverse, momentum drawn anew;
    no accepting.

    Returns position and final momentum. The loop always runs ``longest`` times so that it can be
    differentiated.
    """

    def apply(carry: tuple[Vector, Vector], t: Array) -> tuple[tuple[Vector, Vector], None]:
        momentum_key, direction_key = jax.random.split(jax.random.fold_in(key, t))
        momentum = jax.random.normal(momentum_key, position.shape, position.dtype)
        forward = jax.random.bernoulli(direction_key, 0.5, position.shape[1:])
        moved = dynamics.couple(carry[0], momentum, forward)
        return jax.tree.map(lambda new, old: jnp.where(t < length, new, old), moved, carry), None

    return jax.lax.scan(apply, (position, jnp.zeros_like(position)), jnp.arange(longest))[0]


def fake_pairs(
    key: Key,
    dynamics: Nice,
    data: Vector,
    burn: Int[Array, ""],
    mix: Int[Array, ""],
    recipe: NiceRecipe,
) -> tuple[Float[Array, "pair chains"], Float[Array, ""]]:
    """Pairs (later, earlier) of states that should look like two independent draws, and mean ``v^2
    / 2``::

        x1 = f^b(noise);   x2 = f^m(data);   x3 = f^m(x1 with its gradient stopped)
        pairs (x2, data) and (x3, x1)

    Both rollout lengths, b and m, are at most those of the recipe.
    """
    noise_key, *keys = jax.random.split(key, 4)
    noise = jax.random.normal(noise_key, data.shape, data.dtype)
    x1, v1 = rollout(keys[0], dynamics, noise, burn, recipe.burn)
    x2, v2 = rollout(keys[1], dynamics, data, mix, recipe.mix)
    x3, v3 = rollout(keys[2], dynamics, jax.lax.stop_gradient(x1), mix, recipe.mix)
    pairs = jnp.concatenate([jnp.concatenate([x2, data]), jnp.concatenate([x3, x1])], axis=1)
    return pairs, jnp.mean(jnp.concatenate([v1, v2, v3]) ** 2) / 2


def _critic_loss(
    critic: Dense, key: Key, real: Vector, fake: Vector, recipe: NiceRecipe
) -> Float[Array, ""]:
    """``mean D(real) - mean D(fake) + penalty mean (|grad D| - 1)^2`` on random mixtures."""
    share = jax.random.uniform(key, (), real.dtype)
    mixed = share * real + (1 - share) * fake
    slope = jax.grad(lambda y: jnp.sum(critic(y)))(mixed)
    norm = jnp.sqrt(jnp.sum(slope**2, axis=0) + 1e-12)
    return (
        jnp.mean(critic(real)) - jnp.mean(critic(fake)) + recipe.penalty * jnp.mean((norm - 1) ** 2)
    )


def nice_step(
    key: Key, state: NiceState, buffer: Buffer, recipe: NiceRecipe
) -> tuple[NiceState, NiceMetrics]:
    """``critic_steps`` updates of the critic, then one of the proposal."""
    length_key, own_key, *critic_keys = jax.random.split(key, 2 + recipe.critic_steps)
    burn_key, mix_key = jax.random.split(length_key)
    lengths = (
        jax.random.randint(burn_key, (), 1, recipe.burn + 1),
        jax.random.randint(mix_key, (), 1, recipe.mix + 1),
    )
    optimizer = _optimizer(recipe)

    def train_critic(carry: tuple[Dense, Any], key: Key) -> tuple[tuple[Dense, Any], Array]:
        critic, opt_state = carry
        data_key, roll_key, first_key, second_key, mix_key = jax.random.split(key, 5)
        fake, _ = fake_pairs(
            roll_key, state.dynamics, buffer.draw(data_key, recipe.batch), *lengths, recipe
        )
        num = 2 * recipe.batch
        real = jnp.concatenate([buffer.draw(first_key, num), buffer.draw(second_key, num)])
        loss, grads = jax.value_and_grad(_critic_loss)(critic, mix_key, real, fake, recipe)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (eqx.apply_updates(critic, updates), opt_state), loss

    def loss_fn(dynamics: Nice, critic: Dense) -> Float[Array, ""]:
        data_key, roll_key = jax.random.split(own_key)
        fake, kinetic = fake_pairs(
            roll_key, dynamics, buffer.draw(data_key, recipe.batch), *lengths, recipe
        )
        return jnp.mean(critic(fake)) + recipe.kinetic_weight * kinetic

    carry = (state.critic, state.critic_opt_state)
    (critic, critic_opt), critic_losses = jax.lax.scan(train_critic, carry, jnp.stack(critic_keys))
    loss, grads = jax.value_and_grad(loss_fn)(state.dynamics, critic)
    updates, opt_state = optimizer.update(grads, state.opt_state)
    dynamics = eqx.apply_updates(state.dynamics, updates)
    return NiceState(dynamics, critic, opt_state, critic_opt), NiceMetrics(loss, critic_losses[-1])


@eqx.filter_jit
def _train_epoch(
    key: Key, state: NiceState, buffer: Buffer, recipe: NiceRecipe
) -> tuple[NiceState, NiceMetrics]:
    def body(state: NiceState, t: Array) -> tuple[NiceState, NiceMetrics]:
        return nice_step(jax.random.fold_in(key, t), state, buffer, recipe)

    return jax.lax.scan(body, state, jnp.arange(recipe.epoch_steps))


def train_nice(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    recipe: NiceRecipe,
    *,
    first_kernel: AbstractTransition | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> NiceResult:
    """Train a proposal; chains that fill the buffer start at ``position`` of shape (dim, chains).

    The first buffer comes from ``first_kernel`` (None: HMC with 10 leapfrogs of 0.1), later ones
    from the proposal so far with Metropolis-Hastings. KeyboardInterrupt ends training after the
    last whole epoch.
    """
    build_key, critic_key, key = jax.random.split(key, 3)
    dim, dtype = position.shape[0], position.dtype
    dynamics = nice(build_key, dim=dim, width=recipe.width, dtype=dtype)
    critic = Dense(critic_key, (2 * dim, *3 * (recipe.critic_width,), 1), slope=0.2, dtype=dtype)
    optimizer = _optimizer(recipe)
    state = NiceState(dynamics, critic, optimizer.init(dynamics), optimizer.init(critic))
    kernel = first_kernel or hmc(logdensity, step_size=jnp.asarray(0.1, dtype), num_leapfrogs=10)
    capacity = math.ceil(recipe.num_chains * recipe.num_draws / (1 - recipe.keep))
    buffer = Buffer(jnp.zeros((dim, capacity), dtype), jnp.zeros((), jnp.int32))
    metrics, gradients, completed = [], 0, True
    with CompileClock() as clock:
        try:
            for epoch in range(recipe.epochs):
                fill_key, train_key = jax.random.split(jax.random.fold_in(key, epoch))
                buffer, spent = _refill(fill_key, kernel, position, buffer, recipe)
                state, losses = _train_epoch(train_key, state, buffer, recipe)
                kernel, gradients = Transition(logdensity, state.dynamics), gradients + spent
                metrics.append(NiceMetrics(*(np.asarray(field) for field in losses)))
                if progress is not None:
                    means = {
                        name: float(np.mean(values))
                        for name, values in metrics[-1]._asdict().items()
                    }
                    done, total = (
                        (epoch + 1) * recipe.epoch_steps,
                        recipe.epochs * recipe.epoch_steps,
                    )
                    progress(Progress("train A-NICE", done, total, clock.elapsed, means))
        except KeyboardInterrupt:
            completed = False
    history = {
        name: np.concatenate([getattr(m, name) for m in metrics] or [[]])
        for name in NiceMetrics._fields
    }
    transition = Transition(logdensity, state.dynamics)
    return NiceResult(
        transition, history, buffer, gradients, clock.seconds, clock.compile_seconds, completed
    )


def _refill(
    key: Key, kernel: AbstractTransition, position: Vector, buffer: Buffer, recipe: NiceRecipe
) -> tuple[Buffer, int]:
    """The buffer with fresh draws of ``kernel`` in place of a random part; gradients spent."""
    drop_key, run_key = jax.random.split(key)
    state = kernel.init(position[:, : recipe.num_chains])
    draws = draw_chains(run_key, kernel, state, num_draws=recipe.num_warmup + recipe.num_draws)
    if not draws.completed:
        raise KeyboardInterrupt
    fresh = jnp.asarray(
        draws.record.position[:, recipe.num_warmup :].reshape(-1, position.shape[0]).T
    )
    kept = int(recipe.keep * int(buffer.filled))
    old = jax.random.permutation(drop_key, buffer.position[:, : int(buffer.filled)], axis=1)[
        :, :kept
    ]
    joined = jnp.concatenate([fresh, old, jnp.zeros_like(buffer.position)], axis=1)
    filled = min(fresh.shape[1] + kept, buffer.position.shape[1])
    return Buffer(
        joined[:, : buffer.position.shape[1]], jnp.asarray(filled, jnp.int32)
    ), draws.num_gradients
