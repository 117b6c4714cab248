"""Faults that users would not see, counted: how often `fit` is wrong without a word."""

from ._cases import CASES, ModeCase
from ._modes import judge_fit, judge_search, run_modes, summarise

__all__ = ["CASES", "ModeCase", "judge_fit", "judge_search", "run_modes", "summarise"]
