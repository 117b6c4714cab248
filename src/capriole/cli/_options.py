"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(metavar="FILE.py:NAME", help="Your log density of one position, or your model."),
]
Function = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE.py:NAME]",
        help="Your log density once more, where its file was changed or comes from elsewhere.",
    ),
]
Folder = Annotated[Path, typer.Argument(help="A run folder.")]
Dim = Annotated[
    int | None,
    typer.Option(min=1, help="Dimension of a flat position; not needed where there is an init."),
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="One position, any pytree: a name in the file, or FILE.py:NAME; `init` by default.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random in the run.")]
Spread = Annotated[
    float, typer.Option(help="Standard deviation of the starts around the init, or 0.")
]
Float32 = Annotated[bool, typer.Option("--float32/--float64", help="Single or double precision.")]
Float64 = Annotated[bool, typer.Option("--float64", help="Compute in double precision.")]
Out = Annotated[Path | None, typer.Option(help="Folder to create for the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON, not as a table.")]
Budget = Annotated[
    float | None,
    typer.Option(
        min=0.001, help="Stop cleanly after that many seconds, ready to resume (status 75)."
    ),
]
Every = Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints.")]

FitChains = Annotated[int, typer.Option(min=2, help="Chains of the final run.")]
FitDraws = Annotated[
    int | None, typer.Option(min=10, help="Draws of each chain; 1,000 by default.")
]
FitEffective = Annotated[
    int | None,
    typer.Option(
        min=10,
        help="Effective draws in the worst dimension instead: the shortest way to them is taken.",
    ),
]
FitTrainSteps = Annotated[
    int, typer.Option(min=0, help="Training iterations of a network; 0: no networks, less time.")
]
Criterion = Annotated[
    str, typer.Option(help="Effective draws per what decide: gradients or seconds.")
]
Compare = Annotated[
    bool | None,
    typer.Option(help="Measure NUTS too; by default unless effective draws are asked for."),
]

Preset = Annotated[str, typer.Option(help="smoke (seconds), laptop (a minute or two) or paper.")]
Leapfrogs = Annotated[
    int | None, typer.Option("--num-leapfrogs", min=1, help="Leapfrog steps M per proposal.")
]
TrainSteps = Annotated[int | None, typer.Option(min=1, help="Training iterations.")]
Chains = Annotated[int | None, typer.Option(min=4, help="Chains to sample.")]
Steps = Annotated[int | None, typer.Option(min=10, help="Metropolis-Hastings steps per chain.")]
Devices = Annotated[
    int | None, typer.Option(min=1, help="Devices that share the chains; 1 unless given.")
]
Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="One of several processes: where process 0 listens (docs/scale.md).",
    ),
]
NumProcesses = Annotated[int | None, typer.Option(min=1, help="How many processes there are.")]
ProcessId = Annotated[int | None, typer.Option(min=0, help="Which of them this is, from 0.")]
