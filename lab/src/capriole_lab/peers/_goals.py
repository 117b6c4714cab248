"""The goals of the peers bench as data, and their verdicts computed from standings."""

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

from ._judge import Standing, cheaper_than_nuts, find, ratio
from ._settings import OURS

type Table = dict[str, list[Standing]]
"""Standings by target."""

SCHOOLS = "posteriordb/eight_schools-eight_schools_"
HARD = ("mog", "mog-asym", "funnel", "rougher-well", f"{SCHOOLS}centered")


class Verdict(NamedTuple):
    """What was asked and measured (None: nothing), on how many targets; whether it is enough."""

    text: str
    bound: float
    measured: float | None
    targets: int
    passed: bool


class Goal(NamedTuple):
    """``measured(table)`` gives a figure, at least ``bound``, and the number of targets."""

    text: str
    bound: float
    measured: Callable[[Table], tuple[float | None, int]]
    only: tuple[str, ...] = ()


def _ratios(table: Table, unit: str) -> list[float]:
    """Of all targets where somebody passes."""
    return [value for found in table.values() if (value := ratio(found, unit)) is not None]


def _median_ratio(table: Table) -> tuple[float | None, int]:
    values = _ratios(table, "gradients")
    return (statistics.median(values) if values else None), len(values)


def _least_ratio(table: Table) -> tuple[float | None, int]:
    values = _ratios(table, "gradients")
    return min(values, default=None), len(values)


def _share(values: list[bool]) -> tuple[float | None, int]:
    return (sum(values) / len(values) if values else None), len(values)


def _twice(unit: str) -> Callable[[Table], tuple[float | None, int]]:
    return lambda table: _share([value >= 2 for value in _ratios(table, unit)])


def _cheaper(table: Table) -> tuple[float | None, int]:
    return _share(
        [value for found in table.values() if (value := cheaper_than_nuts(found)) is not None]
    )


def _per_gradient(target: str) -> Callable[[Table], tuple[float | None, int]]:
    """Capriole's ESS per gradient; 0 where it ran and failed."""

    def measured(table: Table) -> tuple[float | None, int]:
        ours = find(table.get(target, []), OURS)
        return (None, 0) if ours is None else (ours.rate["gradients"] or 0.0, 1)

    return measured


def _hard(table: Table) -> tuple[float | None, int]:
    runs = [
        ours.passed for target in HARD if (ours := find(table.get(target, []), OURS)) is not None
    ]
    return (float(sum(runs)) if runs else None), len(runs)


_OVER = "ESS per gradient, capriole over the best passing peer"
GOALS: tuple[Goal, ...] = (
    Goal(f"{_OVER}: median over targets", 3, _median_ratio),
    Goal(f"{_OVER}: share of targets with at least twice", 0.8, _twice("gradients")),
    Goal(f"{_OVER}: lowest of all targets", 1, _least_ratio),
    *(
        Goal(f"ESS per gradient, capriole, {words}", bound, _per_gradient(target), (target,))
        for target, words, bound in (
            ("icg", "ICG-50", 0.6),
            ("scg", "SCG-2", 0.6),
            (f"{SCHOOLS}noncentered", "eight schools non-centred", 0.25),
            ("coal", "Cox process", 0.4),
            ("logistic", "logistic regression", 0.28),
        )
    ),
    Goal(
        "capriole passes on so many of mog, mog-asym, funnel, rougher-well, eight schools centred",
        4,
        _hard,
        HARD,
    ),
    Goal(
        "ESS per second, capriole over the best passing peer: share of targets with at least twice",
        0.7,
        _twice("seconds"),
    ),
    Goal(
        "seconds to 10,000 effective draws, preparation included: share of targets below NUTS",
        0.5,
        _cheaper,
    ),
)


def verdicts(table: Table) -> list[Verdict]:
    """Verdicts of all goals whose targets were run; a missing figure does not pass."""
    return [_judge(goal, table) for goal in GOALS if not goal.only or set(goal.only) & set(table)]


def _judge(goal: Goal, table: Table) -> Verdict:
    value, targets = goal.measured(table)
    passed = value is not None and not math.isnan(value) and value >= goal.bound
    return Verdict(goal.text, goal.bound, value, targets, passed)
