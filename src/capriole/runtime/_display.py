"""Live progress on stderr: bars on a terminal or in a notebook, plain lines elsewhere."""

import functools
import importlib.util
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from ._progress import OnProgress, Progress, begin_stage, telling
from ._stop import Stop, is_stop_active

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

LABELS = {
    "loss": ("loss", "{:.3g}"),
    "acceptance_rate": ("accept", "{:.2f}"),
    "temperature": ("T", "{:.3g}"),
    "ess": ("ESS", "{:.0f}"),
    "diverging": ("divergent", "{:.0f}"),
    "ess_per_gradient": ("ESS per gradient", "{:.2g}"),
    "windows": ("window", "{:.0f}"),
}


class TimeLeft:
    """Seconds left of a loop, by the steps since its first event.

    What came before the first event is not asked: that is compilation above all.
    """

    def __init__(self) -> None:
        self._first: tuple[str, int, float] | None = None
        self._last = 0

    def __call__(self, event: Progress) -> float | None:
        """Seconds left as far as is known; None where nothing is.

        Args:
            event: the newest event.
        """
        now = time.monotonic()
        if not event.step:  # a stage begins; what follows is compiled first
            self._first = None
            return None
        if self._first is None or event.phase != self._first[0] or event.step < self._last:
            self._first = (event.phase, event.step, now)
        self._last = event.step
        done = event.step - self._first[1]
        if event.step >= event.num_steps > 0:
            return 0.0
        if not event.num_steps or done <= 0:
            return None
        return (now - self._first[2]) / done * (event.num_steps - event.step)


class LiveProgress:
    """Shows `capriole.Progress` events; ``with LiveProgress() as live: ... progress=live.update``.

    Args:
        plain_seconds: seconds between two lines of a stage where there is no terminal.
        quiet: whether to show nothing.
    """

    def __init__(self, *, plain_seconds: float = 5.0, quiet: bool = False):
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self.console = stderr(quiet=quiet)
        self.plain_seconds, self.is_live = plain_seconds, has_bars(self.console)
        self.tasks: dict[str, TaskID] = {}
        self.now = ""
        self.last: dict[str, float] = {}
        self.left = TimeLeft()
        self.bars = Bars(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
        )

    def __enter__(self) -> Self:
        if self.is_live:
            self.bars.start()
        else:
            self.console.print("compiling; the first figures take some seconds")
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        if self.is_live:
            self.bars.stop()

    def __call__(self, event: Progress) -> None:
        """`update`, so that it is a callback itself."""
        self.update(event)

    def hear(self, number: int, count: int) -> None:
        """Acknowledge a signal; for `Stop`.

        Args:
            number: the signal.
            count: how many have come.
        """
        name = signal.Signals(number).name
        if count == 1:
            self.say(f"{name}: stopping as soon as the running piece has ended; again: at once")

    def say(self, line: str) -> None:
        """Print a line above the bars.

        Args:
            line: the line.
        """
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def update(self, event: Progress) -> None:
        """Show one event: stage, steps done, the figures it carries, time left.

        Args:
            event: a `capriole.Progress`.
        """
        if event.note:
            self.say(event.note)
            return
        left = self.left(event)
        words = "" if left is None else f"{duration(left)} left"
        if self.is_live:
            self._draw(event, words)
        else:
            self._print(event, words)

    def _draw(self, event: Progress, left: str) -> None:
        """The stage's bar; that of the stage before is finished."""
        if event.phase != self.now:
            self._finish()
            self.now = event.phase
        total = event.num_steps or None
        if event.phase not in self.tasks or self.bars.tasks[self.tasks[event.phase]].finished:
            may_take = f"may take {duration(event.expected)}" if event.expected else ""
            fields: dict[str, Any] = {"figures": "compiling", "count": "", "left": may_take}
            self.tasks[event.phase] = self.bars.add_task(event.phase, total=total, **fields)
        if not event.step:
            return
        if not event.num_steps:
            self.bars.update(self.tasks[event.phase], figures=figures_of(event))
            return
        self.bars.update(
            self.tasks[event.phase],
            total=total,
            # Whole only once the next stage has begun: one loop of several may be at its end.
            completed=min(event.step, event.num_steps - 1e-6),
            figures=figures_of(event),
            count=f"{event.step:>6}/{event.num_steps}",
            left=left,
        )

    def _finish(self) -> None:
        """Make the bar of the stage that runs a finished one, so that it stands still."""
        if self.now in self.tasks:
            self.bars.update(self.tasks[self.now], total=1, completed=1, left="")
            figures = self.bars.tasks[self.tasks[self.now]].fields["figures"]
            if figures == "compiling":
                self.bars.update(self.tasks[self.now], figures="")
        self.now = ""

    def _print(self, event: Progress, left: str) -> None:
        """A line, if the stage is new or whole, or nothing was said of it for a while."""
        now, done = time.monotonic(), event.step >= event.num_steps
        if event.step == 0:
            may_take = f" may take {duration(event.expected)}" if event.expected else " ..."
            self.console.print(f"{event.phase}{may_take}", highlight=False)
            self.last[event.phase] = now
        elif (done and event.metrics) or now - self.last.get(event.phase, 0) >= self.plain_seconds:
            self.last[event.phase] = now
            of = f"/{event.num_steps}" if event.num_steps else ""
            line = f"{event.phase}: {event.step}{of}  {figures_of(event)}  {left}"
            self.console.print(line.rstrip(), highlight=False)


def stderr(*, quiet: bool = False) -> "Console":
    """A console on stderr."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet)


def has_bars(console: "Console") -> bool:
    """Whether bars can be drawn: on a terminal, or in a notebook with its widgets."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal


def is_watched() -> bool:
    """Whether somebody sees stderr as it comes: it is a terminal, or this is a notebook."""
    if sys.stderr is not None and getattr(sys.stderr, "isatty", bool)():
        return True
    return "ipykernel" in sys.modules and stderr().is_jupyter


@contextmanager
def shown(progress: Callable[..., Any] | bool | None) -> Iterator[OnProgress]:
    """The callback that the argument ``progress`` of `capriole.fit` and others means.

    Args:
        progress: a callback; False: none; None: a bar if somebody sees stderr; True: a bar.

    Yields:
        The callback, or None.

    Raises:
        ValueError: it is none of these.
    """
    if progress is False or (progress is None and not is_watched()):
        yield None
    elif progress is None or progress is True:
        with LiveProgress() as live:
            yield live
    elif callable(progress):
        yield progress
    else:
        raise ValueError(f"progress must be a function, True, False or None, got {progress!r:.80}")


@contextmanager
def watched(
    progress: Callable[..., Any] | bool | None, time_budget: float | None = None
) -> Iterator[tuple[Stop, OnProgress]]:
    """The `Stop` and the callback of a call from Python, such as `capriole.fit`.

    Ctrl-C is taken where nobody else has taken it; a bar then acknowledges it at once.

    Args:
        progress: as in `shown`.
        time_budget: seconds; None: no limit.

    Yields:
        Both.
    """
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signals = (signal.SIGINT,) if is_ours and not is_stop_active() else ()
    with shown(progress) as show:
        heard = show.hear if isinstance(show, LiveProgress) else None
        with Stop(time_budget=time_budget, signals=signals, heard=heard) as stop:
            yield stop, show


def shows_progress[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Let a function's argument ``progress`` be None, True or False as well: see `shown`.

    The function gets a callback, or None. Ctrl-C is heard between pieces, and so is a callback that
    returns True.

    Args:
        function: has a keyword ``progress``, whose callback is called with an event first.

    Returns:
        The same with a bar where somebody sees it.
    """

    @functools.wraps(function)
    def showing(*args: P.args, **options: P.kwargs) -> R:
        progress: Any = options.pop("progress", None)
        with watched(progress) as (stop, show):
            live = show if isinstance(show, LiveProgress) else None
            with telling(live):
                begin_stage(function.__name__)
                if live is not None:
                    options["progress"] = lambda event, *_: live(event)
                elif show is not None:
                    options["progress"] = stop.after(show)
                return function(*args, **options)

    return showing


def figures_of(event: Progress) -> str:
    """``loss -3.1  accept 0.91`` and the like."""
    shown = [
        f"{label} {form.format(event.metrics[name])}"
        for name, (label, form) in LABELS.items()
        if name in event.metrics and not (name == "temperature" and event.metrics[name] == 1)
    ]
    return "  ".join(shown)


def duration(seconds: float) -> str:
    """Seconds in words: ``0.05 s``, ``12 s``, ``3 min``, ``2.5 h``.

    Args:
        seconds: how many.

    Returns:
        The words.
    """
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.2g} h" if seconds < 36000 else f"{seconds / 3600:,.0f} h"
