"""Sampling: a host loop over compiled chunks of steps.

The key of step t is ``fold_in(root, t)``. Each step splits its key once and draws for all chains
together, chains leading. So draws are the same bit for bit for any chunk size and after a resume,
and no key is both split and folded.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import AbstractTransition, ChainState, Info, Key, Vector, on_devices
from ..runtime import (
    CompileClock,
    Devices,
    Pace,
    Progress,
    check_devices,
    check_stop,
    copied,
    divided,
    in_precision,
    own,
    pulse,
    whole,
)

type Stacked = Any
"""An array with leading axes for draws, chains or both."""


class Record(NamedTuple):
    """What is kept of a step, for every chain; names are those of ArviZ where it has one.

    Attributes:
        position: position after the step.
        lp: log density there.
        acceptance_rate: probability of acceptance.
        accepted: whether the proposal was accepted; a count with thinning.
        diverging: whether the proposal was divergent; a count with thinning.
        nonfinite: whether the proposal had no finite log density; a count with thinning.
        energy: ``|v|^2 / 2 - log density`` at the start of the step.
        log_ratio: log of the Metropolis-Hastings ratio before clipping.
        log_det: log-determinant of the proposal's Jacobian.
        direction: 1 (forward) or -1 (backward).
        jump_sq: expected squared jump, ``A |x' - x|^2``.
        n_steps: gradients; a sum with thinning.
    """

    position: Stacked
    lp: Stacked
    acceptance_rate: Stacked
    accepted: Stacked
    diverging: Stacked
    nonfinite: Stacked
    energy: Stacked
    log_ratio: Stacked
    log_det: Stacked
    direction: Stacked
    jump_sq: Stacked
    n_steps: Stacked


class Draws(NamedTuple):
    """Draws of all chains and what they cost.

    With thinning, ``acceptance_rate`` is the mean over the steps between two draws, ``n_steps``
    their sum, and ``accepted``, ``diverging`` and ``nonfinite`` count them (0 to ``thin``). The
    other fields describe the last of these steps.

    Attributes:
        record: fields of shape (chains, draws); ``position`` (chains, draws, dim).
        state: the state that continues the chains.
        num_gradients: gradients of all steps, summed over chains.
        seconds: time spent, without compiling.
        compile_seconds: time spent compiling.
        completed: False if the run was interrupted.
        thin: steps per draw.
    """

    record: Record
    state: ChainState
    num_gradients: int
    seconds: float
    compile_seconds: float
    completed: bool
    thin: int


def record_of(state: ChainState, info: Info, before: Vector) -> Record:
    """What is kept of one step.

    Args:
        state: state after the step.
        info: what the step did.
        before: positions before the step, shape (dim, chains).

    Returns:
        Fields of shape (chains,); ``position`` (dim, chains).
    """
    squared = jnp.sum((info.proposal.position - before) ** 2, axis=0)
    moved = jnp.where(info.acceptance_rate > 0, info.acceptance_rate * squared, 0)
    return Record(
        position=state.position,
        lp=state.logdensity,
        acceptance_rate=info.acceptance_rate,
        accepted=info.is_accepted.astype(jnp.int32),
        diverging=info.is_divergent.astype(jnp.int32),
        nonfinite=(jnp.isneginf(info.log_ratio) & ~jnp.isneginf(info.log_det)).astype(jnp.int32),
        energy=info.energy,
        log_ratio=info.log_ratio,
        log_det=info.log_det,
        direction=jnp.where(info.forward, 1, -1).astype(jnp.int8),
        jump_sq=moved,
        n_steps=info.num_gradients,
    )


class _Packed(NamedTuple):
    """A `Record` in three arrays, because every array that a loop fills takes time to compile.

    ``position`` has shape (dim, chains), ``reals`` and ``counts`` (fields, chains) in the order of
    `_REALS` and `_COUNTS`. Draws lead once they are stacked.
    """

    position: Stacked
    reals: Stacked
    counts: Stacked


_REALS = ("lp", "acceptance_rate", "energy", "log_ratio", "log_det", "jump_sq")
"""Fields of a `Record` that are packed as real numbers."""
_COUNTS = ("accepted", "diverging", "nonfinite", "direction", "n_steps")
"""Fields of a `Record` that are packed as int32."""
_SUMMED = ("accepted", "diverging", "nonfinite", "n_steps")
"""Fields of a `Record` that are summed over the steps between two draws."""


def _packed(record: Record) -> _Packed:
    """The record of one step in three arrays."""
    reals = jnp.stack([getattr(record, name) for name in _REALS])
    return _Packed(
        record.position,
        reals,
        jnp.stack([getattr(record, name).astype(jnp.int32) for name in _COUNTS]),
    )


def _unpacked(packed: _Packed) -> Record:
    """The record from stacked arrays on the host, draws leading."""
    reals = {name: packed.reals[:, i] for i, name in enumerate(_REALS)}
    counts = {name: packed.counts[:, i] for i, name in enumerate(_COUNTS)}
    return Record(packed.position, **(reals | counts))._replace(
        direction=counts["direction"].astype(np.int8)
    )


@eqx.filter_jit
def _chunk(
    root: Key,
    transition: AbstractTransition,
    state: ChainState,
    first: jax.Array,
    num_draws: jax.Array,
    thin: int,
    capacity: int,
) -> tuple[ChainState, _Packed]:
    """``num_draws`` draws, at most ``capacity``.

    The loop's length is data, so a short last chunk does not compile again.
    """

    def step(state: ChainState, t: jax.Array) -> tuple[ChainState, Record]:
        new, info = transition.move(jax.random.fold_in(root, t), state)
        return new, record_of(new, info, state.position)

    def draw(state: ChainState, t: jax.Array) -> tuple[ChainState, Record]:
        if thin == 1:
            return step(state, t)
        state, records = jax.lax.scan(step, state, t + jnp.arange(thin, dtype=t.dtype))
        last = jax.tree.map(lambda leaf: leaf[-1], records)
        sums = {name: jnp.sum(getattr(records, name), axis=0, dtype=jnp.int32) for name in _SUMMED}
        return state, last._replace(
            acceptance_rate=jnp.mean(records.acceptance_rate, axis=0), **sums
        )

    def body(i: jax.Array, carry: tuple[ChainState, _Packed]) -> tuple[ChainState, _Packed]:
        state, record = draw(carry[0], first + thin * i)
        return state, jax.tree.map(lambda kept, new: kept.at[i].set(new), carry[1], _packed(record))

    shapes = jax.eval_shape(lambda s: _packed(draw(s, first)[1]), state)
    empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, num_draws, body, (state, empty))


def draw_chunks(
    key: Key,
    transition: AbstractTransition,
    state: ChainState,
    *,
    num_draws: int,
    thin: int = 1,
    first_step: int = 0,
    chunk_size: int = 200,
    devices: Devices | None = None,
    pace: Pace | None = None,
) -> Iterator[tuple[ChainState, Record]]:
    """The loop of `draw_chains`, chunk by chunk, in the precision of ``state``.

    On one device a chunk runs in pieces of about half a second, after each of which a stop is
    heard. The draws are the same.

    Args:
        key: random key of the whole run.
        transition: the frozen kernel.
        state: state of all chains, position of shape (dim, chains).
        num_draws: draws per chain.
        thin: steps per draw.
        first_step: steps already taken with this key.
        chunk_size: draws per chunk.
        devices: devices to divide the chains evenly over.
        pace: length of the pieces as far as it is known, for a caller that tells of its own
            progress; None: it is found out, and the pieces are told of.

    Returns:
        An iterator over the state reached, divided over ``devices``, and the draws of this
        process's chains: fields (draws, ..., chains). A chunk that is stopped is shorter.

    Raises:
        KeyboardInterrupt: it is time to stop; what was drawn has been yielded.
        ValueError: a number is not positive, or the state has no axis of chains.
    """
    if num_draws < 1 or thin < 1 or chunk_size < 1:
        raise ValueError(
            f"num_draws, thin and chunk_size must be positive, got {num_draws}, {thin} and "
            f"{chunk_size}"
        )
    if state.position.ndim != 2:
        raise ValueError(f"positions must have shape (dim, chains), got {state.position.shape}")
    limits = num_draws, thin, first_step, chunk_size
    chunks = _chunks(key, transition, state, *limits, devices, pace)
    return in_precision(state.position.dtype, chunks)


def _chunks(
    key: Key,
    transition: AbstractTransition,
    state: ChainState,
    num_draws: int,
    thin: int,
    first_step: int,
    chunk_size: int,
    devices: Devices | None,
    pace: Pace | None,
) -> Iterator[tuple[ChainState, Record]]:
    if devices is not None:
        check_devices(devices, state.position.shape[1])
        key, state = copied(key, devices), divided(state, devices)
        transition = on_devices(transition, devices)
    before, tells = first_step // thin, pace is None
    pace = Pace() if pace is None else pace
    for done in range(0, num_draws, chunk_size):
        length, drawn, pieces = min(chunk_size, num_draws - done), 0, list[_Packed]()
        while drawn < length:
            try:
                if tells and done + drawn:  # a run that goes on makes one step at least
                    pulse(before + done + drawn, before + num_draws)
                elif done + drawn:
                    check_stop()
            except KeyboardInterrupt:
                if pieces:
                    yield state, _joined(pieces)
                raise
            size = pace.next(length - drawn) if devices is None else length
            first = first_step + (done + drawn) * thin
            limits = jnp.asarray(first, jnp.int32), jnp.asarray(size)
            if devices is not None:
                limits = copied(limits, devices)
            begun = time.perf_counter()
            state, packed = _chunk(key, transition, state, *limits, thin, chunk_size)
            if devices is not None:
                packed = divided(packed, devices)  # changes only what is the same for all chains
            pieces.append(_Packed(*(own(kept)[:size] for kept in packed)))
            pace.took(size, time.perf_counter() - begun)
            drawn += size
        yield state, _joined(pieces)


def _joined(pieces: list[_Packed]) -> Record:
    """The record of all pieces of a chunk."""
    return _unpacked(_Packed(*map(np.concatenate, zip(*pieces, strict=True))))


def draw_chains(
    key: Key,
    transition: AbstractTransition,
    state: ChainState,
    *,
    num_draws: int,
    thin: int = 1,
    first_step: int = 0,
    chunk_size: int = 200,
    devices: Devices | None = None,
    progress: Callable[[Progress, Record], None] | None = None,
) -> Draws:
    """Run all chains of ``state`` for ``num_draws * thin`` steps and keep every ``thin``-th.

    KeyboardInterrupt ends the run after a whole chunk and returns what is there, with ``completed``
    False. Chains on several devices do not communicate; their draws are those of one device up to
    rounding. With several processes (``jax.distributed``) every process gets the draws of its own
    chains, and the final state of all chains.

    Args:
        key: random key of the whole run.
        transition: the frozen kernel.
        state: state of all chains, position of shape (dim, chains).
        num_draws: draws per chain.
        thin: steps per draw.
        first_step: steps already taken with this key, to continue a run.
        chunk_size: draws per compiled chunk.
        devices: devices to divide the chains evenly over, for example ``jax.devices()``.
        progress: called after every chunk with its draws.

    Returns:
        The draws with their costs.

    Raises:
        KeyboardInterrupt: before the first chunk is complete.
        ValueError: a number is not positive, or the state has no axis of chains.
    """
    options: dict[str, Any] = {
        "thin": thin,
        "first_step": first_step,
        "chunk_size": chunk_size,
        "devices": devices,
    }
    chunks: list[Record] = []
    done, completed = 0, True
    with CompileClock() as clock:
        try:
            for new, record in draw_chunks(key, transition, state, num_draws=num_draws, **options):
                chunks.append(record)
                state, done = new, done + len(record.lp)
                if progress is not None:
                    progress(
                        Progress("sample", done, num_draws, clock.elapsed, means(record)), record
                    )
        except KeyboardInterrupt:
            completed = False
    if not chunks:
        raise KeyboardInterrupt("interrupted before the first chunk of draws was complete")
    record = Record(*(chains_first(np.concatenate(field)) for field in zip(*chunks, strict=True)))
    return Draws(
        record,
        whole(state),
        int(record.n_steps.sum()),
        clock.seconds,
        clock.compile_seconds,
        completed,
        thin,
    )


def tally_arguments(
    record: Record, start: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The arguments of `diagnostics.tally` that a record holds.

    Args:
        record: fields of shape (chains, draws).
        start: first draw.

    Returns:
        Acceptance rates, counts accepted and counts divergent, each (chains, draws), and the number
        of proposals without a finite log density.
    """
    accepted, diverging = record.accepted[:, start:], record.diverging[:, start:]
    return (
        record.acceptance_rate[:, start:],
        accepted,
        diverging,
        int(record.nonfinite[:, start:].sum()),
    )


def chains_first(stacked: np.ndarray) -> np.ndarray:
    """(draws, chains) as (chains, draws), and (draws, dim, chains) as (chains, draws, dim)."""
    return np.ascontiguousarray(stacked.T if stacked.ndim == 2 else stacked.transpose(2, 0, 1))


def means(record: Record) -> dict[str, float]:
    """The metrics of a chunk that progress shows.

    Args:
        record: the draws of the chunk.

    Returns:
        Mean acceptance rate, number of divergent steps, mean expected squared jump.
    """
    return {
        "acceptance_rate": float(record.acceptance_rate.mean()),
        "diverging": float(record.diverging.sum()),
        "jump_sq": float(record.jump_sq.mean()),
    }
