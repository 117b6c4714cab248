"""``capriole fit``: the front door from the shell."""

import json
from pathlib import Path
from typing import Any

import typer

from ._app import fail
from ._progress import LiveProgress

FAILED = 3
"""Exit status of a run that ended but whose draws must not be trusted."""


def execute(
    function: str,
    options: dict[str, Any],
    *,
    dim: int | None,
    spread: float,
    out: Path,
    as_json: bool,
    float32: bool,
) -> None:
    """Fit, write the folder, print the verdict. Status 2 after bad input, 3 if the verdict is ``failed``."""
    import jax

    from .._fit import fit
    from .._io import save, versions
    from ..runs import RunFolder

    jax.config.update("jax_enable_x64", not float32)
    try:
        target = _target(function, dim, spread)
        folder = RunFolder(out)
        with LiveProgress() as live:
            result = fit(target, progress=live.update, **options)
        folder.write_json("config.json", {"function": function, "dim": target.dim, "spread": spread} | options)
        folder.write_json("verdict.json", result.verdict.as_dict() | {"versions": versions()})
        folder.write_draws(result.tree)
        if result.transition is not None:
            save(out / "kernel.safetensors", result.transition, dim=target.dim)
        folder.close()
    except KeyboardInterrupt:
        typer.secho("stopped", fg="yellow", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(result.verdict.as_dict(), indent=2))
    else:
        typer.echo(result.verdict.table())
        for problem in result.verdict.problems:
            typer.secho(problem, fg="yellow", err=True)
        typer.echo(f"everything is in {out}")
    if result.verdict.failed:
        raise typer.Exit(FAILED)


def _target(function: str, dim: int | None, spread: float) -> Any:
    from ..targets import make_target
    from ._user import load_target

    if ".py:" not in function:
        return make_target(function)
    if dim is None:
        raise ValueError(f"give the dimension of {function}: --dim N")
    return load_target(function, dim=dim, spread=spread)
