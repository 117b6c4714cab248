"""``capriole-lab bench unseen``: `capriole.fit` on targets that nobody tuned it to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capriole.cli import fail

if TYPE_CHECKING:
    from ..cells import Event

TrainSteps = Annotated[int, typer.Option(min=0, help="Training iterations of a network; 0: none.")]


def unseen(
    targets: Annotated[str, typer.Option(help="Comma-separated targets; all of them.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds.")] = "1",
    train_steps: TrainSteps = 3000,
    limit: Annotated[float, typer.Option(help="Minutes after which a cell is given up.")] = 30.0,
    out: Annotated[
        Path, typer.Option(help="Folder for cells and tables; finished cells in it are kept.")
    ] = Path("runs") / "bench-unseen",
) -> None:
    """`capriole.fit` on targets that nobody tuned it to: is it right, and does it say so?"""
    from ._bench import check_train_steps, plan, run_unseen, write_summary

    try:
        wanted = [name.strip() for name in targets.split(",") if name.strip()]
        specs = plan(wanted, [int(seed) for seed in seeds.split(",")], out)
        check_train_steps(out, train_steps)
        left = sum(not spec.done for spec in specs)
        typer.echo(f"{left} of {len(specs)} cells to run", err=True)

        def report(event: "Event") -> None:
            typer.echo(event.line(), err=True)
            write_summary(out)

        failed = run_unseen(specs, train_steps=train_steps, minutes=limit, on_event=report)
        typer.echo(f"the table is {write_summary(out)}")
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
        fail(f"{len(failed)} of {len(specs)} cells failed, see log.txt in their folders")


def unseen_cell(
    target: str,
    seed: Annotated[int, typer.Option(help="Seed of the fit.")] = 1,
    train_steps: TrainSteps = 3000,
    out: Annotated[Path, typer.Option(help="Folder of the cell.")] = Path("cell"),
) -> None:
    """One target at one seed (what `unseen` runs in a process of its own)."""
    from ._cell import run_cell

    try:
        run_cell(target, seed, train_steps, out)
    except ValueError as error:
        fail(str(error))
