"""Progress records for callbacks."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """What a progress callback receives after every chunk.

    Attributes:
        phase: what is running.
        step: steps done.
        num_steps: steps in all.
        seconds: seconds since the phase began.
        metrics: named figures of the phase.
    """

    phase: str
    step: int
    num_steps: int
    seconds: float
    metrics: dict[str, float]


type OnProgress = Callable[[Progress], None] | None
"""A progress callback, or None."""
