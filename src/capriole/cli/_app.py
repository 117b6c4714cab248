"""The commands of ``capriole``."""

from pathlib import Path
from typing import Annotated

import typer

from ._options import (
    AsJson,
    Budget,
    Compare,
    Criterion,
    Dim,
    Every,
    FitChains,
    FitDraws,
    FitEffective,
    FitTrainSteps,
    Float32,
    Folder,
    Function,
    Init,
    Model,
    Out,
    Seed,
    Spread,
)
from ._origin import default_folder, origin_of
from ._trouble import Options, fail

app = typer.Typer(
    name="capriole",
    help="Learned MCMC kernels for a log density in JAX: find or train one, draw, judge the draws.",
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
    function: Model,
    dim: Dim = None,
    init: Init = None,
    seed: Seed = 0,
    num_chains: FitChains = 16,
    num_draws: FitDraws = None,
    num_effective: FitEffective = None,
    train_steps: FitTrainSteps = 3000,
    criterion: Criterion = "gradients",
    spread: Spread = 1.0,
    compare: Compare = None,
    out: Out = None,
    as_json: AsJson = False,
    float32: Float32 = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Find a kernel, compare it with NUTS, draw. Status 3: the draws must not be used."""
    from ._fit import start

    asked = {
        "seed": seed,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "num_effective": num_effective,
        "train_steps": train_steps,
        "criterion": criterion,
        "compare": compare,
    }
    origin = origin_of(function, dim=dim, init=init, spread=spread, float64=not float32)
    folder = out or default_folder("fit", function, seed)
    start(origin, asked, out=folder, options=Options(as_json, time_budget, checkpoint_every))


@app.command()
def sample(
    function: Model,
    kernel: Annotated[Path, typer.Option(help="The kernel's file, of `fit` or `train`.")],
    init: Init = None,
    seed: Seed = 0,
    num_chains: Annotated[int, typer.Option(min=1, help="Chains to draw.")] = 4,
    num_draws: Annotated[int, typer.Option(min=4, help="Draws of each chain.")] = 1000,
    num_warmup: Annotated[
        int, typer.Option(min=0, help="Steps of HMC before the draws, discarded.")
    ] = 200,
    thin: Annotated[int, typer.Option(min=1, help="Keep every THIN-th draw.")] = 1,
    spread: Spread = 1.0,
    out: Out = None,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Draw from a stored kernel; dimension and precision are the kernel's."""
    from ._sample import start

    asked = {
        "seed": seed,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "num_warmup": num_warmup,
        "thin": thin,
    }
    folder = out or default_folder("sample", function, seed)
    options = Options(as_json, time_budget, checkpoint_every)
    start(function, kernel, asked, init=init, spread=spread, out=folder, options=options)


@app.command()
def train(
    function: Model,
    dim: Dim = None,
    init: Init = None,
    seed: Seed = 0,
    num_leapfrogs: Annotated[int, typer.Option(min=1, help="Leapfrog steps per proposal.")] = 10,
    num_steps: Annotated[int, typer.Option(min=1, help="Training iterations.")] = 5000,
    num_chains: Annotated[int, typer.Option(min=1, help="Chains to train on.")] = 200,
    num_candidates: Annotated[
        int, typer.Option(min=1, help="Kernels that begin; the best of them goes on.")
    ] = 1,
    start_temperature: Annotated[
        float, typer.Option(min=1e-3, help="Above 1: flatten the density at first, for modes.")
    ] = 1.0,
    spread: Spread = 1.0,
    out: Out = None,
    as_json: AsJson = False,
    float32: Float32 = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Train a kernel and store it; `sample` draws from it."""
    from ._train import start

    asked = {
        "seed": seed,
        "num_leapfrogs": num_leapfrogs,
        "num_steps": num_steps,
        "num_chains": num_chains,
        "num_candidates": num_candidates,
        "start_temperature": start_temperature,
    }
    origin = origin_of(function, dim=dim, init=init, spread=spread, float64=not float32)
    folder = out or default_folder("train", function, seed)
    start(origin, asked, out=folder, options=Options(as_json, time_budget, checkpoint_every))


def _go_on(out: Path, function: str | None, options: Options, *, more: int = 0) -> None:
    """Resume the run in a folder, or extend it by draws.

    Args:
        out: the folder.
        function: the ``FILE.py:FUNCTION`` of the run, named again.
        options: how to run.
        more: further draws per chain of a finished run.

    Raises:
        typer.Exit: as the command that began the run.
    """
    from ..runs import RunFolderError, read_json
    from . import _fit, _sample, _train

    try:
        command = read_json(out / "config.json").get("command")
    except RunFolderError as error:
        fail(str(error))
    if command == "train":
        if more:
            fail(
                f"{out} holds a training, which has no draws; draw from its kernel with: "
                f"{options.program} sample FILE.py:FUNCTION --kernel {out / _train.KERNEL}"
            )
        _train.resume(out, function, options)
    elif command == "sample":
        _sample.resume(out, function, options, more=more)
    elif command in (None, "fit"):  # `read_config` says what is wrong with a file that names none
        _fit.resume(out, function, options, more=more)
    else:
        fail(f"{out} holds no run of this command, but one of {str(command)[:80]!r}")


@app.command()
def resume(
    folder: Folder,
    function: Function = None,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Go on with a run that was stopped; its draws are those of a run without a stop."""
    _go_on(folder, function, Options(as_json, time_budget, checkpoint_every))


@app.command()
def extend(
    folder: Folder,
    function: Function = None,
    num_draws: Annotated[int, typer.Option(min=1, help="Further draws per chain.")] = 1000,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Add draws to a finished `fit` or `sample`; the draws are those of a longer run."""
    _go_on(folder, function, Options(as_json, time_budget, checkpoint_every), more=num_draws)


@app.command()
def show(folder: Folder) -> None:
    """Print again what a finished run has found."""
    from ._show import show_folder

    try:
        show_folder(folder)
    except (OSError, ValueError, ImportError) as error:
        fail(str(error))


@app.command()
def doctor(
    function: Model,
    dim: Dim = None,
    init: Init = None,
    spread: Annotated[float, typer.Option(help="Standard deviation of the points around 0.")] = 1.0,
    seed: Seed = 0,
    float32: Float32 = False,
) -> None:
    """Examine your log density before time is spent on it. Status 1: something must be mended."""
    from ._doctor import diagnose

    diagnose(function, dim=dim, init=init, spread=spread, seed=seed, float64=not float32)


@app.callback()
def _options(version: Version = False) -> None:
    """Options of `capriole` itself."""
