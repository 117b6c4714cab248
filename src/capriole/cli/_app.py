"""The commands of ``capriole``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ._options import AsJson, Budget, Every, Float64, Folder, Function, Out, Seed, Spread
from ._trouble import Options, fail

app = typer.Typer(
    name="capriole",
    help="Learned MCMC kernels: find a kernel for your log density, judge it against NUTS, sample.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"capriole {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_say_version, is_eager=True, help="Print the version and leave."
    ),
]


@app.command()
def fit(
    function: Annotated[
        str,
        typer.Argument(metavar="FILE.py:FUNCTION", help="Your log density of one flat position."),
    ],
    dim: Annotated[
        int | None, typer.Option(min=1, help="Dimension of the position of your log density.")
    ] = None,
    seed: Seed = 0,
    num_chains: Annotated[int, typer.Option(min=4, help="Chains of the final run.")] = 16,
    num_draws: Annotated[int, typer.Option(min=10, help="Draws of each chain.")] = 1000,
    train_steps: Annotated[
        int,
        typer.Option(
            min=0,
            help="Training iterations of a network (for tails and modes more); 0: no networks.",
        ),
    ] = 3000,
    criterion: Annotated[
        str, typer.Option(help="What counts: gradients or seconds.")
    ] = "gradients",
    spread: Spread = 1.0,
    compare: Annotated[bool, typer.Option(help="Measure NUTS too.")] = True,
    out: Out = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print verdict.json instead of the table.")
    ] = False,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute in single precision.")
    ] = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Find a good kernel by itself, judge it against NUTS, draw; status 3 if the verdict is
    `failed`.
    """
    from ._fit import start

    asked = {
        "seed": seed,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "train_steps": train_steps,
        "criterion": criterion,
        "compare": compare,
    }
    name = function.rpartition(":")[2].replace("/", "-")
    folder = out or Path("runs") / f"fit-{name}-{seed}"
    origin = {"function": function, "dim": dim, "spread": spread, "float64": not float32}
    start(origin, asked, out=folder, options=Options(as_json, time_budget, checkpoint_every))


@app.command()
def resume(
    folder: Folder,
    function: Function = None,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Go on with a run that was stopped, killed or out of time; the draws are those of a run that
    never was.
    """
    from ._fit import resume as go_on

    go_on(folder, function, Options(as_json, time_budget, checkpoint_every))


@app.command()
def extend(
    folder: Folder,
    function: Function = None,
    num_draws: Annotated[int, typer.Option(min=1, help="Further draws per chain.")] = 1000,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Add draws to a finished run; the same draws as if it had been longer from the start."""
    from ._fit import resume as go_on

    go_on(folder, function, Options(as_json, time_budget, checkpoint_every), more=num_draws)


@app.command()
def doctor(
    function: Annotated[
        str,
        typer.Argument(metavar="FILE.py:FUNCTION", help="Your log density of one flat position."),
    ],
    dim: Annotated[int, typer.Option(min=1, help="Dimension of the position.")],
    spread: Annotated[float, typer.Option(help="Standard deviation of the points around 0.")] = 1.0,
    seed: Seed = 0,
    float64: Float64 = False,
) -> None:
    """Examine your log density before time is spent on it. Status 1 if something must be mended."""
    from ._doctor import diagnose

    diagnose(function, dim=dim, spread=spread, seed=seed, float64=float64)


@app.command()
def show(folder: Folder) -> None:
    """Print the verdict of a finished run again."""
    from ._show import show_verdict

    try:
        show_verdict(folder / "verdict.json")
    except (OSError, ValueError) as error:
        fail(str(error))


@app.callback()
def _options(version: Version = False) -> None:
    """Options of `capriole` itself."""


def main() -> None:
    """Entry point of the ``capriole`` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
