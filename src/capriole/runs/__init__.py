"""Runs on disk: folders, checkpoints, stored draws. No file is ever executed.

Read in this order:

- `_files`: JSON files, the log, and the error of a folder that cannot be used;
- `_checkpoint`: what a stage stores to continue with the same digits;
- `_layout` and `_store`: draws on disk, their checks, and how they grow;
- `_coordinates`: what other readers than capriole need in a store;
- `_folder`: the folder that holds everything, and its lock;
- `_training`: `capriole.train` with checkpoints;
- `_writer` and `_sampling`: `capriole.sample` with draws on disk;
- `_found` and `_fit`: `capriole.fit` with both.
"""

from ._checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    check_fingerprint,
    fingerprint,
    number,
)
from ._files import RunFolderError, read_json, size
from ._fit import CheckpointedFit
from ._folder import RunFolder, clear
from ._sampling import StoredDraws, draw_chains_to_disk
from ._store import DrawStore, open_draws
from ._training import CheckpointedTrainer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointedFit",
    "CheckpointedTrainer",
    "Checkpoints",
    "DrawStore",
    "RunFolder",
    "RunFolderError",
    "StoredDraws",
    "check_fingerprint",
    "clear",
    "draw_chains_to_disk",
    "fingerprint",
    "number",
    "open_draws",
    "read_json",
    "size",
]
