"""A candidate kernel with what it achieved and what it cost to make."""

from typing import NamedTuple

from .._judge import Judgement
from .._transition import AbstractTransition


class Candidate(NamedTuple):
    """``seconds`` and ``num_gradients`` are those of making it (search, training), measuring it apart."""

    name: str
    transition: AbstractTransition
    judgement: Judgement
    num_leapfrogs: int
    seconds: float = 0.0
    compile_seconds: float = 0.0
    num_gradients: int = 0
