"""Sampling: a host loop over jitted chunks of a scan.

The key of step t is ``fold_in(root, t)``; each step splits its key once and draws for all chains at
once, chains leading. So draws are bitwise the same for any chunk size and after a resume, and no
key is both split and folded.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import AbstractTransition, ChainState, Info, Key, Vector, on_devices
from ..runtime import CompileClock, Devices, Progress, check_devices, copied, divided, own, whole

type Stacked = Any


class Record(NamedTuple):
    """What is kept of a step, for every chain: the position and the figures that ArviZ users know."""

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
    """Draws of all chains: fields of ``record`` have shape (chains, draws), ``position`` (chains,
    draws, dim).

    With thinning, ``acceptance_rate`` and ``n_steps`` are the mean and the sum over the steps
    between two draws, and ``accepted``, ``diverging`` and ``nonfinite`` count them (0 to thin); the
    rest describes the last of them. ``thin`` is their number. ``state`` continues the chains;
    ``seconds`` excludes ``compile_seconds``.
    """

    record: Record
    state: ChainState
    num_gradients: int
    seconds: float
    compile_seconds: float
    completed: bool
    thin: int


def record_of(state: ChainState, info: Info, before: Vector) -> Record:
    """What is kept of a step from ``before`` to ``state``."""
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
    """A `Record` in three arrays: every array that a loop fills is worth some compilation.

    Shapes (dim, chains) and (figures, chains), in the order of `_REALS` and `_COUNTS`; draws come
    first once stacked.
    """

    position: Stacked
    reals: Stacked
    counts: Stacked


_REALS = ("lp", "acceptance_rate", "energy", "log_ratio", "log_det", "jump_sq")
_COUNTS = ("accepted", "diverging", "nonfinite", "direction", "n_steps")
_SUMMED = ("accepted", "diverging", "nonfinite", "n_steps")


def _packed(record: Record) -> _Packed:
    reals = jnp.stack([getattr(record, name) for name in _REALS])
    return _Packed(
        record.position,
        reals,
        jnp.stack([getattr(record, name).astype(jnp.int32) for name in _COUNTS]),
    )


def _unpacked(packed: _Packed) -> Record:
    """The record from arrays on the host, draws first."""
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
    """``num_draws`` draws, at most ``capacity``; the loop's length is data, so a short last chunk
    compiles nothing.
    """

    def step(state: ChainState, t: jax.Array) -> tuple[ChainState, Record]:
        new, info = transition.step(jax.random.fold_in(root, t), state)
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
) -> Iterator[tuple[ChainState, Record]]:
    """The loop of `draw_chains`, chunk by chunk: the state reached and its draws, fields (draws,
    ..., chains).

    With ``devices`` the state is divided over them; the draws are those of this process's chains.
    """
    if num_draws < 1 or thin < 1 or chunk_size < 1:
        raise ValueError(
            f"num_draws, thin and chunk_size must be positive, got {num_draws}, {thin} and "
            f"{chunk_size}"
        )
    if state.position.ndim != 2:
        raise ValueError(f"positions must have shape (dim, chains), got {state.position.shape}")
    if devices is not None:
        check_devices(devices, state.position.shape[1])
        key, state = copied(key, devices), divided(state, devices)
        transition = on_devices(transition, devices)
    for done in range(0, num_draws, chunk_size):
        length = min(chunk_size, num_draws - done)
        limits = jnp.asarray(first_step + done * thin, jnp.int32), jnp.asarray(length)
        if devices is not None:
            limits = copied(limits, devices)
        state, packed = _chunk(key, transition, state, *limits, thin, chunk_size)
        if devices is not None:
            packed = divided(packed, devices)  # as it is, but for what is the same for all chains
        yield state, _unpacked(_Packed(*(own(kept)[:length] for kept in packed)))


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

    ``first_step`` is the number of steps already taken with this key (to continue a run).
    KeyboardInterrupt ends the run after the last whole chunk and returns what is there, with
    ``completed`` False.

    ``devices``, e.g. ``jax.devices()``, divides the chains evenly over several devices, which then
    work without a word to each other; draws are those of one device but for rounding. With several
    processes (``jax.distributed``) every process gets the draws of its own chains, and all of the
    final state.
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


def health_arrays(record: Record, start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The arguments of `diagnostics.tally` that a record holds, from draw ``start`` on."""
    accepted, diverging = record.accepted[:, start:], record.diverging[:, start:]
    return (
        record.acceptance_rate[:, start:],
        accepted,
        diverging,
        int(record.nonfinite[:, start:].sum()),
    )


def chains_first(stacked: np.ndarray) -> np.ndarray:
    """(draws, chains) -> (chains, draws) and (draws, dim, chains) -> (chains, draws, dim)."""
    return np.ascontiguousarray(stacked.T if stacked.ndim == 2 else stacked.transpose(2, 0, 1))


def means(record: Record) -> dict[str, float]:
    """The figures of a chunk that progress shows."""
    return {
        "acceptance_rate": float(record.acceptance_rate.mean()),
        "diverging": float(record.diverging.sum()),
        "jump_sq": float(record.jump_sq.mean()),
    }
