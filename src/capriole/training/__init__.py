"""Training a kernel.

Read in this order:

- `_objectives`: what training minimises;
- `_schedules`: the optimizer, and schedules of learning rate and temperature;
- `_step`: one iteration, a pure function;
- `_loop`: the loop over iterations, with its rollbacks and snapshots;
- `_restarts`: several candidates, of which the best continues;
- `_api`: ``capriole.train``, which puts these together.
"""

from ._api import train
from ._loop import Snapshot, TrainingDivergedError, TrainResult, train_kernel
from ._objectives import AbstractObjective, LogESJD, LogJump, PaperLoss, WeightedSum
from ._restarts import Trainer, on_these_devices, train_best
from ._schedules import adam, cooling, decay
from ._step import Metrics, Recipe, TrainState, init_train_state, train_step

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
