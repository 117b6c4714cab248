"""``capriole-lab run``: an experiment with live progress, in a run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import typer

from capriole.cli import (
    LiveProgress,
    Options,
    Work,
    chosen_devices,
    load_target,
    resume_fit,
    start_fit,
    survive,
)

from ._show import show_file


class Job(NamedTuple):
    """What to run; ``origin`` says how to make it again."""

    target: str
    preset: str
    seed: int
    settings: Any
    origin: dict[str, Any]


def origin_of(target: str, *, dim: int | None, spread: float, float64: bool) -> dict[str, Any]:
    """How to make the target again. Raises ValueError unless it has exactly one dimension."""
    if ".py:" not in target:
        if dim is not None or spread != 1:
            raise ValueError(
                f"{target} has a dimension and starts of its own: leave out --dim and --spread"
            )
        return {"command": "run", "float64": float64}
    if dim is None:
        raise ValueError(f"give the dimension of {target}: --dim N")
    return {
        "command": "sample",
        "function": target,
        "dim": dim,
        "spread": spread,
        "float64": float64,
    }


def start(
    origin: dict[str, Any],
    *,
    target: str,
    preset: str,
    seed: int,
    overrides: dict[str, Any],
    out: Path,
    options: Options,
) -> None:
    """A new run in a new folder."""
    from capriole.runs import RunFolder

    from ..run import settings_for

    def prepare() -> tuple[Any, Job, Any]:
        made_by = origin | options.machines.origin()
        known = (
            target if origin["command"] == "run" else ""
        )  # a user's function may be called as a target is
        job = Job(target, preset, seed, settings_for(known, preset, **overrides), made_by)
        made = _target(job, origin.get("function"))
        return RunFolder(out), job, made

    _go(prepare, lambda run: run.execute(), out, options)


def fit_target(
    target: str, asked: dict[str, Any], *, float64: bool, out: Path, options: Options
) -> None:
    """`capriole.fit` on a benchmark target, in a new folder."""
    from ..targets import make_target

    origin = {"function": target, "dim": None, "spread": 1.0, "float64": float64}
    start_fit(origin, asked, out=out, options=options, named=make_target)


def go_on(out: Path, function: str | None, options: Options, *, more: int = 0) -> None:
    """Resume or extend whatever run is in ``out``."""
    from capriole.runs import RunFolderError, read_json

    from ..targets import make_target

    try:
        is_fit = read_json(out / "config.json").get("command") == "fit"
    except RunFolderError:
        is_fit = False
    if is_fit:
        resume_fit(out, function, options, more=more, named=make_target)
    else:
        resume(out, function, options, more=more)


def resume(out: Path, function: str | None, options: Options, *, more: int = 0) -> None:
    """Go on with the run in ``out``; with ``more``, that many further draws of its main kernel."""
    from capriole.runs import RunFolder, RunFolderError

    finished = False

    def prepare() -> tuple[Any, Job, Any]:
        nonlocal finished
        folder = RunFolder.open(out)
        job = _job(folder.read_json("config.json"))
        if job.origin["command"] == "sample" and function is None:
            raise RunFolderError(
                "this run samples a function of yours, and a run folder never chooses code to "
                "run: name it again, "
                f"capriole-lab {'extend' if more else 'resume'} {out} {job.origin.get('function')}"
            )
        if (out / "results.json").exists():
            finished = folder.read_json("results.json").get("completed") is True
        return folder, job, _target(job, function)

    def act(run: Any) -> None:
        if finished or more:
            run.extend(more)
        else:
            run.execute()

    _go(prepare, act, out, options)


def _job(config: dict[str, Any]) -> Job:
    """Read and check a config.json."""
    from capriole.runs import RunFolderError

    from ..cells import PRESETS
    from ..run import settings_from

    origin, seed = config.get("origin"), config.get("seed")
    if not isinstance(origin, dict) or origin.get("command") not in ("run", "sample"):
        raise RunFolderError(
            "config.json does not say how the run was started; it cannot be resumed"
        )
    dim, spread = origin.get("dim", 1), origin.get("spread", 1.0)
    sound = isinstance(config.get("target"), str) and config.get("preset") in PRESETS
    sound &= (
        isinstance(seed, int)
        and -(2**63) <= seed < 2**63
        and isinstance(origin.get("float64", False), bool)
    )
    counts = [origin.get("devices", 1), origin.get("processes", 1)]
    sound &= all(isinstance(count, int) and 0 < count <= 10**6 for count in counts)
    sound &= (
        isinstance(dim, int)
        and 0 < dim <= 10**6
        and isinstance(spread, float | int)
        and abs(spread) < 1e300
    )
    if not sound:
        raise RunFolderError(
            "config.json has a target, preset, seed, dim, spread, precision or devices that cannot "
            "be"
        )
    return Job(config["target"], config["preset"], config["seed"], settings_from(config), origin)


def _target(job: Job, function: str | None) -> Any:
    import jax

    if job.origin.get("float64"):
        jax.config.update("jax_enable_x64", True)
    if job.origin["command"] == "run":
        from ..targets import make_target

        return make_target(job.target)
    return load_target(str(function), dim=job.origin["dim"], spread=job.origin["spread"])


def _go(
    prepare: Callable[[], tuple[Any, Job, Any]],
    act: Callable[[Any], Any],
    out: Path,
    options: Options,
) -> None:
    """Prepare, act, print."""
    from capriole.runs import size

    from ..run import Run

    def ready() -> tuple[Any, Work]:
        folder, job, target = prepare()

        def work(live: LiveProgress, progress: Callable[[Any], None]) -> None:
            run = Run(
                job.target,
                target,
                job.settings,
                folder,
                preset=job.preset,
                seed=job.seed,
                progress=progress,
                origin=job.origin,
                checkpoint_seconds=options.checkpoint_every,
                devices=chosen_devices(job.origin),
            )
            live.say(f"draws of all samplers will take up to {size(run.num_bytes)} in {out}")
            act(run)
            folder.tidy(keep=("pilot", "sample-l2hmc"))

        return folder, work

    if not survive(ready, out, options):
        return
    if options.as_json:
        typer.echo((out / "results.json").read_text(encoding="utf-8"), nl=False)
    else:
        show_file(out / "results.json")
        typer.echo(f"everything is in {out}")
