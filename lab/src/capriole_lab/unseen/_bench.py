"""All unseen targets, each in a process of its own, and the table of what came out."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capriole.runtime import write_atomically

from ..cells import CellSpec, Event, run_cells
from ._cell import CELL, as_json, give_up
from ._table import UNSEEN, check_name

SUMMARY = "summary"
"""Name of the tables, which end in ``.md`` and ``.json``."""


def plan(targets: list[str], seeds: list[int], out: Path) -> list[CellSpec]:
    """The cells in the order of running: all targets at the first seed come first.

    Args:
        targets: Keys of `UNSEEN`; all of them if there are none.
        seeds: Seeds of the fits.
        out: Folder of all cells.

    Returns:
        One specification for each target and seed.

    Raises:
        ValueError: If a target is unknown.
    """
    names = [check_name(name) for name in targets or UNSEEN]
    return [CellSpec(name, seed, out / f"{name}-{seed}") for seed in seeds for name in names]


def run_unseen(
    specs: list[CellSpec],
    *,
    train_steps: int,
    minutes: float,
    on_event: Callable[[Event], None] | None = None,
) -> list[CellSpec]:
    """Runs every cell that is not there yet, one at a time.

    Args:
        specs: The cells, see `plan`.
        train_steps: Training iterations of a network; 0 for none.
        minutes: Limit of a cell, after which it is stored as too late.
        on_event: Called after each cell.

    Returns:
        The cells that failed to run.

    Raises:
        ValueError: If the limit is not positive.
    """
    if not minutes > 0:
        raise ValueError(f"a cell needs time: got a limit of {minutes:g} minutes")
    spent: dict[Path, float] = {}

    def start(spec: CellSpec) -> subprocess.Popen:
        spent[spec.path] = _children_seconds()
        return _start(spec, train_steps)

    def late(spec: CellSpec) -> None:
        used = _children_seconds() - spent[spec.path]
        give_up(spec.target, spec.seed, train_steps, spec.path, minutes=minutes, cpu_seconds=used)

    return run_cells(specs, start, limit=60 * minutes, give_up=late, on_event=on_event)


def _children_seconds() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _start(spec: CellSpec, train_steps: int) -> subprocess.Popen:
    """The process of a cell; what it prints goes to ``log.txt`` of the cell."""
    spec.path.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "capriole_lab", "bench", "unseen-cell", spec.target]
    asked = ["--seed", str(spec.seed), "--train-steps", str(train_steps), "--out", str(spec.path)]
    with (spec.path / "log.txt").open("w", encoding="utf-8") as log:
        return subprocess.Popen(command + asked, stdout=log, stderr=subprocess.STDOUT)


def read_cells(out: Path) -> list[dict[str, Any]]:
    """All complete cells below ``out``, in the order of seeds and of the table."""
    order = list(UNSEEN)
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob(f"*/{CELL}")]
    return sorted(cells, key=lambda cell: (cell["seed"], order.index(cell["target"])))


def check_train_steps(out: Path, train_steps: int) -> None:
    """Refuses to put cells of one configuration beside those of another.

    Args:
        out: Folder of all cells.
        train_steps: Training iterations of the cells to come.

    Raises:
        ValueError: If ``out`` holds cells with other training iterations.
    """
    others = {cell["configuration"]["train_steps"] for cell in read_cells(out)} - {train_steps}
    if others:
        raise ValueError(
            f"{out} holds cells with --train-steps {min(others)}, and those with {train_steps} "
            "do not belong beside them: give another --out"
        )


def write_summary(out: Path) -> Path:
    """Writes the tables of all complete cells below ``out``.

    Args:
        out: Folder of the cells.

    Returns:
        The table for people, in markdown; the same in JSON lies beside it.
    """
    cells = read_cells(out)
    left_out = {"truth", "versions", "recommendation"}
    rows = [{name: cell[name] for name in cell.keys() - left_out} for cell in cells]
    totals = count(cells)
    write_atomically(out / f"{SUMMARY}.json", as_json({"totals": totals, "cells": rows}))
    page = out / f"{SUMMARY}.md"
    write_atomically(page, table(cells, totals).encode())
    return page


def count(cells: list[dict[str, Any]]) -> dict[str, int]:
    """How many cells passed, were right, were silently wrong."""
    return {
        "cells": len(cells),
        "passed": sum(cell["verdict"] == "passed" for cell in cells),
        "passed_and_right": sum(
            cell["verdict"] == "passed" and cell["judged"] == "right" for cell in cells
        ),
        "silently_wrong": sum(cell["silently_wrong"] is True for cell in cells),
        "failed_but_right": sum(
            cell["verdict"] == "failed" and cell["judged"] == "right" for cell in cells
        ),
        "too_late": sum(cell["verdict"] == "too late" for cell in cells),
        "errors": sum(cell["verdict"] == "error" for cell in cells),
    }


_HEAD = (
    "target",
    "kind",
    "dim",
    "seed",
    "verdict",
    "judged",
    "chosen",
    "ESS / gradient",
    "R-hat",
    "thin",
    "gradients before",
    "gradients of the draws",
    "seconds",
    "why",
)


def table(cells: list[dict[str, Any]], totals: dict[str, int]) -> str:
    """A markdown table of cells with their totals."""
    words = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in totals.items())
    lines = [
        "# Unseen targets",
        "",
        f"Totals: {words}.",
        "",
        f"| {' | '.join(_HEAD)} |",
        f"|{' --- |' * len(_HEAD)}",
        *(f"| {' | '.join(_row(cell))} |" for cell in cells),
    ]
    return "\n".join(lines) + "\n"


def _row(cell: dict[str, Any]) -> list[str]:
    judged = cell["judged"] or "-"
    why = "; ".join([*cell["failures"], *cell["problems"]])
    return [
        cell["target"],
        cell["kind"],
        str(cell["dim"]),
        str(cell["seed"]),
        cell["verdict"],
        "**silently wrong**" if cell["silently_wrong"] else judged,
        cell["chosen"] or "-",
        *(_figure(cell[name]) for name in ("ess_per_gradient", "rhat_max")),
        _figure(cell["thin"]),
        *(_figure(cell[name]) for name in ("preparation_gradients", "num_gradients")),
        f"{cell.get('fit_seconds', cell['seconds']):.0f}",
        why.replace("|z|", "z").replace("|", "/").replace("\n", " ")[:300],
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
