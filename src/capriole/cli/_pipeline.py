"""Run an experiment with live progress, and turn every kind of trouble into one clear line and an exit status."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from ._app import fail
from ._progress import LiveProgress
from ._show import show_results


def execute(
    name: str,
    make: Callable[[], Any],
    *,
    preset: str,
    seed: int,
    overrides: dict[str, Any],
    out: Path,
    as_json: bool,
    float64: bool,
) -> None:
    """Build the target, run all stages, print the table or JSON. Status 130 after Ctrl-C, 2 after bad input."""
    import jax

    from .._train import TrainingDivergedError
    from ..experiments import Run, settings_for
    from ..runs import RunFolder

    if float64:
        jax.config.update("jax_enable_x64", True)
    try:
        settings = settings_for(name, preset, **overrides)
        target = make()
        folder = RunFolder(out)
        with LiveProgress() as live:
            experiment = Run(name, target, settings, folder, preset=preset, seed=seed, progress=live.update)
            results = experiment.execute()
    except KeyboardInterrupt:
        typer.secho(f"stopped; what was finished is in {out}", fg="yellow", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError, RuntimeError, TrainingDivergedError) as error:
        fail(str(error))
    if as_json:
        typer.echo((out / "results.json").read_text(encoding="utf-8"), nl=False)
    else:
        show_results(json.loads((out / "results.json").read_text(encoding="utf-8")))
        typer.echo(f"everything is in {out}")
    del results
