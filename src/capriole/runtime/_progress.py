"""Progress: what callbacks are told, and the stage that a loop is in."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from ._stop import check_stop

BEAT_SECONDS = 0.25
"""Seconds between two events that a loop sends from inside a chunk: a bar needs no more."""


class Progress(NamedTuple):
    """What a progress callback receives.

    Events with ``metrics`` come after every chunk. Those without say that a stage has begun
    (``step`` 0), or where a loop inside it is: a stage may have several, one after another.

    Attributes:
        phase: what is running.
        step: steps done.
        num_steps: steps in all, as far as is known; 0: not known.
        seconds: seconds since the phase began.
        metrics: named figures of the phase.
        note: a line for people, such as what the whole may take; mostly empty.
        expected: seconds that a stage which begins may take, as far as is known; 0: not known.
    """

    phase: str
    step: int
    num_steps: int
    seconds: float
    metrics: dict[str, float]
    note: str = ""
    expected: float = 0.0


type OnProgress = Callable[[Progress], Any] | None
"""A progress callback, or None."""


class Stages:
    """Tells a callback of stages, and of loops inside them that know nothing of the callback.

    Args:
        tell: the callback.
    """

    def __init__(self, tell: Callable[[Progress], Any]):
        self.tell, self.phase = tell, ""
        self._begun = self._told = time.monotonic()

    def __call__(self, event: Progress) -> None:
        """Pass an event on."""
        self._told = time.monotonic()
        self.tell(event)

    def begin(self, phase: str, expected: float) -> None:
        """Say that a stage begins."""
        self.phase, self._begun = phase, time.monotonic()
        self(Progress(phase, 0, 0, 0.0, {}, expected=expected))

    def note(self, text: str) -> None:
        """Say a line."""
        self(Progress(self.phase, 0, 0, time.monotonic() - self._begun, {}, text))

    def beat(self, step: int, num_steps: int) -> None:
        """Say where a loop of the stage is, if nothing was said for a moment."""
        now = time.monotonic()
        if self.phase and now - self._told >= BEAT_SECONDS:
            self(Progress(self.phase, step, num_steps, now - self._begun, {}))


_CURRENT: ContextVar[Stages | None] = ContextVar("capriole_stages", default=None)


@contextmanager
def telling(tell: OnProgress) -> Iterator[Stages | None]:
    """Make ``tell`` the one whom `begin_stage` and `pulse` reach.

    Args:
        tell: the callback; None: nobody.

    Yields:
        What passes events on to it; None if nobody is told.
    """
    stages = None if tell is None else Stages(tell)
    token = _CURRENT.set(stages)
    try:
        yield stages
    finally:
        _CURRENT.reset(token)


def begin_stage(phase: str, expected: float = 0.0) -> None:
    """Say that a stage begins, and stop before it if it is time to.

    Args:
        phase: its name for people.
        expected: seconds that it may take; 0: not known.

    Raises:
        KeyboardInterrupt: it is time to stop.
    """
    if (stages := _CURRENT.get()) is not None:
        stages.begin(phase, expected)
    check_stop()


def say_note(text: str) -> None:
    """Say a line for people.

    Args:
        text: the line.
    """
    if (stages := _CURRENT.get()) is not None:
        stages.note(text)


def is_told() -> bool:
    """Whether somebody hears of stages."""
    return _CURRENT.get() is not None


def pulse(step: int, num_steps: int) -> None:
    """Say where a loop is, between two of its pieces, and stop there if it is time to.

    Args:
        step: steps done.
        num_steps: steps in all.

    Raises:
        KeyboardInterrupt: it is time to stop.
    """
    if (stages := _CURRENT.get()) is not None:
        stages.beat(step, num_steps)
    check_stop()
