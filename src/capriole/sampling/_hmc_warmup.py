"""A short run of plain HMC that finds the typical set, a step size and the scales of the target."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Key, Leapfrog, State, Transition, Vector

STEP_SIZE_GAIN = 2.0
"""Gain of the step-size adaptation: the first 30 steps can raise the step size 40-fold."""
JITTER = (0.8, 1.2)
"""Range of each chain's factor on the step size, which breaks periodic orbits."""
SMALLEST_VARIANCE = 1e-3
"""Floor of a variance, relative to the last variance over chains: rounding may leave none."""


class HMCWarmup(NamedTuple):
    """What the HMC warm-up found.

    Attributes:
        state: chains in the typical set.
        step_size: the adapted step size.
        acceptance_rate: mean over chains and the second half of the steps.
        mean: mean of each coordinate over the second half of the steps.
        variance: variance of each coordinate, likewise.
        num_gradients: gradients used, summed over chains.
        positions: positions of the second half of the steps, shape (steps, dim, chains), or None.
    """

    state: State
    step_size: Float[Array, ""]
    acceptance_rate: Float[Array, ""]
    mean: Float[Array, " dim"]
    variance: Float[Array, " dim"]
    num_gradients: int
    positions: Float[Array, "steps dim chains"] | None


@eqx.filter_jit
def run_hmc_warmup(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    *,
    num_leapfrogs: int = 10,
    num_steps: int = 500,
    target: float = 0.8,
    initial_step_size: float = 0.1,
    keep_positions: bool = False,
) -> HMCWarmup:
    """Run HMC on all chains and adapt their common step size to mean acceptance ``target``::

        log eps <- log eps + 2 / sqrt(t + 1) (mean over chains of A - target)

    Mean and variance pool the second half of the steps. The draws are adaptive: they serve to find
    scales, and are never returned to the user.

    Args:
        key: random key.
        logdensity: the log density.
        position: starts, shape (dim, chains).
        num_leapfrogs: leapfrog steps per HMC step.
        num_steps: HMC steps.
        target: mean acceptance rate to reach.
        initial_step_size: step size to start from.
        keep_positions: whether to return the positions of the second half of the steps.

    Returns:
        What was found.

    References:
        Andrieu and Thoms 2008, A tutorial on adaptive MCMC.
    """

    def step(carry: tuple, t: Array) -> tuple[tuple, Array | None]:
        state, log_eps, rate, first, second = carry
        move_key, jitter_key = jax.random.split(jax.random.fold_in(key, t))
        jitter = jax.random.uniform(
            jitter_key, state.logdensity.shape, state.logdensity.dtype, *JITTER
        )
        kernel = Transition(logdensity, Leapfrog(jnp.exp(log_eps) * jitter, num_leapfrogs))
        state, info = kernel.move(move_key, state)
        mean_rate = jnp.mean(info.acceptance_rate)
        log_eps += STEP_SIZE_GAIN / jnp.sqrt((t + 1).astype(log_eps.dtype)) * (mean_rate - target)
        late = (t >= num_steps // 2).astype(rate.dtype) / (num_steps - num_steps // 2)
        shifted = state.position - anchor
        first += late * jnp.mean(shifted, axis=1)
        second += late * jnp.mean(shifted**2, axis=1)
        kept = state.position if keep_positions else None
        return (state, log_eps, rate + late * mean_rate, first, second), kept

    dtype = position.dtype
    anchor = jnp.mean(position, axis=1, keepdims=True)
    state = Transition(logdensity, Leapfrog(jnp.ones((), dtype), 1)).init(position)
    zeros = jnp.zeros(position.shape[0], dtype)
    start = (
        state,
        jnp.log(jnp.asarray(initial_step_size, dtype)),
        jnp.zeros((), dtype),
        zeros,
        zeros,
    )
    (state, log_eps, rate, first, second), kept = jax.lax.scan(step, start, jnp.arange(num_steps))
    spread = jnp.var(state.position, axis=1)
    variance = jnp.maximum(second - first**2, SMALLEST_VARIANCE * spread + jnp.finfo(dtype).tiny)
    gradients = num_leapfrogs * num_steps * position.shape[1]
    positions = None if kept is None else kept[num_steps // 2 :]
    return HMCWarmup(
        state, jnp.exp(log_eps), rate, anchor[:, 0] + first, variance, gradients, positions
    )
