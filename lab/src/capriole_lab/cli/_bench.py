"""``capriole-lab bench``: capriole against other libraries' samplers."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="bench", help="Capriole against other libraries' samplers.", no_args_is_help=True
)

Preset = Annotated[
    str, typer.Option(help="smoke (minutes), laptop (an hour of one core) or paper.")
]
Targets = Annotated[
    str, typer.Option(help="Comma-separated targets or sets of them: toy, real, posteriordb.")
]
Samplers = Annotated[
    str, typer.Option(help="Comma-separated samplers; capriole, nuts, nuts-dense, chees and mclmc.")
]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Number of seeds; 1, with --preset paper 3.")
]
Jobs = Annotated[
    int, typer.Option(min=1, help="Cells to run at a time, each in a process of its own.")
]
Limit = Annotated[
    float, typer.Option(help="Minutes after which a cell is given up: its sampler does not pass.")
]
Out = Annotated[Path, typer.Option(help="Folder of the cell.")]
OutFor = Annotated[
    Path | None,
    typer.Option(
        help="Folder for cells, summary and report, runs/bench-peers-PRESET; finished cells in it are kept."
    ),
]


@app.command()
def peers(
    targets: Targets = "",
    samplers: Samplers = "",
    seeds: Seeds = None,
    preset: Preset = "laptop",
    jobs: Jobs = 1,
    limit: Limit = 30.0,
    out: OutFor = None,
) -> None:
    """`capriole.fit` against the peers under one protocol: who is right, and at what cost. One
    page.
    """
    from capriole.cli import fail

    from ..peers._plan import REPORT, plan, run_peers
    from ..peers._report import write_report
    from ..peers._settings import chosen_samplers, chosen_targets

    out = out or Path("runs") / f"bench-peers-{preset}"
    try:
        names, remark = chosen_targets(_split(targets))
        num_seeds = seeds or (3 if preset == "paper" else 1)
        specs = plan(names, chosen_samplers(_split(samplers)), num_seeds, preset, out)
        if remark:
            typer.secho(remark, fg="yellow", err=True)
        left = sum(not spec.done for spec in specs)
        typer.echo(f"{left} of {len(specs)} cells to run, {jobs} at a time", err=True)
        failed = run_peers(
            specs,
            preset,
            jobs=jobs,
            minutes=limit,
            on_event=lambda event: typer.echo(event.line(), err=True),
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
def cell(
    target: str, sampler: str, seed: int, preset: Preset = "laptop", out: Out = Path("cell")
) -> None:
    """One target, sampler and seed (what `peers` runs in a process of its own)."""
    import jax

    from capriole.cli import LiveProgress

    from ..peers._cell import run_cell
    from ..peers._settings import peers_settings

    jax.config.update("jax_enable_x64", peers_settings(target, preset).dtype == "float64")
    with LiveProgress() as live:
        run_cell(target, sampler, seed, preset, out, live.update)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
