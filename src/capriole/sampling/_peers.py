"""What every peer hands back, and how a peer's programs are compiled and timed."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Key, value_and_grad

MANY_OPERATIONS = 10_000
"""Floating-point operations of a gradient above which chains gain from running side by side on a
CPU.
"""


class PeerDraws(NamedTuple):
    """Draws of a peer and all that they cost.

    ``position`` (chains, draws, dim) holds the draws after warm-up only. ``num_gradients`` and
    ``warmup_gradients`` are gradients of the log density that the chains used, summed over chains:
    of the kept draws, and of adaptation and training. ``seconds`` and ``warmup_seconds`` leave out
    ``compile_seconds``. ``acceptance_rate`` is a mean over kept draws, NaN where the peer has none.
    ``settings`` is what the adaptation found, in plain Python values.
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


class Timed(NamedTuple):
    """A result, the seconds it took, and the seconds its program took to compile."""

    result: Any
    seconds: float
    compile_seconds: float


def timed(function: Callable, *args: Any) -> Timed:
    """Compile ``function`` for ``args`` ahead of time, run it once, and time both apart."""
    begin = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(program(*args))
    end = time.perf_counter()
    return Timed(result, end - middle, middle - begin)


class PeerRecord(NamedTuple):
    """What is kept of every draw: arrays (draws, chains), the position with ``dim`` as its last
    axis.
    """

    position: Array
    num_gradients: Array
    acceptance_rate: Array
    is_divergent: Array


def collect(
    warmup: Timed, sampling: Timed, warmup_gradients: int, settings: dict[str, Any]
) -> PeerDraws:
    """PeerDraws of a timed warm-up and a timed sampling run whose result is a `PeerRecord`."""
    record: PeerRecord = jax.device_get(sampling.result)
    num_gradients = total(record.num_gradients)
    return PeerDraws(
        position=np.swapaxes(record.position, 0, 1),
        num_gradients=num_gradients,
        warmup_gradients=warmup_gradients,
        seconds=sampling.seconds,
        warmup_seconds=warmup.seconds,
        compile_seconds=warmup.compile_seconds + sampling.compile_seconds,
        acceptance_rate=float(np.mean(record.acceptance_rate, dtype=np.float64)),
        divergences=total(record.is_divergent),
        settings={**settings, "gradients_per_draw": num_gradients / record.is_divergent.size},
    )


def chain_keys(key: Key, num_chains: int) -> Key:
    """One key per chain; the first k do not depend on ``num_chains``."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(num_chains))


def scan(step: Callable, key: Key, states: Any, num_draws: int) -> PeerRecord:
    """``num_draws`` steps of all chains; the key of step t of chain i is ``fold_in(fold_in(key, i),
    t)``.
    """
    keys = chain_keys(key, jax.tree.leaves(states)[0].shape[0])

    def body(states: Any, t: Array) -> tuple[Any, PeerRecord]:
        return step(jax.vmap(jax.random.fold_in, (0, None))(keys, t), states)

    return jax.lax.scan(body, states, jnp.arange(num_draws))[1]


def worth_vectorising(logdensity: AbstractLogDensity, position: Array) -> bool:
    """Whether NUTS chains are faster side by side: always but on a CPU with gradients of few
    operations.

    Measured with 16 chains: one after another is 2 to 4 times faster on Gaussians in 2 and 50
    dimensions (25 and 301 operations), 3 times slower on logistic regression with 569 rows and a
    diagonal metric (80,954). Counted, not timed, so that a run repeats bit for bit.
    """
    cost = (
        jax.jit(lambda position: value_and_grad(logdensity, position))
        .lower(position)
        .cost_analysis()
    )
    return jax.default_backend() != "cpu" or (cost or {}).get("flops", 0) > MANY_OPERATIONS


def over_chains(function: Callable, vectorised: bool) -> Callable:
    """``function`` of one chain, over the leading axis of all its arguments: side by side, or one
    after another.
    """
    if vectorised:
        return jax.vmap(function)
    return lambda *args: jax.lax.map(lambda chain: function(*chain), args)


def draws_first(record: PeerRecord) -> PeerRecord:
    """A record with the chains first, turned around."""
    return jax.tree.map(lambda array: np.swapaxes(array, 0, 1), record)


def total(counts: Any) -> int:
    """Sum of integer counts in 64 bits, whatever JAX's default width."""
    return int(np.sum(np.asarray(counts), dtype=np.int64))


def plain(value: Any) -> Any:
    """An array as nested lists of Python numbers."""
    return np.asarray(value).tolist()
