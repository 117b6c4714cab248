"""``capriole train``: `capriole.train` in a run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ._origin import Loaded, function_again, precision_of, read_counts, read_origin, target_of
from ._show import TRAINING, show_training
from ._trouble import Options, Work, survive

if TYPE_CHECKING:
    from ..runtime import LiveProgress

COUNTS = {"num_leapfrogs": 1, "num_steps": 1, "num_chains": 1, "num_candidates": 1}
"""Whole numbers among the arguments of `capriole.train` that the command sets, and their least."""
KERNEL = "kernel.safetensors"


def start(origin: dict[str, Any], asked: dict[str, Any], *, out: Path, options: Options) -> None:
    """Train in a new folder; it then holds the kernel and ``training.json``.

    Args:
        origin: how to make the log density again: function, dim, spread, float64.
        asked: arguments of `capriole.train`.
        out: the folder.
        options: how to run.

    Raises:
        typer.Exit: as `survive`.
    """
    from ..runs import RunFolder

    def prepare() -> tuple[Any, Work]:
        loaded = target_of(origin, origin["function"])
        _check_starts(loaded, asked, origin)
        folder = RunFolder(out)
        return folder, _work(folder, loaded, asked, origin, options)

    if survive(prepare, out, options):
        _show(out, origin["function"], options)


def resume(out: Path, function: str | None, options: Options) -> None:
    """Go on with the training in a folder.

    Args:
        out: the folder.
        function: the ``FILE.py:FUNCTION`` of the run, named again.
        options: how to run.

    Raises:
        typer.Exit: as `survive`.
    """
    from ..runs import RunFolder, read_json

    name = ""

    def prepare() -> tuple[Any, Work]:
        nonlocal name
        asked, origin = read_config(read_json(out / "config.json"))
        name = function_again(origin, function, out, command="resume", program=options.program)
        loaded = target_of(origin, name)
        folder = RunFolder.open(out)
        return folder, _work(folder, loaded, asked, origin, options)

    if survive(prepare, out, options):
        _show(out, name, options)


def read_config(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of `capriole.train` in a config.json, and the origin of its log density.

    Raises:
        RunFolderError: a value is missing or cannot be.
    """
    from ..runs import RunFolderError

    origin = read_origin(config)
    temperature: Any = config.get("start_temperature")
    if type(temperature) not in (int, float):
        raise RunFolderError("config.json has a start_temperature that cannot be")
    asked = {"seed": config["seed"], "start_temperature": temperature}
    return asked | read_counts(config, COUNTS), origin


def _check_starts(loaded: Loaded, asked: dict[str, Any], origin: dict[str, Any]) -> None:
    """Raise ValueError for chains that cannot start, before a folder is made for them."""
    import jax

    from ..sampling import as_key, prepare

    key = jax.random.split(as_key(asked["seed"]), 4)[0]  # the key of `capriole.train`
    spread = _spread(loaded, origin)
    prepare(loaded.target, loaded.init, key, num_chains=asked["num_chains"], spread=spread)


def _spread(loaded: Loaded, origin: dict[str, Any]) -> float:
    """The spread around the init; a log density with starts of its own has its own."""
    return 1.0 if loaded.init is None else origin["spread"]


def _work(
    folder: Any, loaded: Loaded, asked: dict[str, Any], origin: dict[str, Any], options: Options
) -> Work:
    def work(live: "LiveProgress", progress: Callable[[Any], None]) -> None:
        from ..models import versions
        from ..runs import CheckpointedTrainer
        from ..training import train

        folder.claim({"command": "train"} | asked | {"origin": origin})
        trainer = CheckpointedTrainer(
            folder.checkpoints, seconds=options.checkpoint_every, log=folder.metrics
        )

        def watched(event: Any) -> None:
            folder.metrics.write(event)
            progress(event)

        told: dict[str, Any] = {
            "spread": _spread(loaded, origin),
            "precision": precision_of(origin),
        }
        result = train(
            loaded.target, loaded.init, progress=watched, resume=trainer, **told, **asked
        )
        if not result.completed:
            raise KeyboardInterrupt
        folder.write_kernel(result.transition, dim=loaded.dim)
        names = ("num_gradients", "seconds", "compile_seconds", "skipped_updates", "rollbacks")
        content = {name: getattr(result, name) for name in names}
        folder.write_json(TRAINING, content | {"history": result.history, "versions": versions()})

    return work


def _show(out: Path, function: str, options: Options) -> None:
    if options.as_json:
        typer.echo((out / TRAINING).read_text(encoding="utf-8"), nl=False)
        return
    show_training(out)
    typer.echo(f"draw from the kernel with: capriole sample {function} --kernel {out / KERNEL}")
