"""What the machine has: devices, clocks, files that hold arrays, progress."""

from ._clock import CompileClock
from ._container import (
    Arrays,
    checksum,
    flush_folder,
    read_container,
    write_atomically,
    write_container,
)
from ._devices import (
    Devices,
    any_process,
    check_devices,
    copied,
    divided,
    divided_map,
    is_first_process,
    own,
    whole,
)
from ._progress import OnProgress, Progress
from ._require import require

__all__ = [
    "Arrays",
    "CompileClock",
    "Devices",
    "OnProgress",
    "Progress",
    "any_process",
    "check_devices",
    "checksum",
    "copied",
    "divided",
    "divided_map",
    "flush_folder",
    "is_first_process",
    "own",
    "read_container",
    "require",
    "whole",
    "write_atomically",
    "write_container",
]
