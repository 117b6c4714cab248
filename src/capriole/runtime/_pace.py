"""How much work one call of a compiled loop gets: about half a second, so that a stop is heard."""

PIECE_SECONDS = 0.5
"""Seconds of a piece: a stop waits for one at most, and a call costs a thousandth of it."""
GROWTH = 8
"""Largest factor from one piece to the next: what the first steps cost may tell little."""


class Pace:
    """How many steps the next piece of a loop has; the first one has a single step.

    Attributes:
        num_steps: steps of the next piece.
    """

    def __init__(self) -> None:
        self.num_steps = 1

    def next(self, left: int) -> int:
        """Steps of the next piece, at most ``left``."""
        return min(left, self.num_steps)

    def took(self, num_steps: int, seconds: float) -> None:
        """Learn from a piece.

        Args:
            num_steps: its steps.
            seconds: how long it took, its compilation included.
        """
        fitting = int(num_steps * PIECE_SECONDS / max(seconds, 1e-9))
        self.num_steps = max(1, min(fitting, GROWTH * num_steps))
