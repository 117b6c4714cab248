"""A candidate kernel with what it achieved and what it cost to make."""

from typing import NamedTuple

import numpy as np

from ..kernels import AbstractTransition
from ._evaluation import Judgement

JUMPS = "jumps between modes"
"""First words of the name of the one that jumps."""


class Candidate(NamedTuple):
    """``seconds`` are those of making it (search, training), ``num_gradients`` also those of
    measuring it.

    ``shared_gradients`` went into another candidate, of which this one is made, and count there.
    ``found`` (dim, chains), in the user's coordinates, is where its training chains ended.
    ``faults`` are those for which a verdict says failed, seen in its last long run; ``reach`` is
    the share of its figure that is believed for them: 0 where chains stood still, that of the worst
    `Missed` end of a funnel.
    """

    name: str
    transition: AbstractTransition
    judgement: Judgement
    num_leapfrogs: int
    seconds: float = 0.0
    compile_seconds: float = 0.0
    num_gradients: int = 0
    shared_gradients: int = 0
    found: np.ndarray | None = None
    faults: tuple[str, ...] = ()
    reach: float = 1.0
