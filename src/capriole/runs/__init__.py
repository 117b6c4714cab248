"""Runs that survive: folders, checkpoints, draws on disk, stopping cleanly. Nothing read here is
ever executed.
"""

from ._checkpoint import Checkpoint, CheckpointError, Checkpoints, number
from ._errors import RunFolderError
from ._fingerprint import check_fingerprint, fingerprint
from ._fit import CheckpointedFit
from ._folder import RunFolder, clear, read_json, size
from ._sampling import Streamed, stream_chains
from ._stop import OUT_OF_TIME, Stop
from ._store import DrawStore, open_draws
from ._training import CheckpointedTrainer

__all__ = [
    "OUT_OF_TIME",
    "Checkpoint",
    "CheckpointError",
    "CheckpointedFit",
    "CheckpointedTrainer",
    "Checkpoints",
    "DrawStore",
    "RunFolder",
    "RunFolderError",
    "Stop",
    "Streamed",
    "check_fingerprint",
    "clear",
    "fingerprint",
    "number",
    "open_draws",
    "read_json",
    "size",
    "stream_chains",
]
