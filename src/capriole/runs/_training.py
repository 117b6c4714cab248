"""Training that survives: checkpoints between chunks, and a stage goes on where its last checkpoint
left it.
"""

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
from ._checkpoint import Checkpoint, CheckpointError, Checkpoints, fill, number, to_arrays
from ._fingerprint import check_state
from ._metrics import MetricsLog

HISTORY = "history/"


class CheckpointedTrainer:
    """A trainer for `train_best` and for ``capriole.train(resume=...)``: every stage is kept in
    ``checkpoints``.

    A checkpoint is written after the first chunk that ends ``seconds`` or more after the last one,
    and when training ends in whatever way Python can see. A stage that is complete is read back,
    not trained again. ``log`` loses its lines beyond the point that training goes on from.
    ``devices`` is as in `capriole.training.train_kernel`; with several processes the first one
    writes.
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
        """`train`, from the stage's last checkpoint if it has one."""
        fresh = init_train_state(transition, position, recipe)
        found = self.checkpoints.read(stage)
        resume = None if found is None else _restored(found, key, fresh)
        if self.log is not None:
            self.log.rewind(stage, 0 if found is None else found.step)
        keeper = _Keeper(self.checkpoints, stage, key, self.seconds)
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
                checkpoint=keeper.offer,
                devices=self.devices,
            )
        finally:
            keeper.write()


class _Keeper:
    """Holds the latest snapshot and writes it when it is time."""

    def __init__(self, checkpoints: Checkpoints, stage: str, key: Key, seconds: float):
        self.checkpoints, self.stage, self.key, self.seconds = checkpoints, stage, key, seconds
        self.latest: Snapshot | None = None
        self.written = time.monotonic()

    def offer(self, snapshot: Snapshot) -> None:
        self.latest = snapshot
        if any_process(time.monotonic() - self.written >= self.seconds):
            self.write()

    def write(self) -> None:
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
    """What of a training state is stored: all but the log density, which is the caller's code and
    data.
    """
    return {
        "key": key,
        "dynamics": state.transition.dynamics,
        "optimizer": state.opt_state,
        "chains": state.chains,
        "step": state.step,
    }


def _restored(found: Checkpoint, key: Key, fresh: TrainState) -> Snapshot:
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
