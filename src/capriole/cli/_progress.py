"""Live progress: a bar per stage on a terminal, plain lines elsewhere. All of it goes to stderr."""

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

LABELS = {
    "loss": ("loss", "{:.3g}"),
    "acceptance_rate": ("accept", "{:.2f}"),
    "temperature": ("T", "{:.3g}"),
    "ess": ("ESS", "{:.0f}"),
    "diverging": ("divergent", "{:.0f}"),
}


class LiveProgress:
    """Shows `capriole.Progress` events; ``with LiveProgress() as live: ... progress=live.update``.

    Args:
        plain_seconds: seconds between two lines of a stage where there is no terminal.
        quiet: whether to show nothing.
    """

    def __init__(self, *, plain_seconds: float = 5.0, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self.plain_seconds = plain_seconds
        self.tasks: dict[str, Any] = {}
        self.last: dict[str, float] = {}
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:>6}/{task.total}"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bars.start()
        else:
            self.console.print("compiling; the first figures take some seconds")
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.bars.stop()

    def say(self, line: str) -> None:
        """Print a line above the bars.

        Args:
            line: the line.
        """
        self.console.print(line, highlight=False, soft_wrap=True)

    def update(self, event: Any) -> None:
        """Show one event: stage, steps done, the figures it carries, time left.

        Args:
            event: a `capriole.Progress`.
        """
        figures = figures_of(event)
        if self.console.is_terminal:
            if event.phase not in self.tasks or self.bars.tasks[self.tasks[event.phase]].finished:
                self.tasks[event.phase] = self.bars.add_task(
                    event.phase, total=event.num_steps, figures=figures
                )
            self.bars.update(self.tasks[event.phase], completed=event.step, figures=figures)
            return
        now, done = time.monotonic(), event.step >= event.num_steps
        if done or now - self.last.get(event.phase, 0.0) >= self.plain_seconds:
            self.last[event.phase] = now
            left = event.seconds / event.step * (event.num_steps - event.step)
            self.console.print(
                f"{event.phase}: {event.step}/{event.num_steps}  {figures}  {left:.0f} s left",
                highlight=False,
            )


def figures_of(event: Any) -> str:
    """``loss -3.1  accept 0.91`` and the like."""
    shown = [
        f"{label} {form.format(event.metrics[name])}"
        for name, (label, form) in LABELS.items()
        if name in event.metrics and not (name == "temperature" and event.metrics[name] == 1)
    ]
    return "  ".join(shown)
