"""``capriole-lab calibrate``: trained kernels on trial, and bugs that the trial must find."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ._cells import Jobs, Out, OutFor, Preset, carry_out, names_in, run_one

Only = Annotated[
    str,
    typer.Option(
        help="Comma-separated: banana, mog, funnel, normal, hierarchy, logistic; else all."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def calibrate(
    preset: Preset = "laptop", only: Only = "", seed: Seed = 0, jobs: Jobs = 2, out: OutFor = None
) -> None:
    """Statistical trial of trained kernels: invariance, exact tests, simulation-based calibration.

    Planted bugs are on trial, too. Leaves with status 3 if anything is not as it must be.
    """
    from ..calibration._settings import plan
    from ..calibration.report._report import write_report
    from ..cells import command_of, run_cells

    folder, passed = out or Path("runs") / f"calibration-{preset}", True

    def report() -> Path:
        nonlocal passed
        found = write_report(folder / "cells", folder / "calibration.html")
        passed = found.passed
        typer.echo("\n".join(found.lines))
        return found.path

    carry_out(
        lambda: plan(names_in(only), seed, preset, folder),
        partial(run_cells, start=command_of("calibrate-cell", preset=preset)),
        report,
        jobs=jobs,
        out=folder,
    )
    if not passed:
        raise typer.Exit(3)


def calibrate_cell(
    name: str, seed: int, preset: Preset = "laptop", out: Out = Path("cell")
) -> None:
    """One target or model (what `calibrate` runs in a process of its own)."""
    from ..calibration._cell import run_cell

    run_one(run_cell, name, seed, preset, out, float64=True)
