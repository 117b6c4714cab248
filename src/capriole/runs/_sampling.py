"""Sampling that survives: draws go to disk as they come, and a stage goes on where its last checkpoint left it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from .._clock import CompileClock
from .._container import Arrays
from .._front import user_arrays
from .._sample import Draws, Record, chains_first, draw_chunks, means, record_of
from .._train import Progress
from .._transition import AbstractTransition
from .._types import ChainState, Key
from ._checkpoint import CheckpointError, Checkpoints, fill, number, to_arrays
from ._store import DrawStore

type OnDraws = Callable[[Progress, Record], None]

_FLAGS = ("accepted", "diverging")


class Streamed(NamedTuple):
    """Draws on disk: their store, the state that continues the chains, and what they cost."""

    store: DrawStore
    state: ChainState
    seconds: float
    compile_seconds: float
    completed: bool

    def draws(self, start: int = 0) -> Draws:
        """The draws from ``start`` on, read into memory, with their share of the seconds."""
        names = [name for name in Record._fields if name != "position"]
        stats = {name: self.store.read(f"sample_stats/{name}", start) for name in names}
        stats |= {name: stats[name].astype(np.int32) for name in _FLAGS}
        record = Record(position=self.store.read_position(start), **stats)
        share = record.lp.shape[1] / max(self.store.committed, 1)
        spent = (self.seconds * share, self.compile_seconds)
        return Draws(record, self.state, int(record.n_steps.sum()), *spent, self.completed)


def stream_chains(
    key: Key,
    transition: AbstractTransition,
    state: ChainState,
    path: Path,
    checkpoints: Checkpoints,
    *,
    num_draws: int,
    stage: str = "sample",
    thin: int = 1,
    chunk_size: int = 200,
    seconds: float = 10.0,
    progress: OnDraws | None = None,
) -> Streamed:
    """`draw_chains` into the store at ``path``, or on from the last checkpoint of ``stage``, the same bit for bit.

    Draws reach the disk when a block of them is full, after the first chunk that ends ``seconds`` or more after the
    last time, and at the end; so memory holds one block (16 MB) whatever ``num_draws``. The order is draws, counter,
    checkpoint: after a crash at any point the newest checkpoint describes draws that are there. A ``num_draws`` larger
    than before extends the run; a smaller one changes nothing. KeyboardInterrupt ends the run after a whole chunk.
    """
    writer = _Writer(key, transition, state, path, checkpoints, stage=stage, thin=thin, num_draws=num_draws)
    completed = True
    if writer.goal != num_draws and writer.done < num_draws:
        writer.goal = num_draws
        writer.checkpoint()
    left, state, last = num_draws - writer.done, writer.state, time.monotonic()
    with CompileClock() as clock:
        try:
            size = min(chunk_size, writer.store.block)
            options: dict[str, int] = {"thin": thin, "first_step": writer.done * thin, "chunk_size": size}
            for new, record in draw_chunks(key, transition, state, num_draws=left, **options) if left > 0 else ():
                writer.add(new, record, clock)
                if writer.pending >= writer.store.block or time.monotonic() - last >= seconds:
                    writer.commit()
                    last = time.monotonic()
                if progress is not None:
                    done = writer.done + writer.pending
                    progress(Progress("sample", done, num_draws, clock.elapsed, means(record)), record)
        except KeyboardInterrupt:
            completed = False
        finally:
            writer.commit()
    return Streamed(writer.store, writer.state, *writer.spent, completed)


class _Writer:
    """The chunks not yet on disk, and what the next checkpoint will say."""

    def __init__(
        self,
        key: Key,
        transition: AbstractTransition,
        state: ChainState,
        path: Path,
        checkpoints: Checkpoints,
        *,
        stage: str,
        thin: int,
        num_draws: int,
    ):
        self.key, self.target, self.state, self.thin = key, transition.target, state, thin
        self.checkpoints, self.stage = checkpoints, stage
        self.chunks: list[Record] = []
        self.done, self.goal, self.earlier, self.spent = 0, 0, (0.0, 0.0), (0.0, 0.0)
        found = checkpoints.read(stage)
        if found is None:
            example = self._groups([_example(key, transition, state)])
            self.goal, self.store = num_draws, DrawStore.create(path, *example, num_draws=num_draws)
            self.checkpoint()
            return
        parts = fill({"key": key, "state": state}, found.arrays)
        if number(found.facts, "thin") != thin:
            raise CheckpointError(f"the draws were thinned by {found.facts['thin']}, this run asks for {thin}")
        self.store = DrawStore.open(path, write=True)
        self.store.trim(found.step)
        self.state, self.done, self.goal = parts["state"], found.step, number(found.facts, "goal")
        self.earlier = self.spent = tuple(number(found.facts, n, kind=float) for n in ("seconds", "compiling"))

    @property
    def pending(self) -> int:
        """Draws in memory only."""
        return sum(len(chunk.lp) for chunk in self.chunks)

    def add(self, state: ChainState, record: Record, clock: CompileClock) -> None:
        """Take over a chunk."""
        self.chunks.append(record)
        self.state = state
        self.spent = (self.earlier[0] + clock.seconds, self.earlier[1] + clock.compile_seconds)

    def commit(self) -> None:
        """Bring all draws to disk, then the checkpoint that continues them."""
        if not self.chunks:
            return
        pending, chunks = self.pending, self.chunks
        self.store.append(*self._groups(chunks))
        self.chunks, self.done = [], self.done + pending
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write a checkpoint of the committed draws; only called when none are pending."""
        arrays = to_arrays({"key": self.key, "state": self.state})
        facts = {"thin": self.thin, "goal": self.goal, "seconds": self.spent[0], "compiling": self.spent[1]}
        self.checkpoints.write(self.stage, self.done, arrays, facts)

    def _groups(self, chunks: list[Record]) -> tuple[Arrays, Arrays]:
        fields = {
            name: chains_first(np.concatenate([getattr(chunk, name) for chunk in chunks])) for name in Record._fields
        }
        position = fields.pop("position")
        if self.thin == 1:
            fields |= {name: fields[name].astype(bool) for name in _FLAGS}
        return user_arrays(self.target, position), fields


def _example(key: Key, transition: AbstractTransition, state: ChainState) -> Record:
    """A record of one draw, zeros, that has the shapes and dtypes of the real ones; nothing is computed."""

    def first(state: ChainState) -> Record:
        return record_of(*transition.step(key, state), state.position)

    shapes = jax.eval_shape(first, state)
    return Record(*(np.zeros((1, *leaf.shape), leaf.dtype) for leaf in shapes))
