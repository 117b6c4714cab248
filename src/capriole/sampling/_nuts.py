"""BlackJAX's NUTS with Stan's window adaptation, gradients counted."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Key
from ..runtime import precision_context
from ._counted import (
    CountedDraws,
    CountedRecord,
    Timed,
    chain_keys,
    check_batch_starts,
    collect,
    draws_first,
    hmc_record,
    over_chains,
    plain,
    timed_loop,
    total,
    worth_vectorising,
)
from ._stan_windows import Adapting, StanWindows

TARGET_ACCEPTANCE = 0.8
"""Mean acceptance rate that the step size is adapted to: Stan's default."""
MOST_DRAWS_AT_ONCE = 256
"""Draws of a compiled piece at most: its record must fit into memory."""
_DIVERGENT = 1000.0
"""Energy difference of a divergence: no rounding makes a kinetic energy as negative as that."""


def nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
    dense: bool = False,
    target_acceptance: float = TARGET_ACCEPTANCE,
) -> CountedDraws:
    """Draw with NUTS; every chain adapts its own step size and metric in Stan's windows.

    One gradient is counted per leapfrog step of the chain's own tree; the gradient at the tree's
    start is reused. The gradient at each start of a chain counts as warm-up. Chains run side by
    side or one after another, as `worth_vectorising` advises: seconds differ, gradients do not.

    A stop is heard between pieces of about half a second. The draws that are there are then
    returned, with ``completed`` False.

    Args:
        key: random key.
        logdensity: the log density.
        starts: positions, shape (dim, chains).
        num_draws: draws per chain to keep.
        num_warmup: steps of adaptation per chain, not kept.
        dense: whether the metric is dense or diagonal.
        target_acceptance: mean acceptance rate that step sizes are adapted to.

    Returns:
        The draws with their costs.

    Raises:
        KeyboardInterrupt: it was stopped before the first draw.

    References:
        Hoffman and Gelman 2014, The No-U-Turn Sampler, algorithm 6.
        Phan, Pradhan and Jankowiak 2019, arXiv:1912.11554: the iterative tree.
    """
    windows = StanWindows(
        logdensity,
        _build_kernel(),
        num_steps=num_warmup,
        dense=dense,
        target_acceptance=target_acceptance,
    )
    chains, vectorised = starts.shape[1], worth_vectorising(logdensity, starts[:, 0])
    warmup_key, sample_key = jax.random.split(key)
    first = _adapted(windows, chain_keys(warmup_key, chains), starts.T, num_draws, vectorised)
    ready = jax.vmap(windows.final)(first.result)
    second = _drawn(windows, chain_keys(sample_key, chains), ready, num_draws, vectorised)
    settings = {
        "step_size": plain(ready[1]),
        "metric": "dense" if dense else "diagonal",
        "target_acceptance": target_acceptance,
        "vectorised": vectorised,
    }
    return collect(first, second, total(first.result.num_gradients) + chains, settings)


def _adapted(
    windows: StanWindows, keys: Key, starts: Array, num_draws: int, vectorised: bool
) -> Timed:
    """Chains (chains, ...) at the end of their adaptation."""

    def piece(key: Key, chain: Adapting, first: Array, size: Array) -> Adapting:
        keys = windows.keys(key)
        return jax.lax.fori_loop(
            first, first + size, lambda t, chain: windows.step(keys[t], chain, t), chain
        )

    def every(chains: Adapting, first: Array, size: Array) -> tuple[Adapting, tuple]:
        return over_chains(lambda key, chain: piece(key, chain, first, size), vectorised)(
            keys, chains
        ), ()

    chains = jax.jit(over_chains(windows.init, vectorised))(starts)
    if not windows.num_steps:
        return Timed(chains, 0.0, 0.0)
    total = windows.num_steps + num_draws
    run = timed_loop(every, chains, windows.num_steps, total=total)
    return run._replace(result=run.result[0])


def _drawn(
    windows: StanWindows, keys: Key, ready: tuple, num_draws: int, vectorised: bool
) -> Timed:
    """The `CountedRecord` of the draws, draws leading."""
    states, step_size, metric = ready
    capacity = min(num_draws, MOST_DRAWS_AT_ONCE)

    def piece(
        first: Array, size: Array, key: Key, state: Any, step_size: Array, metric: Array
    ) -> tuple[Any, CountedRecord]:
        def step(state: Any, t: Array) -> tuple[Any, CountedRecord]:
            key_t = jax.random.fold_in(key, t)
            return hmc_record(*windows.kernel(key_t, state, windows.logdensity, step_size, metric))

        def body(i: Array, carry: tuple[Any, CountedRecord]) -> tuple[Any, CountedRecord]:
            state, record = step(carry[0], first + i)
            return state, jax.tree.map(lambda kept, new: kept.at[i].set(new), carry[1], record)

        shapes = jax.eval_shape(step, state, first)[1]
        empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
        return jax.lax.fori_loop(0, size, body, (state, empty))

    def every(states: Any, first: Array, size: Array) -> tuple[Any, CountedRecord]:
        return over_chains(partial(piece, first, size), vectorised)(keys, states, step_size, metric)

    options = {"before": windows.num_steps, "capacity": capacity}
    run = timed_loop(every, states, num_draws, **options)
    return run._replace(result=draws_first(run.result[1]))


def _build_kernel(*arguments: Any) -> Callable:
    """BlackJAX's NUTS kernel with the kinetic energy of `_without_overflow`."""
    import blackjax

    kernel = blackjax.nuts.build_kernel(*arguments)

    def safe(
        key: Key, state: Any, logdensity: AbstractLogDensity, step_size: Array, metric: Array
    ) -> tuple[Any, Any]:
        return kernel(key, state, logdensity, step_size, _without_overflow(metric))

    return safe


def _without_overflow(inverse_mass_matrix: Array) -> Any:
    """BlackJAX's metric, with kinetic energies that overflow upwards only.

    Far out, where a step that was too large leads, the products of ``p' M^-1 p`` overflow one by
    one. With a dense metric the first of them may be minus infinity. NUTS then goes for certain to
    a place without mass, and its step size is adapted there. In float32 one of 250 chains did so
    on a regression with an unknown scale.
    """
    from blackjax.mcmc.metrics import default_metric

    metric = default_metric(inverse_mass_matrix)

    def kinetic_energy(momentum: Array, position: Array | None = None) -> Array:
        value = metric.kinetic_energy(momentum, position)
        return jnp.where(value > -_DIVERGENT, value, jnp.inf)

    return metric._replace(kinetic_energy=kinetic_energy)


def nuts_dense(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> CountedDraws:
    """`nuts` with a dense metric.

    Args:
        key: random key.
        logdensity: the log density.
        starts: positions, shape (dim, chains).
        num_draws: draws per chain to keep.
        num_warmup: steps of adaptation per chain, not kept.

    Returns:
        The draws with their costs.
    """
    return nuts(key, logdensity, starts, num_draws=num_draws, num_warmup=num_warmup, dense=True)


def run_nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int = 1000,
    dense: bool = False,
    target_acceptance: float = TARGET_ACCEPTANCE,
) -> CountedDraws:
    """`nuts` from checked starts, in their precision; JAX's global settings stay as they are.

    Args:
        key: random key.
        logdensity: the log density.
        starts: positions, shape (dim, chains), float32 or float64.
        num_draws: draws per chain to keep.
        num_warmup: steps of adaptation per chain, not kept.
        dense: whether the metric is dense or diagonal.
        target_acceptance: mean acceptance rate that step sizes are adapted to.

    Returns:
        The draws with their costs.

    Raises:
        ValueError: a chain cannot start there; see `check_batch_starts`.
    """
    starts = jnp.asarray(starts)
    with jax.numpy_dtype_promotion("standard"):
        check_batch_starts(logdensity, starts)
        with precision_context(starts.dtype):
            return nuts(
                key,
                logdensity,
                starts,
                num_draws=num_draws,
                num_warmup=num_warmup,
                dense=dense,
                target_acceptance=target_acceptance,
            )
