"""Experiments made of cells, each in a process: what toy, peers and calibration share."""

from ._cells import (
    CELL,
    CellSpec,
    Event,
    cells_by_target,
    command_of,
    plan_cells,
    read_cells,
    run_cells,
)
from ._hardware import describe, named
from ._settings import PRESETS, check_known, preset_of

__all__ = [
    "CELL",
    "PRESETS",
    "CellSpec",
    "Event",
    "cells_by_target",
    "check_known",
    "command_of",
    "describe",
    "named",
    "plan_cells",
    "preset_of",
    "read_cells",
    "run_cells",
]
