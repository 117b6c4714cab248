"""``capriole-lab bench``: capriole against other libraries' samplers."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ._cells import Jobs, Out, OutFor, Preset, carry_out, names_in, run_one

app = typer.Typer(
    name="bench", help="Capriole against other libraries' samplers.", no_args_is_help=True
)

Targets = Annotated[
    str, typer.Option(help="Comma-separated targets or sets of them: toy, real, posteriordb.")
]
Samplers = Annotated[
    str, typer.Option(help="Comma-separated samplers; capriole, nuts, nuts-dense, chees and mclmc.")
]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Number of seeds; 1, with --preset paper 3.")
]
Limit = Annotated[
    float, typer.Option(help="Minutes after which a cell is given up: its sampler does not pass.")
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
    """`capriole.fit` against the peers under one protocol: who is right, and at what cost."""
    from ..peers._plan import plan, run_peers
    from ..peers._report import write_report
    from ..peers._settings import chosen_samplers, chosen_targets

    folder = out or Path("runs") / f"bench-peers-{preset}"

    def planned() -> list:
        names, remark = chosen_targets(names_in(targets))
        if remark:
            typer.secho(remark, fg="yellow", err=True)
        num_seeds = seeds or (3 if preset == "paper" else 1)
        return plan(names, chosen_samplers(names_in(samplers)), num_seeds, preset, folder)

    carry_out(
        planned,
        partial(run_peers, preset=preset, minutes=limit),
        lambda: write_report(folder / "cells", folder / "peers.html"),
        jobs=jobs,
        out=folder,
    )


@app.command(hidden=True)
def cell(
    target: str, sampler: str, seed: int, preset: Preset = "laptop", out: Out = Path("cell")
) -> None:
    """One target, sampler and seed (what `peers` runs in a process of its own)."""
    from ..peers._cell import run_cell
    from ..peers._settings import peers_settings

    float64 = peers_settings(target, preset).dtype == "float64"
    run_one(run_cell, target, sampler, seed, preset, out, float64=float64)
