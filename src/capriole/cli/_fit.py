"""``capriole fit``: `capriole.fit` in a run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ._origin import Loaded, function_again, precision_of, read_origin, target_of
from ._show import show_draws, show_verdict
from ._trouble import Options, Work, survive

if TYPE_CHECKING:
    from ..runtime import LiveProgress

FAILED = 3
"""Exit status of a run that ended but whose draws must not be trusted."""


def start(
    origin: dict[str, Any],
    asked: dict[str, Any],
    *,
    out: Path,
    options: Options,
    named: Callable[[str], Any] | None = None,
) -> None:
    """Run `capriole.fit` in a new folder and print the verdict.

    Args:
        origin: how to make the log density again: function, dim, spread, float64.
        asked: arguments of `capriole.fit`.
        out: the folder.
        options: how to run.
        named: makes a log density of a name without a file.

    Raises:
        typer.Exit: with status 3 if the verdict is ``failed``; else as `survive`.
    """
    from ..runs import RunFolder

    def prepare() -> tuple[Any, Work]:
        loaded = target_of(origin, origin["function"], named)
        folder = RunFolder(out)
        spread = {} if loaded.init is None else {"spread": origin["spread"]}
        return folder, _work(folder, loaded, spread | asked, origin, options)

    survive(prepare, out, options)
    _show(out, options)


def resume(
    out: Path,
    function: str | None,
    options: Options,
    *,
    more: int = 0,
    named: Callable[[str], Any] | None = None,
) -> None:
    """Go on with a run of `start`, and print the verdict.

    Args:
        out: the folder.
        function: the ``FILE.py:FUNCTION`` of the run, named again; None: as the folder has it.
        options: how to run.
        more: further draws per chain of the kernel of a finished run.
        named: makes a log density of a name without a file.

    Raises:
        typer.Exit: with status 3 if the verdict is ``failed``; else as `survive`.
    """
    from ..runs import RunFolder, read_json

    def prepare() -> tuple[Any, Work]:
        asked, origin = read_config(read_json(out / "config.json"))
        command = "extend" if more else "resume"
        name = function_again(origin, function, out, command=command, program=options.program)
        loaded = target_of(origin, name, named)
        folder = RunFolder.open(out)
        return folder, _work(folder, loaded, asked, origin, options, more)

    survive(prepare, out, options)
    _show(out, options)


def read_config(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `capriole.fit` in a config.json, and the origin of its log density.

    Raises:
        RunFolderError: a value is missing or cannot be.
    """
    from ..fitting import settings_from

    origin, asked = read_origin(config), settings_from(config)._asdict()
    if asked["num_effective"] is not None:
        asked["num_draws"] = None
    return {"seed": config["seed"]} | asked, origin


def _work(
    folder: Any,
    loaded: Loaded,
    asked: dict[str, Any],
    origin: dict[str, Any],
    options: Options,
    more: int = 0,
) -> Work:
    def work(live: "LiveProgress", progress: Callable[[Any], None]) -> None:
        from ..fitting import fit
        from ..runs import CheckpointedFit

        keeper = CheckpointedFit(folder, origin=origin, seconds=options.checkpoint_every, more=more)
        told: dict[str, Any] = {"progress": progress, "on_failure": "ignore"}  # `_show` says it
        precision = precision_of(origin)
        fit(loaded.target, loaded.init, resume=keeper, precision=precision, **told, **asked)

    return work


def _show(out: Path, options: Options) -> None:
    from ..runs import read_json

    if options.as_json:
        typer.echo((out / "verdict.json").read_text(encoding="utf-8"), nl=False)
        failed = read_json(out / "verdict.json")["failed"]
    else:
        failed = show_verdict(out / "verdict.json")
        show_draws(out)
        typer.echo(f"everything is in {out}")
    if failed:
        raise typer.Exit(FAILED)
