"""What `paper toy`, `bench peers` and `calibrate` share: running cells and reporting on them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..cells import CellSpec

Preset = Annotated[str, typer.Option(help="smoke (minutes), laptop or paper.")]
Jobs = Annotated[
    int, typer.Option(min=1, help="Cells to run at a time, each in a process of its own.")
]
Out = Annotated[Path, typer.Option(help="Folder of the cell.")]
OutFor = Annotated[
    Path | None,
    typer.Option(
        help="Folder for cells and report, in runs/ unless given; finished cells in it are kept."
    ),
]


def carry_out(
    plan: Callable[[], list["CellSpec"]],
    run: Callable[..., list["CellSpec"]],
    report: Callable[[], Path],
    *,
    jobs: int,
    out: Path,
) -> None:
    """Run the planned cells that are not there yet, then report.

    Leaves with status 130 after Ctrl-C, and 2 after bad input or cells that failed.
    """
    from capriole.cli import fail

    try:
        specs = plan()
        left = sum(not spec.done for spec in specs)
        typer.echo(f"{left} of {len(specs)} cells to run, {jobs} at a time", err=True)
        failed = run(specs, jobs=jobs, on_event=lambda event: typer.echo(event.line(), err=True))
        typer.echo(f"the report is {report()}")
    except KeyboardInterrupt:
        kept = f"stopped; finished cells are kept in {out}, the same command goes on"
        typer.secho(kept, fg="yellow", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        fail(str(error))
    if failed:
        names = ", ".join(spec.path.name for spec in failed)
        fail(f"{len(failed)} of {len(specs)} cells failed: {names}")


def run_one(run_cell: Callable[..., object], *cell: Any, float64: bool = False) -> None:
    """Run one cell in this process, with progress."""
    import jax

    from capriole.cli import LiveProgress

    jax.config.update("jax_enable_x64", float64)
    with LiveProgress() as live:
        run_cell(*cell, live.update)


def names_in(text: str) -> list[str]:
    """The names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
