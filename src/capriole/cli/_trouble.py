"""Work in a run folder with live progress; every kind of trouble becomes one clear line and an exit
status.
"""

import contextlib
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import typer

from ._machines import GONE, Machines, is_joined, leave

if TYPE_CHECKING:
    from ..runtime import LiveProgress


PATIENCE = 1.0
"""Seconds that a second Ctrl-C waits for compiled code before the process ends."""


class Options(NamedTuple):
    """How to run, as opposed to what: nothing here changes a draw (by more than rounding).

    Attributes:
        as_json: whether to print JSON instead of a table.
        time_budget: seconds after which the run stops cleanly; None: never.
        checkpoint_every: seconds between checkpoints.
        machines: the devices and processes to use.
        program: the command that goes on with the run, for messages.
    """

    as_json: bool = False
    time_budget: float | None = None
    checkpoint_every: float = 10.0
    machines: Machines = Machines()
    program: str = "capriole"


type Work = Callable[["LiveProgress", Callable[[Any], None]], None]
"""What a command does: called with the live display and the progress callback to use."""


def fail(message: str) -> NoReturn:
    """Print an error and leave with status 2.

    Args:
        message: what is wrong, in one line.

    Raises:
        typer.Exit: always.
    """
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(2)


def survive(
    prepare: Callable[[], tuple[Any, Work]],
    out: Path,
    options: Options,
) -> bool:
    """Work in a run folder with live progress, and stop cleanly.

    Args:
        prepare: opens the folder and returns it with the work to do.
        out: the folder, for messages.
        options: how to run.

    Returns:
        Whether this process is the one that reports.

    Raises:
        typer.Exit: with status 130 or 143 (signals), 75 (time budget) or 2 (bad input).
    """
    from ..runtime import LiveProgress, Stop

    with contextlib.ExitStack() as stack:
        stack.enter_context(_trouble_in_one_line())
        options.machines.join()  # before Stop: JAX takes SIGTERM for itself when processes meet
        stop = stack.enter_context(Stop(time_budget=options.time_budget, heard=_acknowledge))
        folder, work = prepare()
        try:
            with LiveProgress(quiet=not folder.writes) as live:
                work(live, stop.after(live.update))
        except KeyboardInterrupt:
            again = f"{options.program} resume {out}"
            typer.secho(
                f"{stop.reason}; what was finished is in {out}; go on with: {again}",
                fg="yellow",
                err=True,
            )
            raise typer.Exit(stop.exit_code) from None
        finally:
            folder.close()
    return folder.writes


def _acknowledge(number: int, count: int) -> None:
    """Say at once that a signal was heard; end the process at the second one.

    It is called in a thread: the main one may be in compiled code, which hears nothing.
    """
    if count == 1:
        name = signal.Signals(number).name
        typer.secho(
            f"{name}: stopping after the running piece, with everything kept; again: at once",
            fg="yellow",
            err=True,
        )
        return
    time.sleep(PATIENCE)  # the main thread ends the process more gently, if it hears the signal
    os._exit(128 + number)


@contextlib.contextmanager
def _trouble_in_one_line() -> Iterator[None]:
    """Warnings of the library go to stderr; errors that a user can do something about become one
    line, status 2.
    """
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
