"""What a run tells whoever watches it."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """What a progress callback receives after every chunk."""

    phase: str
    step: int
    num_steps: int
    seconds: float
    metrics: dict[str, float]


type OnProgress = Callable[[Progress], None] | None
