"""Time spent compiling, told apart from time spent computing."""

import time
from typing import Self

import jax


class CompileClock:
    """Seconds JAX spent tracing, lowering and compiling inside a ``with`` block, and all seconds of
    it.

    Listens to JAX's monitoring events while the block runs. Nested blocks each count all that
    happens inside.
    """

    def __enter__(self) -> Self:
        self.compile_seconds = 0.0
        self._start = time.perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)
        self._stop = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the block was entered, compilation included; final once it was left."""
        return getattr(self, "_stop", time.perf_counter()) - self._start

    @property
    def seconds(self) -> float:
        """Seconds without compilation."""
        return max(self.elapsed - self.compile_seconds, 0.0)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            self.compile_seconds += duration_secs
