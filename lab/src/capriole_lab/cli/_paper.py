"""``capriole-lab paper``: the experiments of the paper."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ._cells import Jobs, Out, OutFor, Preset, carry_out, names_in, run_one

app = typer.Typer(
    name="paper", help="The experiments of the paper, measured and reported.", no_args_is_help=True
)

Targets = Annotated[
    str, typer.Option(help="Comma-separated targets; all of section 5.1 unless given.")
]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]


@app.command()
def toy(
    preset: Preset = "laptop",
    seeds: Seeds = 3,
    targets: Targets = "",
    jobs: Jobs = 2,
    out: OutFor = None,
) -> None:
    """Section 5.1: L2HMC against tuned HMC, NUTS, ChEES, look-ahead HMC and A-NICE-MC."""
    from ..cells import command_of, run_cells
    from ..toy._report import write_report
    from ..toy._settings import TOY_TARGETS, plan

    folder = out or Path("runs") / f"paper-toy-{preset}"
    carry_out(
        lambda: plan(names_in(targets) or list(TOY_TARGETS), seeds, preset, folder),
        partial(run_cells, start=command_of("paper", "cell", preset=preset)),
        lambda: write_report(folder / "cells", folder / "toy.html"),
        jobs=jobs,
        out=folder,
    )


@app.command(hidden=True)
def cell(target: str, seed: int, preset: Preset = "laptop", out: Out = Path("cell")) -> None:
    """One target and seed of section 5.1 (what `toy` runs in a process of its own)."""
    from ..toy._cell import run_cell

    run_one(run_cell, target, seed, preset, out)
