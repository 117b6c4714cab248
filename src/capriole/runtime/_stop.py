"""Stopping a run cleanly: signals and a time budget, both heard between compiled pieces."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from types import FrameType
from typing import Any, Self

import jax

from ._devices import any_process

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a run cleanly: Ctrl-C, and what ``kill`` and batch systems send."""
EXIT_OUT_OF_TIME = 75
"""Exit status of a run that used up its time budget (``EX_TEMPFAIL``: try again)."""

SHORTLY = 0.1
"""Seconds in which a run that stops says so itself, so that nothing is to be acknowledged."""

_ACTIVE: "ContextVar[Stop | None]" = ContextVar("capriole_stop", default=None)


class Stop:
    """Stop a run between compiled pieces, on a signal or at the end of a time budget::

        with Stop(time_budget=3600) as stop:
            train(..., progress=show)

    SIGINT, SIGTERM and the end of the budget let the current piece finish, about half a second of
    work. The loops of the library, which call `check_stop`, then raise KeyboardInterrupt and return
    what they have. A second signal has the effect that it had before. Handlers are installed in the
    main thread only, and restored at the end; in other threads only the budget counts. If one of
    several processes is to stop, all of them do, after the chunk, in the callback of `after`.

    Args:
        time_budget: seconds from entering the context; None: no limit.
        signals: numbers of the signals to take.
        heard: called in a thread of its own as soon as a signal comes, with its number and how many
            have come; None: nobody is told before the piece has ended.
        alone: whether the stops around this one are not heard inside it.

    Attributes:
        time_budget: as given.
        signal: number of the signal that was received, or None.
        requested: whether `request` was called.

    Raises:
        ValueError: the budget is not positive.
    """

    def __init__(
        self,
        *,
        time_budget: float | None = None,
        signals: Iterable[int] = SIGNALS,
        heard: Callable[[int, int], None] | None = None,
        alone: bool = False,
    ):
        if time_budget is not None and not time_budget > 0:
            raise ValueError(f"time_budget must be a positive number of seconds, got {time_budget}")
        self.time_budget, self.signals, self.heard = time_budget, tuple(signals), heard
        self.signal: int | None = None
        self.requested, self.alone = False, alone
        self._previous: dict[int, Any] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._outer = None if self.alone else _ACTIVE.get()
        self._token: Token[Stop | None] = _ACTIVE.set(self)
        if self.signals and threading.current_thread() is threading.main_thread():
            self._previous = {n: signal.signal(n, self._on_signal) for n in self.signals}
            if self.heard is not None:
                self._stack.enter_context(_told_at_once(self.signals, self.heard))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        _ACTIVE.reset(self._token)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Remember the first signal; the second has its usual effect."""
        if self.signal is not None:
            signal.signal(number, self._previous.get(number) or signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number

    def request(self) -> None:
        """Ask for the stop, as a signal would."""
        self.requested = True

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is used up."""
        return self.time_budget is not None and self.seconds >= self.time_budget

    @property
    def seconds(self) -> float:
        """Seconds since the context was entered."""
        return time.monotonic() - self._start

    @property
    def is_due(self) -> bool:
        """Whether it is time to stop, for this one or one around it."""
        here = self.signal is not None or self.requested or self.out_of_time
        return here or (self._outer is not None and self._outer.is_due)

    def check(self) -> None:
        """Stop if a signal came or the budget is used up.

        Raises:
            KeyboardInterrupt: it is time to stop.
        """
        if any_process(self.is_due):
            raise KeyboardInterrupt

    def after[**P](self, show: Callable[P, Any]) -> Callable[P, None]:
        """A progress callback that calls ``show`` and then `check`.

        Args:
            show: the callback to call first; it asks for the stop by returning True.
        """

        def shown(*args: P.args, **options: P.kwargs) -> None:
            if show(*args, **options) is True:
                self.request()
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


def check_stop() -> None:
    """Stop if the `Stop` around this code says so; loops call it between compiled pieces.

    Several processes stop at chunks only, where all of them ask: see `Stop.after`.

    Raises:
        KeyboardInterrupt: it is time to stop.
    """
    stop = _ACTIVE.get()
    if stop is not None and stop.is_due and jax.process_count() == 1:
        raise KeyboardInterrupt


def is_stop_active() -> bool:
    """Whether a `Stop` is around this code, which then takes the signals."""
    return _ACTIVE.get() is not None


@contextlib.contextmanager
def _told_at_once(signals: tuple[int, ...], heard: Callable[[int, int], None]) -> Iterator[None]:
    """Tell of signals from a thread: Python's own handlers wait while compiled code runs."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    stopped = threading.Event()

    def listen() -> None:
        count = 0
        while numbers := os.read(reading, 64):
            for number in numbers:
                count += number in signals
                if number in signals and not stopped.wait(SHORTLY):
                    heard(number, count)

    thread = threading.Thread(target=listen, name="capriole-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        stopped.set()
        os.close(writing)
        thread.join()
        os.close(reading)
