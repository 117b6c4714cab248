"""The machine: devices, time, progress and binary files. Nothing here knows of Markov chains.

Read the files in any order: `_devices`, `_clock`, `_precision`, `_stop`, `_pace`, `_progress`,
`_display`, `_container`, `_records`, `_entry`, `_errors`.
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
from ._entry import entry_point
from ._errors import line_of, primitives, sees, shortened
from ._pace import Pace
from ._precision import PRECISIONS, computes_in_precision, in_precision, precision_context
from ._progress import OnProgress, Progress, begin_stage, is_told, pulse, say_note, telling
from ._records import from_plain, to_plain
from ._require import require
from ._stop import EXIT_OUT_OF_TIME, Stop, check_stop, is_stop_active

__all__ = [
    "EXIT_OUT_OF_TIME",
    "PRECISIONS",
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
    "computes_in_precision",
    "copied",
    "divided",
    "divided_map",
    "duration",
    "entry_point",
    "flush_folder",
    "from_plain",
    "in_precision",
    "is_first_process",
    "is_stop_active",
    "is_told",
    "line_of",
    "own",
    "precision_context",
    "primitives",
    "pulse",
    "read_container",
    "require",
    "say_note",
    "sees",
    "shortened",
    "shown",
    "shows_progress",
    "telling",
    "to_plain",
    "watched",
    "whole",
    "write_atomically",
    "write_container",
]
