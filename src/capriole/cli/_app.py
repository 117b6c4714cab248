"""Commands and options."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from . import _bench, _calibrate, _paper
from ._dlgm import dlgm_app

app = typer.Typer(
    name="capriole",
    help="Learned MCMC kernels: train a neural generalisation of HMC on a log density, check it, sample.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(_paper.app)
app.add_typer(dlgm_app)
app.add_typer(_bench.app)
app.command()(_calibrate.calibrate)
app.command(hidden=True)(_calibrate.calibrate_cell)


def _say_version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"capriole {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and leave.")
]
Preset = Annotated[str, typer.Option(help="smoke (seconds), laptop (a minute or two) or paper.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random in the run.")]
Out = Annotated[Path | None, typer.Option(help="Folder to create for the run.")]
Leapfrogs = Annotated[int | None, typer.Option("--num-leapfrogs", min=1, help="Leapfrog steps M per proposal.")]
TrainSteps = Annotated[int | None, typer.Option(min=1, help="Training iterations.")]
Chains = Annotated[int | None, typer.Option(min=4, help="Chains to sample.")]
Steps = Annotated[int | None, typer.Option(min=10, help="Metropolis-Hastings steps per chain.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")]
Budget = Annotated[
    float | None, typer.Option(min=0.001, help="Stop cleanly after that many seconds, ready to resume (status 75).")
]
Every = Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints.")]
Folder = Annotated[Path, typer.Argument(help="A run folder.")]
Function = Annotated[
    str | None,
    typer.Argument(metavar="[FILE.py:FUNCTION]", help="For a run of your own log density: the same, once more."),
]
Devices = Annotated[int | None, typer.Option(min=1, help="Devices that share the chains; 1 unless given.")]
Coordinator = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="One of several processes: where process 0 listens (docs/scale.md)."),
]
NumProcesses = Annotated[int | None, typer.Option(min=1, help="How many processes there are.")]
ProcessId = Annotated[int | None, typer.Option(min=0, help="Which of them this is, from 0.")]
Float64 = Annotated[bool, typer.Option("--float64", help="Compute in double precision.")]


@app.command()
def targets() -> None:
    """List the benchmark targets."""
    from ._show import show_targets

    show_targets()


@app.command()
def run(
    target: Annotated[str, typer.Argument(help="A name from `capriole targets`.")],
    preset: Preset = "laptop",
    seed: Seed = 0,
    num_leapfrogs: Leapfrogs = None,
    train_steps: TrainSteps = None,
    num_chains: Chains = None,
    num_steps: Steps = None,
    out: Out = None,
    as_json: AsJson = False,
    float64: Float64 = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
    devices: Devices = None,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Train a kernel on a benchmark target, compare it with well-tuned HMC, write a run folder."""
    from ._machines import Machines
    from ._pipeline import Options, start

    overrides = {
        "num_leapfrogs": num_leapfrogs,
        "train_steps": train_steps,
        "num_chains": num_chains,
        "num_steps": num_steps,
    }
    out = out or Path("runs") / f"{target}-{preset}-{seed}"
    machines = Machines(devices, coordinator, num_processes, process_id)
    options = Options(as_json, time_budget, checkpoint_every, machines)
    origin = {"command": "run", "float64": float64}
    start(origin, target=target, preset=preset, seed=seed, overrides=overrides, out=out, options=options)


@app.command()
def sample(
    function: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="Your log density of one flat position.")],
    dim: Annotated[int, typer.Option(min=1, help="Dimension of the position.")],
    preset: Preset = "laptop",
    seed: Seed = 0,
    num_leapfrogs: Leapfrogs = None,
    train_steps: TrainSteps = None,
    num_chains: Chains = None,
    num_steps: Steps = None,
    spread: Annotated[float, typer.Option(help="Standard deviation of the starts around 0.")] = 1.0,
    out: Out = None,
    as_json: AsJson = False,
    float64: Float64 = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
    devices: Devices = None,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Train a kernel on your own log density, sample it, compare with well-tuned HMC, write a run folder."""
    from ._machines import Machines
    from ._pipeline import Options, start

    overrides = {
        "num_leapfrogs": num_leapfrogs,
        "train_steps": train_steps,
        "num_chains": num_chains,
        "num_steps": num_steps,
    }
    name = function.rpartition(":")[2]
    out = out or Path("runs") / f"{name}-{preset}-{seed}"
    machines = Machines(devices, coordinator, num_processes, process_id)
    options = Options(as_json, time_budget, checkpoint_every, machines)
    origin = {"command": "sample", "function": function, "dim": dim, "spread": spread, "float64": float64}
    start(origin, target=name, preset=preset, seed=seed, overrides=overrides, out=out, options=options)


@app.command()
def fit(
    function: Annotated[
        str, typer.Argument(metavar="FILE.py:FUNCTION|TARGET", help="Your log density, or a name from `targets`.")
    ],
    dim: Annotated[int | None, typer.Option(min=1, help="Dimension of the position of your log density.")] = None,
    seed: Seed = 0,
    num_chains: Annotated[int, typer.Option(min=4, help="Chains of the final run.")] = 16,
    num_draws: Annotated[int, typer.Option(min=10, help="Draws of each chain.")] = 1000,
    train_steps: Annotated[
        int, typer.Option(min=0, help="Training iterations of a network (for tails and modes more); 0: no networks.")
    ] = 3000,
    criterion: Annotated[str, typer.Option(help="What counts: gradients or seconds.")] = "gradients",
    spread: Annotated[float, typer.Option(help="Standard deviation of the starts around 0.")] = 1.0,
    compare: Annotated[bool, typer.Option(help="Measure NUTS too.")] = True,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict.json instead of the table.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="Compute in single precision.")] = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """Find a good kernel by itself, judge it against NUTS, draw; status 3 if the verdict is `failed`."""
    from ._fit import start
    from ._pipeline import Options

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
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Go on with a run that was stopped, killed or out of time; the draws are those of a run that never was."""
    from ._machines import Machines

    machines = Machines(None, coordinator, num_processes, process_id)
    _go_on(folder, function, 0, as_json, time_budget, checkpoint_every, machines)


@app.command()
def extend(
    folder: Folder,
    function: Function = None,
    num_steps: Annotated[int, typer.Option(min=1, help="Further steps (draws, for `fit`) per chain.")] = 1000,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Add draws of the main kernel to a finished run; the same draws as if it had been longer from the start."""
    from ._machines import Machines

    machines = Machines(None, coordinator, num_processes, process_id)
    _go_on(folder, function, num_steps, as_json, time_budget, checkpoint_every, machines)


def _go_on(folder: Path, function: str | None, more: int, *options: Any) -> None:
    from . import _fit, _pipeline

    go_on = _fit.resume if _pipeline.is_fit(folder) else _pipeline.resume
    go_on(folder, function, _pipeline.Options(*options), more=more)


@app.command()
def doctor(
    function: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="Your log density of one flat position.")],
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
    """Print the table of a finished run again."""
    from ._show import show_file, show_verdict

    try:
        if (folder / "verdict.json").exists():
            show_verdict(folder / "verdict.json")
        else:
            show_file(folder / "results.json")
    except (OSError, ValueError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print an error and leave with status 2."""
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(2)


@app.callback()
def _options(version: Version = False) -> None:
    """Options of `capriole` itself."""


def main() -> None:
    """Entry point of the ``capriole`` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
