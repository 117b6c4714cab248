"""What an external sampler needs to report its draws with every gradient and second counted."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..kernels import AbstractLogDensity, Key, value_and_grad
from ..runtime import Pace, pulse

MANY_OPERATIONS = 10_000
"""Floating-point operations of a gradient above which chains run side by side on a CPU.

Measured with 16 NUTS chains: one after another is 2 to 4 times faster on Gaussians in 2 and 50
dimensions (25 and 301 operations), and 3 times slower on logistic regression with 569 rows and a
diagonal metric (80,954 operations).
"""


class CountedDraws(NamedTuple):
    """Draws of an external sampler and all that they cost.

    Attributes:
        position: draws after warm-up, shape (chains, draws, dim).
        num_gradients: gradients of the log density for the kept draws, summed over chains.
        warmup_gradients: gradients of adaptation and training, summed over chains.
        seconds: time of the kept draws, without compiling.
        warmup_seconds: time of adaptation and training, without compiling.
        compile_seconds: time spent compiling.
        acceptance_rate: mean over the kept draws; NaN where the sampler has none.
        divergences: number of divergent kept draws.
        settings: what the adaptation found, plain Python values.
        acceptance: acceptance rate of the step that led to each draw; None if it is not known.
        diverging: whether that step diverged; None if it is not known.
        completed: False if the draws are fewer, as the run was stopped.
    """

    position: Float[np.ndarray, "chains draws dim"]
    num_gradients: int
    warmup_gradients: int
    seconds: float
    warmup_seconds: float
    compile_seconds: float
    acceptance_rate: float
    divergences: int
    settings: dict[str, Any]
    acceptance: Float[np.ndarray, "chains draws"] | None = None
    diverging: Bool[np.ndarray, "chains draws"] | None = None
    completed: bool = True


class CountedRecord(NamedTuple):
    """What is kept of every draw of an external sampler.

    Attributes:
        position: shape (draws, chains, dim).
        num_gradients: gradients of the draw, shape (draws, chains).
        acceptance_rate: shape (draws, chains).
        is_divergent: shape (draws, chains).
    """

    position: Array
    num_gradients: Array
    acceptance_rate: Array
    is_divergent: Array


class Timed(NamedTuple):
    """A result and its times.

    Attributes:
        result: what the function returned.
        seconds: time that it ran.
        compile_seconds: time that its program took to compile.
        completed: False if it was stopped.
    """

    result: Any
    seconds: float
    compile_seconds: float
    completed: bool = True


class LeapfrogCount(NamedTuple):
    """What is kept of a BlackJAX warm-up step.

    Attributes:
        num_integration_steps: leapfrog steps, per chain.
    """

    num_integration_steps: Array


def check_batch_starts(logdensity: AbstractLogDensity, starts: Array) -> None:
    """Check that every chain can start.

    Args:
        logdensity: the log density.
        starts: positions, shape (dim, chains).

    Raises:
        ValueError: shape or dtype are wrong, or a chain has no finite log density and gradient of
            the starts' dtype.
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


def timed(function: Callable, *args: Any) -> Timed:
    """Compile a function ahead of time, run it once, and time both separately.

    Args:
        function: a function that `jax.jit` takes.
        *args: its arguments.

    Returns:
        The result, finished, with its times in seconds.
    """
    begin = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(program(*args))
    end = time.perf_counter()
    return Timed(result, end - middle, middle - begin)


def timed_loop(
    piece: Callable[[Any, Array, Array], tuple[Any, Any]],
    carry: Any,
    num_steps: int,
    *,
    before: int = 0,
    total: int | None = None,
    capacity: int | None = None,
) -> Timed:
    """`timed` for a loop, which runs in pieces of about half a second and hears a stop.

    Args:
        piece: maps a carry, the first step and a number of steps to the next carry, of the same
            types, and a record whose second axis is steps, or an empty one.
        carry: the first carry.
        num_steps: steps in all.
        before: steps that progress counts before these.
        total: steps that progress counts in all; None: ``before + num_steps``.
        capacity: most steps of a piece; None: any number.

    Returns:
        The last carry and the whole record, on the host, with times in seconds.

    Raises:
        KeyboardInterrupt: it was stopped before there was a record.
    """
    carry = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), carry)  # no weak types
    begin = time.perf_counter()
    program = jax.jit(piece).lower(carry, jnp.asarray(0), jnp.asarray(1)).compile()
    compiled = time.perf_counter()
    pace, done, records, seconds, completed = Pace(), 0, list[Any](), 0.0, True
    while done < num_steps:
        try:
            pulse(before + done, total or before + num_steps)
        except KeyboardInterrupt:
            if not jax.tree.leaves(records):
                raise
            completed = False
            break
        size = min(pace.next(num_steps - done), capacity or num_steps)
        start = time.perf_counter()
        carry, record = jax.block_until_ready(program(carry, jnp.asarray(done), jnp.asarray(size)))
        pace.took(size, time.perf_counter() - start)
        seconds += time.perf_counter() - start
        records.append(jax.tree.map(lambda leaf, size=size: np.asarray(leaf)[:, :size], record))
        done += size
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *records)
    return Timed((carry, whole), seconds, compiled - begin, completed)


def collect(
    warmup: Timed, sampling: Timed, warmup_gradients: int, settings: dict[str, Any]
) -> CountedDraws:
    """Put a timed warm-up and a timed sampling run together.

    Args:
        warmup: the warm-up; only its times are used.
        sampling: the sampling run; its result is a `CountedRecord`.
        warmup_gradients: gradients of the warm-up, summed over chains.
        settings: what the adaptation found; ``gradients_per_draw`` is added.

    Returns:
        The draws with their costs.
    """
    record: CountedRecord = jax.device_get(sampling.result)
    num_gradients = total(record.num_gradients)
    return CountedDraws(
        position=np.swapaxes(record.position, 0, 1),
        num_gradients=num_gradients,
        warmup_gradients=warmup_gradients,
        seconds=sampling.seconds,
        warmup_seconds=warmup.seconds,
        compile_seconds=warmup.compile_seconds + sampling.compile_seconds,
        acceptance_rate=float(np.mean(record.acceptance_rate, dtype=np.float64)),
        divergences=total(record.is_divergent),
        settings={**settings, "gradients_per_draw": num_gradients / record.is_divergent.size},
        acceptance=np.asarray(record.acceptance_rate).T,
        diverging=np.asarray(record.is_divergent).T,
        completed=sampling.completed,
    )


def leapfrogs_only(state: Any, info: Any, adaptation_state: Any) -> LeapfrogCount:
    """BlackJAX's ``adaptation_info_fn`` that keeps the number of leapfrog steps.

    Args:
        state: state of the chain, not kept.
        info: BlackJAX's record of the step.
        adaptation_state: state of the adaptation, not kept.

    Returns:
        The number of leapfrog steps.
    """
    return LeapfrogCount(info.num_integration_steps)


def hmc_record(state: Any, info: Any) -> tuple[Any, CountedRecord]:
    """The state and the record of one step of BlackJAX's HMC or NUTS.

    Args:
        state: BlackJAX's state after the step.
        info: BlackJAX's record of the step.

    Returns:
        The state, unchanged, and what is kept.
    """
    return state, CountedRecord(
        state.position, info.num_integration_steps, info.acceptance_rate, info.is_divergent
    )


def chain_keys(key: Key, num_chains: int) -> Key:
    """One random key per chain; the first k keys do not depend on ``num_chains``.

    Args:
        key: the key of all chains.
        num_chains: number of chains.

    Returns:
        Keys ``fold_in(key, i)``, shape (chains,).
    """
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(num_chains))


def scan(step: Callable, key: Key, states: Any, num_draws: int) -> CountedRecord:
    """Run all chains for ``num_draws`` steps.

    Args:
        step: maps keys (chains,) and states to states and a record.
        key: random key; step t of chain i gets ``fold_in(fold_in(key, i), t)``.
        states: states of all chains, chains leading.
        num_draws: number of steps.

    Returns:
        The record of every step, draws leading.
    """
    keys = chain_keys(key, jax.tree.leaves(states)[0].shape[0])

    def body(states: Any, t: Array) -> tuple[Any, CountedRecord]:
        return step(jax.vmap(jax.random.fold_in, (0, None))(keys, t), states)

    return jax.lax.scan(body, states, jnp.arange(num_draws))[1]


def worth_vectorising(logdensity: AbstractLogDensity, position: Array) -> bool:
    """Whether NUTS chains run faster side by side than one after another.

    Side by side every chain waits for the longest tree, which does not pay on a CPU where a
    gradient takes few operations. Operations are counted, not timed, so a run repeats bit for bit.

    Args:
        logdensity: the log density.
        position: one position, shape (dim,).

    Returns:
        True except on a CPU with gradients of at most `MANY_OPERATIONS`.
    """
    cost = (
        jax.jit(lambda position: value_and_grad(logdensity, position))
        .lower(position)
        .cost_analysis()
    )
    return jax.default_backend() != "cpu" or (cost or {}).get("flops", 0) > MANY_OPERATIONS


def over_chains(function: Callable, vectorised: bool) -> Callable:
    """Extend a function of one chain to all chains.

    Args:
        function: a function of arrays that belong to one chain.
        vectorised: whether chains run side by side (``vmap``) or one after another (``map``).

    Returns:
        The function over the leading axis of all its arguments.
    """
    if vectorised:
        return jax.vmap(function)
    return lambda *args: jax.lax.map(lambda chain: function(*chain), args)


def draws_first(record: CountedRecord) -> CountedRecord:
    """A record with chains leading, as one with draws leading."""
    return jax.tree.map(lambda array: np.swapaxes(array, 0, 1), record)


def total(counts: Any) -> int:
    """Sum of integer counts in 64 bits, whatever JAX's default width.

    Args:
        counts: an array of integers or flags.
    """
    return int(np.sum(np.asarray(counts), dtype=np.int64))


def plain(value: Any) -> Any:
    """An array as nested lists of Python numbers.

    Args:
        value: an array.
    """
    return np.asarray(value).tolist()
