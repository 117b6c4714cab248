"""The machine: devices, time, progress and binary files. Nothing here knows of Markov chains.

Read the files in any order: `_devices`, `_clock`, `_stop`, `_pace`, `_progress`, `_display`,
`_container`.
"""

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
from ._display import LiveProgress, duration, shown, shows_progress, watched
from ._pace import Pace
from ._progress import OnProgress, Progress, begin_stage, is_told, pulse, say_note, telling
from ._records import from_plain, to_plain
from ._require import require
from ._stop import EXIT_OUT_OF_TIME, Stop, check_stop, is_stop_active

__all__ = [
    "EXIT_OUT_OF_TIME",
    "Arrays",
    "CompileClock",
    "Devices",
    "LiveProgress",
    "OnProgress",
    "Pace",
    "Progress",
    "Stop",
    "any_process",
    "begin_stage",
    "check_devices",
    "check_stop",
    "checksum",
    "copied",
    "divided",
    "divided_map",
    "duration",
    "flush_folder",
    "from_plain",
    "is_first_process",
    "is_stop_active",
    "is_told",
    "own",
    "pulse",
    "read_container",
    "require",
    "say_note",
    "shown",
    "shows_progress",
    "telling",
    "to_plain",
    "watched",
    "whole",
    "write_atomically",
    "write_container",
]
