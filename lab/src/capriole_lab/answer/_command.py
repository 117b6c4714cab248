"""``capriole-lab answer``: what an answer costs, beside NUTS."""

from pathlib import Path
from typing import Annotated

import typer

from capriole.cli import fail


def answer(
    targets: Annotated[str, typer.Option(help="Comma-separated targets; those of the bench.")] = "",
    num_effective: Annotated[int, typer.Option(min=10, help="Effective draws asked for.")] = 1000,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each target.")] = 3,
    peers: Annotated[Path, typer.Option(help="Stored cells of the bench of peers.")] = Path(
        "results"
    )
    / "peers",
    out: Annotated[
        Path, typer.Option(help="Folder of the stored files; what is in it is not run again.")
    ] = Path("results") / "answer",
) -> None:
    """Gradients to so many effective draws, everything included, beside the best NUTS."""
    from ._cell import run_answer

    wanted = [name.strip() for name in targets.split(",") if name.strip()]

    def report(line: str) -> None:
        typer.echo(line, err=True)

    try:
        found = run_answer(
            wanted, num_effective=num_effective, seeds=seeds, peers=peers, out=out, report=report
        )
    except (ValueError, OSError) as error:
        fail(str(error))
    for name, row in found["targets"].items():
        ratio = "no NUTS passes" if row["ratio"] is None else f"{row['ratio']:.2f} of NUTS's"
        typer.echo(f"{name}: {row['num_gradients']:,.0f} gradients, {ratio}")
    typer.echo(f"the table is in {out / 'answer.json'}")
