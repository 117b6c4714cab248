"""``capriole-lab calibrate``: trained kernels put on trial, and planted bugs that the trial must find."""

from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[str, typer.Option(help="smoke (minutes), laptop (a few minutes) or paper.")]
Only = Annotated[
    str,
    typer.Option(
        help="Comma-separated: banana, mog, funnel, normal, hierarchy, logistic; else all."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Jobs = Annotated[
    int, typer.Option(min=1, help="Cells to run at a time, each in a process of its own.")
]
Out = Annotated[Path, typer.Option(help="Folder of the cell.")]
OutFor = Annotated[
    Path | None,
    typer.Option(
        help="Folder for cells, figures and report, runs/calibration-PRESET; finished cells in it are kept."
    ),
]


def calibrate(
    preset: Preset = "laptop", only: Only = "", seed: Seed = 0, jobs: Jobs = 2, out: OutFor = None
) -> None:
    """Statistical trial of trained kernels: invariance, exact tests, simulation-based calibration;
    planted bugs too.
    """
    from capriole.cli import fail

    from ..calibration._plan import REPORT, plan, run_calibration
    from ..calibration._report import write_report

    out = out or Path("runs") / f"calibration-{preset}"
    try:
        specs = plan([name.strip() for name in only.split(",") if name.strip()], seed, preset, out)
        left = sum(not spec.done for spec in specs)
        typer.echo(f"{left} of {len(specs)} cells to run, {jobs} at a time", err=True)
        failed = run_calibration(
            specs, preset, jobs=jobs, on_event=lambda event: typer.echo(event.line(), err=True)
        )
        found = write_report(out / "cells", out / REPORT)
    except KeyboardInterrupt:
        typer.secho(
            f"stopped; finished cells are kept in {out}, the same command goes on",
            fg="yellow",
            err=True,
        )
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        fail(str(error))
    for line in found.lines:
        typer.echo(line)
    typer.echo(f"the report is {found.path}")
    if failed:
        fail(
            f"{len(failed)} of {len(specs)} cells failed: "
            f"{', '.join(spec.path.name for spec in failed)}"
        )
    if not found.passed:
        raise typer.Exit(3)


def calibrate_cell(
    name: str, seed: int, preset: Preset = "laptop", out: Out = Path("cell")
) -> None:
    """One target or model (what `calibrate` runs in a process of its own)."""
    import jax

    from capriole.cli import LiveProgress

    from ..calibration._plan import run_cell

    jax.config.update("jax_enable_x64", True)
    with LiveProgress() as live:
        run_cell(name, seed, preset, out, live.update)
