"""Training a kernel: objectives, schedules, the loop, restarts, `capriole.train`."""

from ._api import train
from ._loop import (
    Metrics,
    Recipe,
    Snapshot,
    TrainingDivergedError,
    TrainResult,
    TrainState,
    init_train_state,
    train_kernel,
    train_step,
)
from ._objectives import AbstractObjective, LogESJD, LogJump, PaperLoss, WeightedSum
from ._restarts import Trainer, on_these_devices, train_best
from ._schedules import adam, cooling, decay

__all__ = [
    "AbstractObjective",
    "LogESJD",
    "LogJump",
    "Metrics",
    "PaperLoss",
    "Recipe",
    "Snapshot",
    "TrainResult",
    "TrainState",
    "Trainer",
    "TrainingDivergedError",
    "WeightedSum",
    "adam",
    "cooling",
    "decay",
    "init_train_state",
    "on_these_devices",
    "train",
    "train_best",
    "train_kernel",
    "train_step",
]
