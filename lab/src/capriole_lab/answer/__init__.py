"""What it costs to have an answer: `fit(num_effective=)` beside NUTS, everything included."""

from ._cell import TARGETS, rivals, run_answer, summarise

__all__ = ["TARGETS", "rivals", "run_answer", "summarise"]
