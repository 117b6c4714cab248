"""BlackJAX's NUTS with its own window adaptation, gradients counted."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Key, value_and_grad
from ._peers import (
    PeerDraws,
    PeerRecord,
    chain_keys,
    collect,
    draws_first,
    over_chains,
    plain,
    timed,
    total,
    worth_vectorising,
)


class LeapfrogCount(NamedTuple):
    """What is kept of a warm-up step: leapfrog steps, per chain."""

    num_integration_steps: Array


def leapfrogs_only(state: Any, info: Any, adaptation_state: Any) -> LeapfrogCount:
    """What BlackJAX's adaptation keeps of a step: its leapfrogs alone."""
    return LeapfrogCount(info.num_integration_steps)


def hmc_record(state: Any, info: Any) -> tuple[Any, PeerRecord]:
    """The state of BlackJAX's HMC or NUTS, and what is kept of a step."""
    return state, PeerRecord(
        state.position, info.num_integration_steps, info.acceptance_rate, info.is_divergent
    )


def nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
    dense: bool = False,
) -> PeerDraws:
    """NUTS with Stan's window adaptation of step size (target 0.8) and metric, every chain on its
    own.

    Gradients: ``num_integration_steps``, one per leapfrog step of the chain's own tree, the start's
    gradient reused. The gradient at each start counts as warm-up. Chains run side by side under
    ``vmap``, where each waits for the longest tree of a draw, or one after another, as
    `worth_vectorising` advises: seconds differ, gradients do not. Source: Hoffman and Gelman 2014;
    Phan et al. 2019.
    """
    import blackjax

    warmup = blackjax.window_adaptation(
        blackjax.nuts,
        logdensity,
        is_mass_matrix_diagonal=not dense,
        target_acceptance_rate=0.8,
        adaptation_info_fn=leapfrogs_only,
    )

    kernel = blackjax.nuts.build_kernel()

    def adapt(key: Key, position: Array) -> tuple[Any, Array, Array, Array]:
        (state, found), info = warmup.run(key, position, num_warmup)
        return state, found["step_size"], found["inverse_mass_matrix"], info.num_integration_steps

    def sample(key: Key, state: Any, step_size: Array, metric: Array) -> PeerRecord:
        def step(state: Any, t: Array) -> tuple[Any, PeerRecord]:
            return hmc_record(
                *kernel(jax.random.fold_in(key, t), state, logdensity, step_size, metric)
            )

        return jax.lax.scan(step, state, jnp.arange(num_draws))[1]

    chains, vectorised = starts.shape[1], worth_vectorising(logdensity, starts[:, 0])
    warmup_key, sample_key = jax.random.split(key)
    first = timed(over_chains(adapt, vectorised), chain_keys(warmup_key, chains), starts.T)
    states, step_size, metric, steps = first.result
    second = timed(
        over_chains(sample, vectorised), chain_keys(sample_key, chains), states, step_size, metric
    )
    second = second._replace(result=draws_first(second.result))
    settings = {
        "step_size": plain(step_size),
        "metric": "dense" if dense else "diagonal",
        "target_acceptance": 0.8,
        "vectorised": vectorised,
    }
    return collect(first, second, total(steps) + chains, settings)


def nuts_dense(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> PeerDraws:
    """`nuts` with a dense metric."""
    return nuts(key, logdensity, starts, num_draws=num_draws, num_warmup=num_warmup, dense=True)


def run_nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int = 1000,
    dense: bool = False,
) -> PeerDraws:
    """`nuts` from ``starts``, checked, in their precision; no global setting of JAX changes outside
    the call.

    Raises ValueError for starts that cannot be started from.
    """
    starts = jnp.asarray(starts)
    with jax.numpy_dtype_promotion("standard"):
        check_peer_starts(logdensity, starts)
        with jax.enable_x64(starts.dtype == np.float64):
            return nuts(
                key, logdensity, starts, num_draws=num_draws, num_warmup=num_warmup, dense=dense
            )


def check_peer_starts(logdensity: AbstractLogDensity, starts: Array) -> None:
    """Raises ValueError unless every chain has a finite log density and gradient of the starts'
    dtype.
    """
    if starts.ndim != 2 or 0 in starts.shape:
        raise ValueError(f"starts must have shape (dim, chains), got {starts.shape}")
    if starts.dtype not in (np.float32, np.float64):
        raise ValueError(f"starts must be float32 or float64, got {starts.dtype}; convert them")
    value, grad = value_and_grad(logdensity, starts)
    if value.dtype != starts.dtype:
        raise ValueError(
            f"the log density is {value.dtype} at {starts.dtype} starts; build both with one dtype"
        )
    bad = np.flatnonzero(
        ~(np.isfinite(value) & np.isfinite(grad).all(axis=0) & np.isfinite(starts).all(axis=0))
    )
    if bad.size:
        raise ValueError(
            f"chain {bad[0]} starts where the log density is {value[bad[0]]} or its gradient is "
            "not finite "
            f"({bad.size} of {starts.shape[1]} chains); start inside the support"
        )
