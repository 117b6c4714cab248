"""The commands of ``capriole-lab``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from capriole.cli import (
    AsJson,
    Budget,
    Chains,
    Compare,
    Coordinator,
    Criterion,
    Devices,
    Dim,
    Every,
    FitChains,
    FitDraws,
    FitTrainSteps,
    Float32,
    Float64,
    Folder,
    Function,
    Leapfrogs,
    Machines,
    NumProcesses,
    Options,
    Out,
    Preset,
    ProcessId,
    Seed,
    Spread,
    Steps,
    TrainSteps,
    fail,
)

from ..answer._command import answer
from ..faults._command import faults_app
from ..unseen._command import unseen, unseen_cell
from . import _bench, _calibrate, _paper
from ._dlgm import dlgm_app

app = typer.Typer(
    name="capriole-lab",
    help="The laboratory of capriole: the paper's experiments, the bench of peers, calibration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(_paper.app)
app.add_typer(dlgm_app)
_bench.app.command()(unseen)
_bench.app.command(hidden=True)(unseen_cell)
app.add_typer(_bench.app)
app.add_typer(faults_app)
app.command()(answer)
app.command()(_calibrate.calibrate)
app.command(hidden=True)(_calibrate.calibrate_cell)


@app.command()
def targets() -> None:
    """List the benchmark targets."""
    from ._show import show_targets

    show_targets()


@app.command()
def run(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET|FILE.py:FUNCTION",
            help="A name from `targets`, or a log density of one flat position.",
        ),
    ],
    dim: Dim = None,
    spread: Spread = 1.0,
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
    """Train a kernel on one target, compare it with well-tuned HMC, write a run folder."""
    from ._run import origin_of, start

    overrides = {
        "num_leapfrogs": num_leapfrogs,
        "train_steps": train_steps,
        "num_chains": num_chains,
        "num_steps": num_steps,
    }
    name = target.rpartition(":")[2]
    out = out or Path("runs") / f"{name}-{preset}-{seed}"
    machines = Machines(devices, coordinator, num_processes, process_id)
    options = Options(as_json, time_budget, checkpoint_every, machines)
    try:
        origin = origin_of(target, dim=dim, spread=spread, float64=float64)
    except ValueError as error:
        fail(str(error))
    start(
        origin, target=name, preset=preset, seed=seed, overrides=overrides, out=out, options=options
    )


@app.command()
def fit(
    target: Annotated[str, typer.Argument(help="A name from `targets`.")],
    seed: Seed = 0,
    num_chains: FitChains = 16,
    num_draws: FitDraws = 1000,
    train_steps: FitTrainSteps = 3000,
    criterion: Criterion = "gradients",
    compare: Compare = True,
    out: Out = None,
    as_json: AsJson = False,
    float32: Float32 = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
) -> None:
    """`capriole fit` on a benchmark target; status 3 if the verdict is `failed`."""
    from ._run import fit_target

    asked = {
        "seed": seed,
        "num_chains": num_chains,
        "num_draws": num_draws,
        "train_steps": train_steps,
        "criterion": criterion,
        "compare": compare,
    }
    folder = out or Path("runs") / f"fit-{target}-{seed}"
    fit_target(
        target,
        asked,
        float64=not float32,
        out=folder,
        options=Options(as_json, time_budget, checkpoint_every),
    )


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
    """Go on with a run that was stopped, killed or out of time; the draws are the same."""
    from ._run import go_on

    machines = Machines(None, coordinator, num_processes, process_id)
    go_on(folder, function, Options(as_json, time_budget, checkpoint_every, machines))


@app.command()
def extend(
    folder: Folder,
    function: Function = None,
    num_steps: Annotated[
        int, typer.Option(min=1, help="Further steps (draws, for `fit`) per chain.")
    ] = 1000,
    as_json: AsJson = False,
    time_budget: Budget = None,
    checkpoint_every: Every = 10.0,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_id: ProcessId = None,
) -> None:
    """Add draws of the main kernel to a finished run, as if it had been longer."""
    from ._run import go_on

    machines = Machines(None, coordinator, num_processes, process_id)
    go_on(
        folder, function, Options(as_json, time_budget, checkpoint_every, machines), more=num_steps
    )


@app.command()
def show(folder: Folder) -> None:
    """Print the table of a finished run again."""
    from capriole.cli import show_verdict

    from ._show import show_file

    try:
        if (folder / "verdict.json").exists():
            show_verdict(folder / "verdict.json")
        else:
            show_file(folder / "results.json")
    except (OSError, ValueError) as error:
        fail(str(error))


def main() -> None:
    """Entry point of the ``capriole-lab`` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
