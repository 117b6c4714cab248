"""Sampling with checkpoints: draws go to disk, and a stage continues from its last checkpoint."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..kernels import AbstractTransition, ChainState, Key
from ..runtime import CompileClock, Devices, Progress, any_process, precision_context, whole
from ..sampling import Draws, Record, draw_chunks, means
from ._checkpoint import Checkpoints
from ._store import DrawStore
from ._writer import FLAGS, ChunkWriter

type OnDraws = Callable[[Progress, Record], None]
"""A progress callback that also sees the draws of the chunk."""


class StoredDraws(NamedTuple):
    """Draws on disk, and what they cost.

    Attributes:
        store: the draws.
        state: the state that continues the chains.
        seconds: time spent on all draws, without compiling.
        compile_seconds: time spent compiling.
        completed: False if the run was interrupted.
        thin: steps per draw.
    """

    store: DrawStore
    state: ChainState
    seconds: float
    compile_seconds: float
    completed: bool
    thin: int

    def draws(self, start: int = 0) -> Draws:
        """Read draws into memory, with their share of the seconds.

        Args:
            start: first draw.

        Returns:
            The draws from ``start`` on.

        Raises:
            RunFolderError: the store is damaged.
        """
        names = [name for name in Record._fields if name != "position"]
        stats = {name: self.store.read(f"sample_stats/{name}", start) for name in names}
        stats |= {name: stats[name].astype(np.int32) for name in FLAGS}
        record = Record(position=self.store.read_position(start), **stats)
        share = record.lp.shape[1] / max(self.store.committed, 1)
        spent = (self.seconds * share, self.compile_seconds)
        return Draws(
            record, self.state, int(record.n_steps.sum()), *spent, self.completed, self.thin
        )


def draw_chains_to_disk(
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
) -> StoredDraws:
    """`draw_chains` into a store on disk, continued from the last checkpoint of ``stage``.

    All is computed in the precision of ``state``. The draws have the same digits as those of a run
    that was never stopped. They reach the disk when a block is full, after the first chunk that
    ends ``seconds`` or more after the last write, and at the end. A thread writes them while the
    next block is drawn: memory holds two blocks whatever ``num_draws``, and drawing waits only if
    it is faster than the disk. The order is draws, counter, checkpoint, so after a crash the newest
    checkpoint describes draws that exist.

    With several processes all of them call this with the same arguments and a ``path`` in a shared
    folder: each writes its own chains, and the first one commits what all have written.
    KeyboardInterrupt ends the run after a whole chunk.

    Args:
        key: random key; the same as before to resume.
        transition: the frozen kernel.
        state: state of all chains to start from.
        path: the store's folder.
        checkpoints: where the stage's checkpoints are.
        num_draws: draws per chain in all. More than before extends the run; fewer change nothing.
        stage: name of the stage in the checkpoints.
        thin: steps per draw.
        chunk_size: draws per compiled chunk.
        seconds: time after which draws are written although no block is full.
        devices: devices that the chains are divided over, as in `draw_chains`.
        progress: called after every chunk with its draws.

    Returns:
        The draws on disk.

    Raises:
        CheckpointError: the checkpoint is damaged, or belongs to another kernel, thinning, number
            of processes or log density.
        RunFolderError: the disk refuses, or the store is damaged.
    """
    options: dict[str, Any] = {
        "stage": stage,
        "thin": thin,
        "num_draws": num_draws,
        "chunk_size": chunk_size,
    }
    with precision_context(state.position.dtype):
        writer = ChunkWriter(key, transition, state, Path(path), checkpoints, **options)
        return _written(writer, key, transition, num_draws, chunk_size, seconds, devices, progress)


def _written(
    writer: ChunkWriter,
    key: Key,
    transition: AbstractTransition,
    num_draws: int,
    chunk_size: int,
    seconds: float,
    devices: Devices | None,
    progress: OnDraws | None,
) -> StoredDraws:
    """The draws that ``writer`` still lacks, drawn and written."""
    completed, thin = True, writer.thin
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
    return StoredDraws(writer.store, whole(writer.state), *writer.spent, completed, thin)
