"""A stopwatch that tells compilation from computation."""

import time
from typing import Self

import jax


class CompileClock:
    """Times a ``with`` block, and JAX's compilation within it.

    It listens to JAX's monitoring events while the block runs. Nested blocks each count everything
    inside.

    Attributes:
        compile_seconds: seconds of tracing, lowering and compiling so far.
    """

    def __enter__(self) -> Self:
        """Start the clock."""
        self.compile_seconds = 0.0
        self._start = time.perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the clock."""
        jax.monitoring.unregister_event_duration_listener(self._listen)
        self._stop = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the block began, compilation included; final when it has ended."""
        return getattr(self, "_stop", time.perf_counter()) - self._start

    @property
    def seconds(self) -> float:
        """Seconds without compilation."""
        return max(self.elapsed - self.compile_seconds, 0.0)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Add the duration of one compilation event."""
        if event.startswith("/jax/core/compile/"):
            self.compile_seconds += duration_secs
