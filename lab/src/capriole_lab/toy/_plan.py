"""``capriole-lab paper toy``: all cells of section 5.1, one after the other or several at a time, then
the page.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

from ..cells._cells import CellSpec, Event, check_preset, run_cells, start_command
from ._settings import toy_settings

REPORT = "toy.html"


def plan(targets: list[str], num_seeds: int, preset: str, out: Path) -> list[CellSpec]:
    """The cells in the order of running: all targets at seed 0 first. Raises ValueError for
    anything unknown.
    """
    if num_seeds < 1:
        raise ValueError(f"need at least one seed, got {num_seeds}")
    for target in targets:
        toy_settings(target, preset)
    check_preset(out / "cells", preset)
    pairs = [(target, seed) for seed in range(num_seeds) for target in targets]
    return [CellSpec(target, seed, out / "cells" / f"{target}-{seed}") for target, seed in pairs]


def run_toy(
    specs: list[CellSpec],
    preset: str,
    *,
    jobs: int = 1,
    on_event: Callable[[Event], None] | None = None,
) -> list[CellSpec]:
    """Run every cell that is not there yet, see `run_cells`; returns those that failed."""
    return run_cells(specs, lambda spec: _start(spec, preset), jobs=jobs, on_event=on_event)


def _start(spec: CellSpec, preset: str) -> subprocess.Popen:
    arguments = [spec.target, str(spec.seed), "--preset", preset, "--out", str(spec.path)]
    return start_command(spec, "paper", "cell", *arguments)
