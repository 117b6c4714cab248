"""``capriole fit``: the front door from the shell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from ._progress import LiveProgress
from ._show import show_verdict
from ._trouble import Options, Work, survive

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
    """A new run in a new folder; ``asked`` are arguments of `capriole.fit`. Status 3 if the verdict
    is ``failed``.
    """
    from ..runs import RunFolder

    def prepare() -> tuple[Any, Work]:
        target = _target(origin, origin["function"], named)
        folder = RunFolder(out)
        return folder, _work(folder, target, asked, origin, options)

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
    """Go on with the run in ``out``; with ``more``, that many further draws of its kernel."""
    from ..runs import RunFolder, RunFolderError, read_json

    def prepare() -> tuple[Any, Work]:
        asked, origin = read_config(read_json(out / "config.json"))
        stored = origin["function"]
        if _is_file(stored) and function is None:
            raise RunFolderError(
                "this run fits a function of yours, and a run folder never chooses code to run: "
                "name it again, "
                f"capriole {'extend' if more else 'resume'} {out} {stored}"
            )
        target = _target(origin, str(function) if _is_file(stored) else stored, named)
        folder = RunFolder.open(out)
        return folder, _work(folder, target, asked, origin, options, more)

    survive(prepare, out, options)
    _show(out, options)


def read_config(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `capriole.fit` in a config.json, and how to make the target again; all of it
    checked.
    """
    from ..fitting import settings_from
    from ..runs import RunFolderError

    origin, seed = config.get("origin"), config.get("seed")
    if not isinstance(origin, dict) or not isinstance(origin.get("function"), str):
        raise RunFolderError(
            "config.json does not say how the run was started; it cannot be resumed from the shell"
        )
    dim: Any = origin.get("dim")
    spread: Any = origin.get("spread")
    sound = (
        type(seed) is int and -(2**63) <= seed < 2**63 and isinstance(origin.get("float64"), bool)
    )
    sound &= (dim is None and not _is_file(origin["function"])) or (
        type(dim) is int and 0 < dim <= 10**6
    )
    sound &= type(spread) in (int, float) and abs(spread) < 1e300
    if not sound:
        raise RunFolderError("config.json has a seed, dim, spread or precision that cannot be")
    return {"seed": seed} | settings_from(config)._asdict(), origin


def _work(
    folder: Any,
    target: Any,
    asked: dict[str, Any],
    origin: dict[str, Any],
    options: Options,
    more: int = 0,
) -> Work:
    def work(live: LiveProgress, progress: Callable[[Any], None]) -> None:
        from ..fitting import fit
        from ..runs import CheckpointedFit

        keeper = CheckpointedFit(folder, origin=origin, seconds=options.checkpoint_every, more=more)
        fit(target, progress=progress, resume=keeper, **asked)

    return work


def _show(out: Path, options: Options) -> None:
    from ..runs import read_json

    if options.as_json:
        typer.echo((out / "verdict.json").read_text(encoding="utf-8"), nl=False)
        failed = read_json(out / "verdict.json")["failed"]
    else:
        failed = show_verdict(out / "verdict.json")
        typer.echo(f"everything is in {out}")
    if failed:
        raise typer.Exit(FAILED)


def _is_file(function: str) -> bool:
    return ".py:" in function


def _target(origin: dict[str, Any], function: str, named: Callable[[str], Any] | None) -> Any:
    """The log density: a function of the user's file, or what ``named`` makes of a name without a
    file.
    """
    import jax

    jax.config.update("jax_enable_x64", origin["float64"])
    if not _is_file(function):
        if named is None:
            raise ValueError(
                f"expected FILE.py:FUNCTION, got {function!r}; benchmark targets: capriole-lab fit"
            )
        if origin["dim"] is not None or origin["spread"] != 1:
            raise ValueError(
                f"{function} has a dimension and starts of its own: leave out --dim and --spread"
            )
        return named(function)
    if origin["dim"] is None:
        raise ValueError(f"give the dimension of {function}: --dim N")
    from ._user import load_target

    return load_target(function, dim=origin["dim"], spread=origin["spread"])
