"""Run an experiment with live progress, and turn every kind of trouble into one clear line and an exit status."""

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ._app import fail
from ._machines import GONE, Machines, chosen_devices, is_joined, leave
from ._progress import LiveProgress
from ._show import show_file


class Options(NamedTuple):
    """How to run, as opposed to what: nothing here changes a draw (by more than rounding)."""

    as_json: bool = False
    time_budget: float | None = None
    checkpoint_every: float = 10.0
    machines: Machines = Machines()


type Work = Callable[[LiveProgress, Callable[[Any], None]], None]
"""What a command does: called with the live display and the progress callback to use."""


class Job(NamedTuple):
    """What to run. ``origin`` says how to make it again: command, function, dim, spread, precision, devices."""

    target: str
    preset: str
    seed: int
    settings: Any
    origin: dict[str, Any]


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
    from ..experiments import settings_for
    from ..runs import RunFolder

    def prepare() -> tuple[Any, Job, Any]:
        made_by = origin | options.machines.origin()
        known = target if origin["command"] == "run" else ""  # a user's function may be called as a target is
        job = Job(target, preset, seed, settings_for(known, preset, **overrides), made_by)
        made = _target(job, origin.get("function"))
        return RunFolder(out), job, made

    _go(prepare, lambda run: run.execute(), out, options)


def is_fit(out: Path) -> bool:
    """Whether the run in ``out`` is one of ``capriole fit``; False if there is none that can be read."""
    from ..runs import RunFolderError, read_json

    try:
        return read_json(out / "config.json").get("command") == "fit"
    except RunFolderError:
        return False


def resume(out: Path, function: str | None, options: Options, *, more: int = 0) -> None:
    """Go on with the run in ``out``; with ``more``, that many further draws of its main kernel."""
    from ..runs import RunFolder, RunFolderError

    finished = False

    def prepare() -> tuple[Any, Job, Any]:
        nonlocal finished
        folder = RunFolder.open(out)
        job = _job(folder.read_json("config.json"))
        if job.origin["command"] == "sample" and function is None:
            raise RunFolderError(
                f"this run samples a function of yours, and a run folder never chooses code to run: name it again, "
                f"capriole {'extend' if more else 'resume'} {out} {job.origin.get('function')}"
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
    from ..experiments import PRESETS, settings_from
    from ..runs import RunFolderError

    origin, seed = config.get("origin"), config.get("seed")
    if not isinstance(origin, dict) or origin.get("command") not in ("run", "sample"):
        raise RunFolderError("config.json does not say how the run was started; it cannot be resumed")
    dim, spread = origin.get("dim", 1), origin.get("spread", 1.0)
    sound = isinstance(config.get("target"), str) and config.get("preset") in PRESETS
    sound &= isinstance(seed, int) and -(2**63) <= seed < 2**63 and isinstance(origin.get("float64", False), bool)
    counts = [origin.get("devices", 1), origin.get("processes", 1)]
    sound &= all(isinstance(count, int) and 0 < count <= 10**6 for count in counts)
    sound &= isinstance(dim, int) and 0 < dim <= 10**6 and isinstance(spread, float | int) and abs(spread) < 1e300
    if not sound:
        raise RunFolderError("config.json has a target, preset, seed, dim, spread, precision or devices that cannot be")
    return Job(config["target"], config["preset"], config["seed"], settings_from(config), origin)


def _target(job: Job, function: str | None) -> Any:
    import jax

    if job.origin.get("float64"):
        jax.config.update("jax_enable_x64", True)
    if job.origin["command"] == "run":
        from ..targets import make_target

        return make_target(job.target)
    from ._user import load_target

    return load_target(str(function), dim=job.origin["dim"], spread=job.origin["spread"])


@contextlib.contextmanager
def _trouble_in_one_line() -> Iterator[None]:
    """Warnings of the library go to stderr; errors that a user can do something about become one line, status 2."""
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    try:
        yield
    except typer.Exit:  # a RuntimeError itself
        raise
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        message = str(error) or type(error).__name__
        if is_joined():
            typer.secho(f"error: {message}; {GONE}", fg="red", err=True)
            leave(2)
        fail(message)
    except Exception:
        if is_joined():  # the others would wait for this process
            traceback.print_exc()
            leave(1)
        raise


def _go(prepare: Callable[[], tuple[Any, Job, Any]], act: Callable[[Any], Any], out: Path, options: Options) -> None:
    """Prepare, act, print."""
    from ..experiments import Run
    from ..runs import size

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


def survive(prepare: Callable[[], tuple[Any, Work]], out: Path, options: Options) -> bool:
    """Work in the folder that ``prepare`` opens; whether this process is the one that reports.

    Status 130, 143 (signals), 75 (budget), 2 (bad input).
    """
    from ..runs import Stop

    with contextlib.ExitStack() as stack:
        stack.enter_context(_trouble_in_one_line())
        options.machines.join()  # before Stop: JAX takes SIGTERM for itself when processes meet
        stop = stack.enter_context(Stop(time_budget=options.time_budget))
        folder, work = prepare()
        try:
            with LiveProgress(quiet=not folder.writes) as live:
                work(live, stop.after(live.update))
        except KeyboardInterrupt:
            typer.secho(
                f"{stop.reason}; what was finished is in {out}; go on with: capriole resume {out}",
                fg="yellow",
                err=True,
            )
            raise typer.Exit(stop.exit_code) from None
        finally:
            folder.close()
    return folder.writes
