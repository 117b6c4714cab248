"""Tables of the peers bench from standings and cells: everything is computed."""

import math
from typing import Any

from ..baselines import PEERS
from ..report import LABELS
from ..toy._tables import spread
from ._goals import SCHOOLS, Table, Verdict
from ._judge import WANTED, CellRecord, Standing, best_peer, break_even, find, ratio
from ._settings import OURS

type Rows = list[list[str]]

GOAL_HEADER = ["goal", "bound", "measured", "targets", "verdict"]
RANK_HEADER = [
    "target", "rank", "capriole", "ESS/gradient", "best passing peer", "ESS/gradient", "ratio",
    "ESS/s", "best peer's", "ratio", "did not pass",
]  # fmt: skip
TARGET_HEADER = [
    "rank", "sampler", "seeds passed", "ESS of x/gradient", "ESS of x²/gradient", "ESS/s", "R-hat",
    "max |z|", "checked against", "steps per chain", "why not",
]  # fmt: skip
COST_HEADER = [
    "target",
    "sampler",
    "gradients before",
    "s before",
    "of which compiling",
    f"gradients to {WANTED:,}",
    f"s to {WANTED:,}",
    "capriole pays after, gradients",
    "after, s",
]


def short(target: str) -> str:
    """A target's name without its collection; eight schools in words."""
    if target.startswith(SCHOOLS):
        return f"eight schools, {target.removeprefix(SCHOOLS)}"
    name = target.rpartition("/")[2]
    return name.partition("-")[2] if name.partition("-")[2] and "/" in target else name


def label(sampler: str) -> str:
    """A sampler's name in words; two NUTS of different libraries are told apart."""
    if sampler == OURS:
        return "capriole"
    words = LABELS.get(sampler, PEERS[sampler].label)
    source = PEERS[sampler].source
    return words if source in ("BlackJAX", words) else f"{words} ({source})"


def number(value: float | None, form: str = ".2g") -> str:
    """A figure, - where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return "∞" if math.isinf(value) else format(value, form)


def goal_rows(found: list[Verdict]) -> Rows:
    """One row per goal."""
    return [
        [
            v.text,
            f"≥ {v.bound:g}",
            number(v.measured, ".3g"),
            str(v.targets),
            "pass" if v.passed else "fail",
        ]
        for v in found
    ]


def rank_rows(table: Table) -> Rows:
    """One row per target: capriole's rank, best peer, ratio, and who did not pass."""
    rows = []
    for target, found in table.items():
        ours = find(found, OURS)
        passing = [s.sampler for s in found if s.passed]
        rank = (
            f"{passing.index(OURS) + 1} of {len(passing)}"
            if OURS in passing
            else ("-" if ours is None else "fails")
        )
        out = [s.sampler for s in found if not s.passed]
        by_gradient, by_second = best_peer(found, "gradients"), best_peer(found, "seconds")
        rows.append(
            [
                short(target),
                rank,
                chosen(ours),
                _rates(ours, "gradients"),
                "none" if by_gradient is None else label(by_gradient.sampler),
                _rates(by_gradient, "gradients"),
                number(ratio(found, "gradients")),
                _rates(ours, "seconds"),
                _rates(by_second, "seconds"),
                number(ratio(found, "seconds")),
                ", ".join(out) or "-",
            ]
        )
    return rows


def chosen(ours: Standing | None) -> str:
    """What capriole chose, by seed."""
    return "-" if ours is None else ", ".join(ours.chosen) or "-"


def _rates(standing: Standing | None, unit: str) -> str:
    """Median and range over the seeds that passed."""
    return "-" if standing is None else spread(standing.rates[unit], ".2g")


def target_rows(found: list[Standing], cells: list[CellRecord]) -> Rows:
    """Every sampler on one target, ranked ones first; figures of a seed that passes."""
    rows, rank = [], 0
    for standing in found:
        rank += standing.passed
        cell = min(
            (c for c in cells if c["sampler"] == standing.sampler),
            key=lambda c: bool(c["problems"]),
        )
        truth = cell["truth"]
        against = (
            truth["kind"] if truth["passed"] is not None else (cell["referee"] or "R-hat alone")
        )
        figures = ["bulk_ess_per_gradient", "bulk_ess_sq_per_gradient", "ess_per_second"]
        rows.append(
            [
                str(rank) if standing.passed else "-",
                label(standing.sampler),
                f"{standing.seeds_passed} of {standing.seeds}",
                *(number(cell[figure]) if standing.passed else "-" for figure in figures),
                number(cell["rhat_max"], ".3f"),
                number(truth["max_abs_z"] if truth["passed"] is not None else cell["disagreement"]),
                against,
                number(cell["steps_per_chain"], "d"),
                "; ".join(standing.reasons) if not standing.passed else "",
            ]
        )
    return rows


def cost_rows(table: Table) -> Rows:
    """Cost before the first draw, cost of 10,000 effective draws, and when capriole pays."""
    rows = []
    for target, found in table.items():
        ours = find(found, OURS)
        for standing in found:
            if not standing.passed:
                continue
            pays = [pays_after(ours, standing, unit) for unit in ("gradients", "seconds")]
            rows.append(
                [
                    short(target),
                    label(standing.sampler),
                    number(standing.fixed["gradients"]),
                    number(standing.fixed["seconds"], ".3g"),
                    number(standing.compiling, ".3g"),
                    number(standing.total("gradients")),
                    number(standing.total("seconds"), ".3g"),
                    *pays,
                ]
            )
    return rows


def pays_after(ours: Standing | None, other: Standing, unit: str) -> str:
    """Effective draws above which capriole is cheaper than ``other``."""
    if ours is None or ours is other or not (ours.passed and other.passed):
        return "-"
    point = break_even(ours, other, unit)
    return "never" if point is None else number(point)


def summary(table: Table, found: list[Verdict]) -> dict[str, Any]:
    """All standings, ratios and goals in plain values, for ``summary.json``."""
    return {
        "goals": [verdict._asdict() for verdict in found],
        "targets": {
            target: {
                "ratio_per_gradient": plain_ratio(ratio(each, "gradients")),
                "ratio_per_second": plain_ratio(ratio(each, "seconds")),
                "standings": [
                    s._asdict()
                    | {f"total_{unit}": s.total(unit) for unit in ("gradients", "seconds")}
                    for s in each
                ],
            }
            for target, each in table.items()
        },
    }


def plain_ratio(value: float | None) -> float | str | None:
    """JSON has no infinity, which says here that only capriole passes."""
    return "only capriole passes" if value is not None and math.isinf(value) else value
