"""Sampling that survives: draws go to disk as they come, and a stage goes on where its last
checkpoint left it.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..coordinates import drawn_to_user, users
from ..kernels import AbstractTransition, ChainState, Key
from ..models import named_arrays
from ..runtime import Arrays, CompileClock, Devices, Progress, any_process, is_first_process, whole
from ..sampling import Draws, Record, draw_chunks, means, record_of
from ._checkpoint import Checkpoint, CheckpointError, Checkpoints, fill, number, to_arrays
from ._errors import RunFolderError
from ._fingerprint import check_state, kernel_digest
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
    thin: int

    def draws(self, start: int = 0) -> Draws:
        """The draws from ``start`` on, read into memory, with their share of the seconds."""
        names = [name for name in Record._fields if name != "position"]
        stats = {name: self.store.read(f"sample_stats/{name}", start) for name in names}
        stats |= {name: stats[name].astype(np.int32) for name in _FLAGS}
        record = Record(position=self.store.read_position(start), **stats)
        share = record.lp.shape[1] / max(self.store.committed, 1)
        spent = (self.seconds * share, self.compile_seconds)
        return Draws(
            record, self.state, int(record.n_steps.sum()), *spent, self.completed, self.thin
        )


def stream_chains(
    key: Key,
    transition: AbstractTransition,
    state: ChainState,
    path: str | os.PathLike,
    checkpoints: Checkpoints,
    *,
    num_draws: int,
    stage: str = "sample",
    thin: int = 1,
    chunk_size: int = 200,
    seconds: float = 10.0,
    devices: Devices | None = None,
    progress: OnDraws | None = None,
) -> Streamed:
    """`draw_chains` into the store at ``path``, or on from the last checkpoint of ``stage``, the
    same bit for bit.

    Draws reach the disk when a block of them is full, after the first chunk that ends ``seconds``
    or more after the last time, and at the end. A thread writes them while the next block is drawn,
    so memory holds two blocks (of 16 MB) whatever ``num_draws``, and drawing waits only if it is
    faster than the disk. The order is draws, counter, checkpoint: after a crash at any point the
    newest checkpoint describes draws that are there. A ``num_draws`` larger than before extends the
    run; a smaller one changes nothing. KeyboardInterrupt ends the run after a whole chunk.

    ``devices`` is as in `draw_chains`. With several processes all of them call this with the same
    arguments and a ``path`` in a folder they share: each writes its own chains, the first one
    commits what all have written.
    """
    writer = _Writer(
        key,
        transition,
        state,
        Path(path),
        checkpoints,
        stage=stage,
        thin=thin,
        num_draws=num_draws,
        chunk_size=chunk_size,
    )
    completed = True
    if writer.drawn < num_draws:
        writer.extend(num_draws)
    left, state, last = num_draws - writer.drawn, writer.state, time.monotonic()
    with CompileClock() as clock:
        try:
            size = min(chunk_size, writer.store.block)
            options: dict[str, Any] = {
                "thin": thin,
                "first_step": writer.drawn * thin,
                "chunk_size": size,
            }
            options["devices"] = devices
            for new, record in (
                draw_chunks(key, transition, state, num_draws=left, **options) if left > 0 else ()
            ):
                writer.add(new, record, clock)
                if writer.is_block_full or any_process(time.monotonic() - last >= seconds):
                    writer.submit()
                    last = time.monotonic()
                if progress is not None:
                    progress(
                        Progress("sample", writer.drawn, num_draws, clock.elapsed, means(record)),
                        record,
                    )
        except KeyboardInterrupt:
            completed = False
        finally:
            writer.close()
    return Streamed(writer.store, whole(writer.state), *writer.spent, completed, thin)


class _Chunk(NamedTuple):
    """Draws from number ``first`` on, the state they end in, and the seconds spent and compiling
    until then.
    """

    first: int
    record: Record
    state: ChainState
    spent: tuple[float, float]


class _Writer:
    """The chunks not yet on disk, and the thread that brings them there.

    The thread has at most one block at a time. ``state`` and ``spent`` are those of the last
    checkpoint. One process commits in the thread; several commit in the main thread, once all have
    written, since only there they can agree.
    """

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
        chunk_size: int,
    ):
        self.key, self.target, self.state, self.thin = key, transition.target, state, thin
        self.kernel = kernel_digest(transition)
        self.checkpoints, self.stage = checkpoints, stage
        self.chunks: list[_Chunk] = []
        self.goal, self.earlier, self.spent = num_draws, (0.0, 0.0), (0.0, 0.0)
        self.part, self.parts = jax.process_index(), jax.process_count()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="capriole-draws")
        self._writing: Future[_Chunk | None] | None = None
        self._submitted, self._x64 = 0, jax.config.jax_enable_x64
        found = checkpoints.read(stage)
        if found is not None:
            self._restore(found, path)
        elif is_first_process():
            example = self._groups([_example(key, transition, state, self.parts)])
            self.store = DrawStore.create(
                path, *example, num_draws=num_draws, parts=self.parts, chunk_size=chunk_size
            )
        any_process(False)  # the others open what the first one made
        if not is_first_process():
            self.store = DrawStore.open(path)
        if found is None:
            self.checkpoint()

    def _restore(self, found: Checkpoint, path: Path) -> None:
        """Go on from a checkpoint, if it is one of this run; its draws are those that count."""
        parts = fill({"key": self.key, "state": self.state}, found.arrays)
        if number(found.facts, "thin") != self.thin:
            raise CheckpointError(
                f"the draws were thinned by {found.facts['thin']}, this run asks for {self.thin}"
            )
        if found.facts.get("kernel") != self.kernel:
            raise CheckpointError(
                f"the draws of the stage {self.stage!r} are of another kernel, perhaps of this one "
                "before it was "
                f"trained on; remove the stage's checkpoints in {self.checkpoints.path} to begin "
                "anew"
            )
        check_state(self.target, parts["state"])
        self.state, self.goal, self._submitted = (
            parts["state"],
            number(found.facts, "goal"),
            found.step,
        )
        self.earlier = self.spent = tuple(
            number(found.facts, n, kind=float) for n in ("seconds", "compiling")
        )
        if is_first_process():
            self.store = DrawStore.open(path, write=True)
            if self.store.layout.parts != self.parts:
                raise CheckpointError(
                    f"{path} is written by {self.store.layout.parts} processes, now there are "
                    f"{self.parts}; resume "
                    "with as many as before"
                )
            self.store.trim(found.step)

    @property
    def drawn(self) -> int:
        """Draws on disk or on their way there."""
        return (
            self.chunks[-1].first + len(self.chunks[-1].record.lp)
            if self.chunks
            else self._submitted
        )

    @property
    def is_block_full(self) -> bool:
        """Whether the draws not yet handed to the thread reach the end of a block."""
        return self.drawn // self.store.block > self._submitted // self.store.block

    def add(self, state: ChainState, record: Record, clock: CompileClock) -> None:
        """Take over a chunk."""
        spent = (self.earlier[0] + clock.seconds, self.earlier[1] + clock.compile_seconds)
        self.chunks.append(_Chunk(self.drawn, record, state, spent))

    def extend(self, num_draws: int) -> None:
        """Make room for ``num_draws`` draws, and say in a checkpoint that they are wanted."""
        if is_first_process():
            self.store.reserve(num_draws)
        if num_draws != self.goal:
            self.goal = num_draws
            self.checkpoint()

    def submit(self) -> None:
        """Wait for the thread, raise what went wrong in it, and hand it all that is pending."""
        self._settle()
        if self.chunks:
            self._writing = self._thread.submit(self._write, self.chunks)
            self._submitted, self.chunks = self.drawn, []

    def close(self) -> None:
        """Bring everything to disk and let the thread go; after a failed write nothing more is
        written.
        """
        try:
            self.submit()
            self._settle()
            if is_first_process():
                self.store.trim(self.store.committed)
            any_process(False)
            if not is_first_process():  # another length than when it was opened
                self.store = DrawStore.open(self.store.path)
        finally:
            self._thread.shutdown()

    def _settle(self) -> None:
        last, trouble = None, None
        try:
            last = None if self._writing is None else self._writing.result()
        except RunFolderError as error:
            trouble = error
        if any_process(trouble is not None):
            raise trouble or RunFolderError(
                f"another process could not write its draws to {self.store.path}"
            )
        if self.parts > 1 and last is not None and last.first >= self.store.committed:
            self._commit(last)

    def _write(self, chunks: list[_Chunk]) -> _Chunk | None:
        """Bring chunks to disk and return the last; those there already, from an interrupted call,
        stay as they are.
        """
        fresh = [chunk for chunk in chunks if chunk.first >= self.store.committed]
        if not fresh:
            return None
        with jax.enable_x64(self._x64):  # a caller's `with` does not reach other threads
            self.store.write(*self._groups([chunk.record for chunk in fresh]), part=self.part)
            if self.parts == 1:
                self._commit(fresh[-1])
        return fresh[-1]

    def _commit(self, last: _Chunk) -> None:
        """Count all draws to the end of ``last``, then write the checkpoint that continues them."""
        self.store.commit(last.first + len(last.record.lp), follow=not is_first_process())
        self.state, self.spent = last.state, last.spent
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write a checkpoint of the committed draws."""
        arrays = to_arrays({"key": self.key, "state": self.state})
        facts = {"thin": self.thin, "goal": self.goal, "kernel": self.kernel}
        facts |= {"seconds": self.spent[0], "compiling": self.spent[1]}
        self.checkpoints.write(self.stage, self.store.committed, arrays, facts)

    def _groups(self, records: list[Record]) -> tuple[Arrays, Arrays]:
        fields = {
            name: _joined([getattr(record, name) for record in records]) for name in Record._fields
        }
        position, fields["lp"] = drawn_to_user(self.target, fields.pop("position"), fields["lp"])
        if self.thin == 1:
            fields |= {name: fields[name].astype(bool) for name in _FLAGS}
        return named_arrays(users(self.target), position), fields


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Chunks (draws, ..., chains) one after the other, as (chains, draws, ...).

    Each is transposed as a matrix while it is small, which is several times faster than moving the
    axis of the whole.
    """
    _, *rest, chains = parts[0].shape
    joined = np.empty((chains, sum(map(len, parts)), *rest), parts[0].dtype)
    done = 0
    for part in parts:
        turned = np.ascontiguousarray(part.reshape(-1, chains).T)
        joined[:, done : done + len(part)] = turned.reshape(chains, len(part), *rest)
        done += len(part)
    return joined


def _example(key: Key, transition: AbstractTransition, state: ChainState, parts: int) -> Record:
    """A record of one draw of one part of the chains, zeros in the shapes and dtypes of the real
    one, not computed.
    """

    def first(state: ChainState) -> Record:
        return record_of(*transition.step(key, state), state.position)

    shapes = jax.eval_shape(first, state)
    return Record(
        *(np.zeros((1, *leaf.shape[:-1], leaf.shape[-1] // parts), leaf.dtype) for leaf in shapes)
    )
