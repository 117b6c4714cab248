"""The machine: devices, time, progress and binary files. Nothing here knows of Markov chains.

Read the files in any order: `_devices`, `_clock`, `_precision`, `_progress`, `_container`,
`_records`, `_entry`, `_errors`.
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
from ._entry import entry_point
from ._errors import line_of, primitives, sees, shortened
from ._precision import PRECISIONS, computes_in_precision, in_precision, precision_context
from ._progress import OnProgress, Progress
from ._records import from_plain, to_plain
from ._require import require

__all__ = [
    "PRECISIONS",
    "Arrays",
    "CompileClock",
    "Devices",
    "OnProgress",
    "Progress",
    "any_process",
    "check_devices",
    "checksum",
    "computes_in_precision",
    "copied",
    "divided",
    "divided_map",
    "entry_point",
    "flush_folder",
    "from_plain",
    "in_precision",
    "is_first_process",
    "line_of",
    "own",
    "precision_context",
    "primitives",
    "read_container",
    "require",
    "sees",
    "shortened",
    "to_plain",
    "whole",
    "write_atomically",
    "write_container",
]
