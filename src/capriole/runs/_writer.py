"""The thread that writes chunks of draws to disk while the next ones are drawn."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ..coordinates import draws_and_lp_to_user, users
from ..kernels import AbstractTransition, ChainState, Key
from ..runtime import Arrays, CompileClock, any_process, is_first_process
from ..sampling import Record, record_of, user_groups
from ._checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    check_state,
    fill,
    kernel_digest,
    number,
    to_arrays,
)
from ._files import RunFolderError
from ._store import DrawStore

FLAGS = ("accepted", "diverging")
"""Statistics that are stored as bool without thinning, as ArviZ expects; as counts with it."""


class _Chunk(NamedTuple):
    """Draws from number ``first`` on, the state after them, and seconds (running, compiling)."""

    first: int
    record: Record
    state: ChainState
    spent: tuple[float, float]


class ChunkWriter:
    """The chunks that are not yet on disk, and the thread that writes them.

    The thread has at most one block at a time. ``state`` and ``spent`` are those of the last
    checkpoint. A single process commits in the thread. Several processes commit in the main thread
    after all have written, because they can only agree there.
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
                path, example, num_draws=num_draws, parts=self.parts, chunk_size=chunk_size
            )
        any_process(False)  # the other processes open what the first one made
        if not is_first_process():
            self.store = DrawStore.open(path)
        if found is None:
            self.checkpoint()

    def _restore(self, found: Checkpoint, path: Path) -> None:
        """Continue from a checkpoint of this run; draws beyond it are dropped."""
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
        """Number of draws on disk or about to be written."""
        return (
            self.chunks[-1].first + len(self.chunks[-1].record.lp)
            if self.chunks
            else self._submitted
        )

    @property
    def is_block_full(self) -> bool:
        """Whether the pending draws reach the end of a block."""
        return self.drawn // self.store.block > self._submitted // self.store.block

    def add(self, state: ChainState, record: Record, clock: CompileClock) -> None:
        """Add a chunk to the pending ones."""
        spent = (self.earlier[0] + clock.seconds, self.earlier[1] + clock.compile_seconds)
        self.chunks.append(_Chunk(self.drawn, record, state, spent))

    def extend(self, num_draws: int) -> None:
        """Make room for ``num_draws`` draws, and store their number in a checkpoint."""
        if is_first_process():
            self.store.reserve(num_draws)
        if num_draws != self.goal:
            self.goal = num_draws
            self.checkpoint()

    def submit(self) -> None:
        """Wait for the thread, raise its error if it has one, and give it the pending chunks."""
        self._settle()
        if self.chunks:
            self._writing = self._thread.submit(self._write, self.chunks)
            self._submitted, self.chunks = self.drawn, []

    def close(self) -> None:
        """Write everything and end the thread; after a failed write nothing more is written."""
        try:
            self.submit()
            self._settle()
            if is_first_process():
                self.store.trim(self.store.committed)
                self.store.finish()
            any_process(False)
            if not is_first_process():  # its length has changed since it was opened
                self.store = DrawStore.open(self.store.path)
        finally:
            self._thread.shutdown()

    def _settle(self) -> None:
        """Wait for the thread in all processes, and commit what all have written."""
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
        """Write chunks and return the last; those that an interrupted call wrote stay."""
        fresh = [chunk for chunk in chunks if chunk.first >= self.store.committed]
        if not fresh:
            return None
        with jax.enable_x64(self._x64):  # a caller's `with` does not reach other threads
            self.store.write(self._groups([chunk.record for chunk in fresh]), part=self.part)
            if self.parts == 1:
                self._commit(fresh[-1])
        return fresh[-1]

    def _commit(self, last: _Chunk) -> None:
        """Commit all draws to the end of ``last``, then write the checkpoint after them."""
        self.store.commit(last.first + len(last.record.lp), follow=not is_first_process())
        self.state, self.spent = last.state, last.spent
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write a checkpoint of the committed draws."""
        arrays = to_arrays({"key": self.key, "state": self.state})
        facts = {"thin": self.thin, "goal": self.goal, "kernel": self.kernel}
        facts |= {"seconds": self.spent[0], "compiling": self.spent[1]}
        self.checkpoints.write(self.stage, self.store.committed, arrays, facts)

    def _groups(self, records: list[Record]) -> dict[str, Arrays]:
        """The arrays of every group, in the user's coordinates and variables."""
        fields = {
            name: _joined([getattr(record, name) for record in records]) for name in Record._fields
        }
        position, fields["lp"] = draws_and_lp_to_user(
            self.target, fields.pop("position"), fields["lp"]
        )
        if self.thin == 1:
            fields |= {name: fields[name].astype(bool) for name in FLAGS}
        return user_groups(users(self.target), position) | {"sample_stats": fields}


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Chunks of shape (draws, ..., chains), concatenated, as (chains, draws, ...).

    Each chunk is transposed as a small matrix, which is several times faster than moving the axis
    of the whole array.
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
    """A record of zeros with the shapes and dtypes of one draw of one part of the chains."""

    def first(state: ChainState) -> Record:
        return record_of(*transition.move(key, state), state.position)

    shapes = jax.eval_shape(first, state)
    return Record(
        *(np.zeros((1, *leaf.shape[:-1], leaf.shape[-1] // parts), leaf.dtype) for leaf in shapes)
    )
