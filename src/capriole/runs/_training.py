"""Training with checkpoints: a stage continues where its last checkpoint left it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels import Key, Transition, Vector
from ..runtime import Arrays, Devices, Progress, any_process
from ..training import (
    Metrics,
    Recipe,
    Snapshot,
    TrainResult,
    TrainState,
    init_train_state,
    train_kernel,
)
from ._checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    check_state,
    fill,
    number,
    to_arrays,
)
from ._files import MetricsLog

HISTORY = "history/"
"""Prefix of the arrays that hold the training history in a checkpoint."""


class CheckpointedTrainer:
    """A trainer with checkpoints, for `train_best` and for ``capriole.train(resume=...)``.

    A checkpoint is written after the first chunk that ends ``seconds`` or more after the last
    checkpoint, and when training ends or raises. A stage that is complete is read back, not trained
    again. Of several processes the first one writes.

    Args:
        checkpoints: where all stages are stored.
        seconds: time between two checkpoints.
        chunk_size: training steps per compiled chunk.
        log: a log that loses its lines beyond the point that training continues from.
        devices: as in `capriole.training.train_kernel`.

    Raises:
        CheckpointError: on the call, a checkpoint is damaged or belongs to another run.
        RunFolderError: on the call, the disk refuses.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        seconds: float = 10.0,
        chunk_size: int = 250,
        log: MetricsLog | None = None,
        devices: Devices | None = None,
    ):
        self.checkpoints, self.seconds, self.chunk_size, self.log = (
            checkpoints,
            seconds,
            chunk_size,
            log,
        )
        self.devices = devices

    def __call__(
        self,
        stage: str,
        key: Key,
        transition: Transition,
        position: Vector,
        recipe: Recipe,
        *,
        num_steps: int,
        progress: Callable[[Progress], None] | None = None,
    ) -> TrainResult:
        """`train_kernel`, from the stage's last checkpoint if it has one.

        Args:
            stage: name of the stage in the checkpoints and in progress events.
            key: random key; the same as before to resume.
            transition: the kernel to train.
            position: starts of the chains, shape (dim, chains).
            recipe: how to train.
            num_steps: training steps in all.
            progress: called after every chunk.

        Returns:
            The result of a run that was never stopped.
        """
        fresh = init_train_state(transition, position, recipe)
        found = self.checkpoints.read(stage)
        resume = None if found is None else _restored(found, key, fresh)
        if self.log is not None:
            self.log.rewind(stage, 0 if found is None else found.step)
        writer = _SnapshotWriter(self.checkpoints, stage, key, self.seconds)
        named = None if progress is None else lambda event: progress(event._replace(phase=stage))
        try:
            return train_kernel(
                key,
                transition,
                position,
                recipe,
                num_steps=num_steps,
                chunk_size=self.chunk_size,
                progress=named,
                resume=resume,
                checkpoint=writer.offer,
                devices=self.devices,
            )
        finally:
            writer.write()


class _SnapshotWriter:
    """Holds the latest snapshot, and writes it when ``seconds`` have passed."""

    def __init__(self, checkpoints: Checkpoints, stage: str, key: Key, seconds: float):
        self.checkpoints, self.stage, self.key, self.seconds = checkpoints, stage, key, seconds
        self.latest: Snapshot | None = None
        self.written = time.monotonic()

    def offer(self, snapshot: Snapshot) -> None:
        """Take the snapshot of a chunk."""
        self.latest = snapshot
        if any_process(time.monotonic() - self.written >= self.seconds):
            self.write()

    def write(self) -> None:
        """Write the latest snapshot, unless it is written already."""
        if self.latest is None:
            return
        snapshot, self.latest = self.latest, None
        arrays = to_arrays(_parts(self.key, snapshot.train_state))
        arrays |= {HISTORY + name: np.asarray(values) for name, values in snapshot.history.items()}
        facts = {name: getattr(snapshot, name) for name in ("rollbacks", "undone", "seconds")}
        facts["compiling"] = snapshot.compile_seconds
        self.checkpoints.write(self.stage, len(snapshot.history["loss"]), arrays, facts)
        self.written = time.monotonic()


def _parts(key: Key, state: TrainState) -> dict[str, Any]:
    """The stored parts of a training state: all but the log density, which the caller brings."""
    return {
        "key": key,
        "dynamics": state.transition.dynamics,
        "optimizer": state.opt_state,
        "chains": state.chains,
        "step": state.step,
    }


def _restored(found: Checkpoint, key: Key, fresh: TrainState) -> Snapshot:
    """The snapshot of a checkpoint, if it fits a fresh state of this training."""
    stored: Arrays = {
        name: value for name, value in found.arrays.items() if not name.startswith(HISTORY)
    }
    history = {
        name.removeprefix(HISTORY): v
        for name, v in found.arrays.items()
        if name.startswith(HISTORY)
    }
    parts = fill(_parts(key, fresh), stored)
    if set(history) != set(Metrics._fields) or any(
        v.shape != (found.step,) for v in history.values()
    ):
        raise CheckpointError(
            f"the checkpoint's history does not cover its {found.step} training steps"
        )
    check_state(fresh.transition.logdensity, parts["chains"])
    transition = Transition(
        fresh.transition.logdensity, parts["dynamics"], fresh.transition.context
    )
    state = TrainState(transition, parts["optimizer"], parts["chains"], parts["step"])
    spent = (number(found.facts, name, kind=float) for name in ("seconds", "compiling"))
    undone = number(found.facts, "undone")
    return Snapshot(state, history, number(found.facts, "rollbacks"), undone, *spent)
