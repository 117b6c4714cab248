"""``capriole-lab faults``: how often `capriole.fit` is wrong without a word."""

from pathlib import Path
from typing import Annotated

import typer

from capriole.cli import fail

faults_app = typer.Typer(
    name="faults",
    help="How often `capriole.fit` is wrong without a word.",
    no_args_is_help=True,
)


@faults_app.callback()
def faults() -> None:
    """How often `capriole.fit` is wrong without a word."""


@faults_app.command()
def modes(
    cases: Annotated[str, typer.Option(help="Comma-separated cases; all of them.")] = "",
    seeds: Annotated[int, typer.Option(min=0, help="Seeds of warm-up and search alone.")] = 100,
    fits: Annotated[int, typer.Option(min=0, help="Seeds of whole fits.")] = 5,
    out: Annotated[
        Path, typer.Option(help="Folder of the stored files; what is in it is not run again.")
    ] = Path("results") / "faults",
) -> None:
    """Modes that no start is near: are they missed, and does the verdict say so?"""
    from ._modes import run_modes

    wanted = [name.strip() for name in cases.split(",") if name.strip()]

    def report(line: str) -> None:
        typer.echo(line, err=True)

    try:
        run_modes(wanted, seeds=seeds, fits=fits, out=out, report=report)
    except (ValueError, OSError) as error:
        fail(str(error))
    typer.echo(f"the counts are in {out / 'modes.json'}")
