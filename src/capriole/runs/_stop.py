"""Stopping a run cleanly: signals and a time budget, both obeyed between chunks."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from ..runtime import any_process

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a run cleanly: Ctrl-C, and what ``kill`` and batch systems send."""
EXIT_OUT_OF_TIME = 75
"""Exit status of a run that used up its time budget (``EX_TEMPFAIL``: try again)."""


class Stop:
    """Stop a run between chunks, on a signal or at the end of a time budget::

        with Stop(time_budget=3600) as stop:
            train(..., progress=stop.after(show))

    SIGINT, SIGTERM and the end of the budget let the current chunk finish. Then `check`, which the
    callback of `after` calls, raises KeyboardInterrupt, and the loops return what they have. A
    second signal ends the process at once. Handlers are installed in the main thread only, and
    restored at the end; in other threads only the budget counts. If one of several processes is to
    stop, all of them do.

    Args:
        time_budget: seconds from entering the context; None: no limit.

    Attributes:
        time_budget: as given.
        signal: number of the signal that was received, or None.

    Raises:
        ValueError: the budget is not positive.
    """

    def __init__(self, *, time_budget: float | None = None):
        if time_budget is not None and not time_budget > 0:
            raise ValueError(f"time_budget must be a positive number of seconds, got {time_budget}")
        self.time_budget = time_budget
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Remember the first signal; the second has its usual effect."""
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is used up."""
        return self.time_budget is not None and time.monotonic() - self._start >= self.time_budget

    def check(self) -> None:
        """Stop if a signal came or the budget is used up.

        Raises:
            KeyboardInterrupt: it is time to stop.
        """
        if any_process(self.signal is not None or self.out_of_time):
            raise KeyboardInterrupt

    def after[**P](self, show: Callable[P, None]) -> Callable[P, None]:
        """A progress callback that calls ``show`` and then `check`.

        Args:
            show: the callback to call first.
        """

        def shown(*args: P.args, **options: P.kwargs) -> None:
            show(*args, **options)
            self.check()

        return shown

    @property
    def exit_code(self) -> int:
        """Exit status: 130 (SIGINT), 143 (SIGTERM) or `EXIT_OUT_OF_TIME`."""
        if self.signal is None and self.out_of_time:
            return EXIT_OUT_OF_TIME
        return 128 + (signal.SIGINT if self.signal is None else self.signal)

    @property
    def reason(self) -> str:
        """Why the run stops, in words."""
        if self.signal is None and self.out_of_time:
            return f"the time budget of {self.time_budget:g} s is used up"
        return (
            "stopped" if self.signal is None else f"stopped by {signal.Signals(self.signal).name}"
        )
