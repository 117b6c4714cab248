"""``capriole-lab paper``: the experiments of the paper."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="paper", help="The experiments of the paper, measured and reported.", no_args_is_help=True
)

Preset = Annotated[
    str, typer.Option(help="smoke (minutes), laptop (half an hour on two cores) or paper.")
]
Targets = Annotated[
    str, typer.Option(help="Comma-separated targets; all of section 5.1 unless given.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]
Jobs = Annotated[
    int, typer.Option(min=1, help="Cells to run at a time, each in a process of its own.")
]
Out = Annotated[Path, typer.Option(help="Folder of the cell.")]
OutFor = Annotated[
    Path | None,
    typer.Option(
        help="Folder for cells and report, runs/paper-toy-PRESET; finished cells in it are kept."
    ),
]


@app.command()
def toy(
    preset: Preset = "laptop",
    seeds: Seeds = 3,
    targets: Targets = "",
    jobs: Jobs = 2,
    out: OutFor = None,
) -> None:
    """Section 5.1: L2HMC against tuned HMC, NUTS, ChEES, look-ahead HMC and A-NICE-MC, on one page."""
    from capriole.cli import fail

    from ..toy._plan import REPORT, plan, run_toy
    from ..toy._report import write_report
    from ..toy._settings import TOY_TARGETS

    chosen = [name.strip() for name in targets.split(",") if name.strip()] or list(TOY_TARGETS)
    out = out or Path("runs") / f"paper-toy-{preset}"
    try:
        specs = plan(chosen, seeds, preset, out)
        left = sum(not spec.done for spec in specs)
        typer.echo(f"{left} of {len(specs)} cells to run, {jobs} at a time", err=True)
        failed = run_toy(
            specs, preset, jobs=jobs, on_event=lambda event: typer.echo(event.line(), err=True)
        )
        typer.echo(f"the report is {write_report(out / 'cells', out / REPORT)}")
    except KeyboardInterrupt:
        typer.secho(
            f"stopped; finished cells are kept in {out}, the same command goes on",
            fg="yellow",
            err=True,
        )
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        fail(str(error))
    if failed:
        fail(
            f"{len(failed)} of {len(specs)} cells failed: "
            f"{', '.join(spec.path.name for spec in failed)}"
        )


@app.command(hidden=True)
def cell(target: str, seed: int, preset: Preset = "laptop", out: Out = Path("cell")) -> None:
    """One target and seed of section 5.1 (what `toy` runs in a process of its own)."""
    from capriole.cli import LiveProgress

    from ..toy._cell import run_cell

    with LiveProgress() as live:
        run_cell(target, seed, preset, out, live.update)
