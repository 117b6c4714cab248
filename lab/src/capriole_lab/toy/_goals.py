"""The goals of section 5.1 as data, and their verdicts: medians over seeds."""

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

type CellRecord = dict[str, Any]
type Figure = Callable[[CellRecord], float | None]


class Goal(NamedTuple):
    """``measured(cell)`` must be at least, or at most, ``bound``; None never passes."""

    target: str
    text: str
    measured: Figure
    bound: float
    at_least: bool = True


class Verdict(NamedTuple):
    """A goal with one value per seed, their median, whether it meets the bound."""

    goal: Goal
    values: list[float | None]
    median: float | None
    passed: bool
    seeds_passed: int


def get(cell: CellRecord, sampler: str, field: str) -> float | None:
    """One figure of one sampler; None if either is missing."""
    return cell["samplers"].get(sampler, {}).get(field)


def worst(cell: CellRecord, sampler: str) -> float | None:
    """Bulk ESS per gradient, worst dimension, the smaller of x and x^2."""
    return _smaller(
        get(cell, sampler, "bulk_ess_per_gradient"), get(cell, sampler, "bulk_ess_sq_per_gradient")
    )


def neck(cell: CellRecord, sampler: str) -> float | None:
    """Bulk ESS per gradient of coordinate 0, the smaller of x and x^2."""
    first = cell["samplers"].get(sampler, {}).get("first_coordinate", {})
    return _smaller(first.get("bulk_ess_per_gradient"), first.get("bulk_ess_sq_per_gradient"))


def _smaller(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else min(a, b)


def ratio(a: float | None, b: float | None) -> float | None:
    """Quotient of two figures; None if either is missing or b is zero."""
    return None if a is None or not b else a / b


def largest(values: list[float | None]) -> float | None:
    """The largest; None if any is missing."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def weight_error(cell: CellRecord, sampler: str) -> float | None:
    """Largest error of a mode's weight, over starts in mode 0 and in mode 1."""
    errors: list[float | None] = []
    for start in ("mode 0", "mode 1"):
        row = cell["samplers"].get(f"{sampler} {start}", {})
        if not row.get("mode_weights"):
            return None
        pairs = zip(row["mode_weights"], row["mode_weights_exact"], strict=True)
        errors.append(max(abs(weight - exact) for weight, exact in pairs))
    return largest(errors)


def _over_paper_hmc(cell: CellRecord) -> float | None:
    return ratio(
        get(cell, "l2hmc", "paper_ess_per_step"), get(cell, "hmc_paper", "paper_ess_per_step")
    )


def _over_hmc(cell: CellRecord) -> float | None:
    return ratio(worst(cell, "l2hmc"), worst(cell, "hmc"))


def _rhat(cell: CellRecord) -> float | None:
    return largest([get(cell, name, "rhat_max") for name in ("l2hmc", "l2hmc dispersed")])


def _mode_rhat(cell: CellRecord) -> float | None:
    """Over the chains from both modes together: chains that stay cannot pass."""
    return cell["mode_rhat"].get("l2hmc")


def _neck_error(cell: CellRecord) -> float | None:
    first = cell["samplers"].get("l2hmc dispersed", {}).get("first_coordinate", {})
    return None if first.get("sd") is None else abs(first["sd"] / 3 - 1)


def _ess(cell: CellRecord) -> float | None:
    return get(cell, "l2hmc", "paper_ess_per_step")


_PAPER_ESS = "L2HMC's ESS per step, paper's measure"
_OVER = "L2HMC over HMC tuned at M = 10, paper's measure"
_RHAT = "L2HMC's largest R-hat, from exact and dispersed starts"
_PER_GRADIENT = "L2HMC over HMC tuned at M = 10: bulk ESS per gradient, smaller of x and x²"

GOALS: tuple[Goal, ...] = (
    Goal("icg", _PAPER_ESS, _ess, 0.78),
    Goal("icg", _OVER, _over_paper_hmc, 80),
    Goal("scg", _PAPER_ESS, _ess, 0.67),
    Goal("scg", _OVER, _over_paper_hmc, 106),
    Goal("mog", _PAPER_ESS, _ess, 0.32),
    Goal(
        "mog",
        "L2HMC's error of mode weights, worse one-mode start",
        lambda c: weight_error(c, "l2hmc"),
        0.02,
        False,
    ),
    Goal(
        "mog-asym",
        "L2HMC's error of mode weights, worse one-mode start",
        lambda c: weight_error(c, "l2hmc"),
        0.03,
        False,
    ),
    Goal(
        "mog-asym",
        "L2HMC's R-hat of the modes, over chains from either mode",
        _mode_rhat,
        1.01,
        False,
    ),
    Goal(
        "mog-asym",
        "A-NICE-MC's error of mode weights (visibly wrong)",
        lambda c: weight_error(c, "nice"),
        0.03,
    ),
    Goal(
        "mog-asym",
        "HMC's error of mode weights (visibly wrong)",
        lambda c: weight_error(c, "hmc"),
        0.03,
    ),
    Goal(
        "mog2",
        "A-NICE-MC's error of mode weights (it works where volumes agree)",
        lambda c: weight_error(c, "nice"),
        0.03,
        False,
    ),
    Goal("rough-well", _PER_GRADIENT, _over_hmc, 3),
    Goal("rougher-well", _RHAT, _rhat, 1.01, False),
    Goal("rougher-well", _PER_GRADIENT, _over_hmc, 20),
    Goal(
        "funnel",
        "L2HMC's relative error of the neck's sd, from dispersed starts",
        _neck_error,
        0.05,
        False,
    ),
    Goal("funnel", _RHAT, _rhat, 1.01, False),
    Goal(
        "funnel",
        "L2HMC over NUTS: bulk ESS of the neck per gradient, smaller of x and x²",
        lambda c: ratio(neck(c, "l2hmc"), neck(c, "nuts")),
        10,
    ),
)


def judge(goal: Goal, cells: list[CellRecord]) -> Verdict:
    """The verdict of a goal on its target's cells; a missing value is a failure."""
    values = [goal.measured(cell) for cell in cells]
    passes = [
        value is not None and math.isfinite(value) and _meets(goal, value) for value in values
    ]
    known = [value for value in values if value is not None]
    median = statistics.median(known) if known and len(known) == len(values) else None
    return Verdict(goal, values, median, median is not None and _meets(goal, median), sum(passes))


def _meets(goal: Goal, value: float) -> bool:
    return value >= goal.bound if goal.at_least else value <= goal.bound


def verdicts(cells: dict[str, list[CellRecord]]) -> list[Verdict]:
    """Verdicts of all goals whose target was run; ``cells`` maps a target to its cells."""
    return [judge(goal, cells[goal.target]) for goal in GOALS if cells.get(goal.target)]
