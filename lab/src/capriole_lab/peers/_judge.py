"""From stored cells to standings: who passes on a target, who is best, at what cost."""

import functools
import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from capriole.diagnostics import Z_LIMIT

from ..targets import make_target, volatility_moments
from ._settings import OURS

type CellRecord = dict[str, Any]
type Cells = dict[str, list[CellRecord]]

REFEREES = ("nuts-dense", "nuts", "numpyro-nuts", "nutpie")
"""Exact samplers that are not ours: where no truth is known, others must agree with the best of
these that mixes.
"""

NUTS = ("nuts", "nuts-dense")
WANTED = 10_000
"""Effective draws for which total costs are compared."""

_MOMENTS = ("mean", "mean_error", "variance", "variance_error")
RATES = {"gradients": "ess_per_gradient", "seconds": "ess_per_second"}


class Standing(NamedTuple):
    """A sampler on a target over all seeds; it ``passed`` if most seeds did.

    Figures are medians over the seeds that passed, None unless it passed: an ESS of wrong draws is
    no figure; ``rates`` has those of every such seed. ``fixed`` is all that is spent before the
    first draw (seconds with compilation), by unit, ``compiling`` the seconds of it that went into
    compilation; ``chosen`` are the kernels that `capriole.fit` chose.
    """

    sampler: str
    passed: bool
    seeds: int
    seeds_passed: int
    reasons: list[str]
    rates: dict[str, list[float]]
    rate: dict[str, float | None]
    fixed: dict[str, float | None]
    compiling: float | None
    chosen: list[str]

    def total(self, unit: str, draws: float = WANTED) -> float | None:
        """Cost of so many effective draws with preparation, by unit; None unless it passed."""
        rate, fixed = self.rate[unit], self.fixed[unit]
        return None if rate is None or fixed is None else fixed + draws / rate


def judged(cells: list[CellRecord]) -> list[CellRecord]:
    """The cells of one target with all their problems: those stored, and disagreement where no
    truth is known.

    ``referee`` is whom a cell was compared with, ``disagreement`` the |z|; None where truth is
    known or nobody is able.
    """
    out = []
    for cell in cells:
        unknown = cell["truth"]["passed"] is None
        exact = _exact(cell["target"]) if unknown else None
        referee = _referee(cell, cells) if unknown and exact is None else None
        found, name, z = list(cell["problems"]), None, None
        if exact is not None:
            last = {kind: values[-len(exact["mean"]) :] for kind, values in cell["moments"].items()}
            name, z = "integration", disagreement(last, exact)
            if not z <= Z_LIMIT:
                found.append(f"misses the moments that integration gives: |z| {z:.3g}")
        if referee is not None:
            name, z = referee["sampler"], disagreement(cell["moments"], referee["moments"])
            if not z <= Z_LIMIT:
                found.append(f"disagrees with {name}: |z| {z:.3g}")
        out.append(charged(cell) | {"problems": found, "referee": name, "disagreement": z})
    return out


def charged(cell: CellRecord) -> CellRecord:
    """The cell with proposals that need only log densities charged as gradients."""
    free = (cell["settings"] or {}).get("num_density_evaluations")
    if not free or cell["ess_per_gradient"] is None:
        return cell
    return cell | {
        "ess_per_gradient": cell["ess_per_gradient"]
        * cell["num_gradients"]
        / (cell["num_gradients"] + free)
    }


@functools.cache
def _exact(target: str) -> dict[str, Any] | None:
    """Moments and errors of the last coordinates, where the others can be integrated out."""
    if target == "volatility":
        return dict(zip(_MOMENTS, volatility_moments().T, strict=True))
    if target != "batting":
        return None
    mean, variance = make_target(target).hyper_moments()  # type: ignore[attr-defined]
    return {
        "mean": mean,
        "variance": variance,
        "mean_error": np.zeros(2),
        "variance_error": np.zeros(2),
    }


def _referee(cell: CellRecord, cells: list[CellRecord]) -> CellRecord | None:
    """The best mixing exact peer of the same seed, other than the cell itself."""
    able = [
        other
        for other in cells
        if other["sampler"] in REFEREES
        and other["sampler"] != cell["sampler"]
        and other["seed"] == cell["seed"]
        and not other["problems"]
    ]
    return max(able, key=lambda other: min(other["bulk_ess"], other["bulk_ess_sq"]), default=None)


def disagreement(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Largest |z| between two cells' means and variances; NaN if a figure is missing."""
    worst = 0.0
    for kind in ("mean", "variance"):
        figures = (ours[kind], theirs[kind], ours[f"{kind}_error"], theirs[f"{kind}_error"])
        for a, b, error_a, error_b in zip(*figures, strict=True):
            if None in (a, b, error_a, error_b):
                return math.nan
            worst = max(worst, abs(a - b) / math.hypot(error_a, error_b))
    return worst


def standings(cells: list[CellRecord]) -> list[Standing]:
    """All samplers of one target, those that pass first, best ESS per gradient first."""
    checked = judged(cells)
    names = dict.fromkeys(cell["sampler"] for cell in checked)
    found = [
        _standing(name, [cell for cell in checked if cell["sampler"] == name]) for name in names
    ]
    return sorted(found, key=lambda s: (not s.passed, -(s.rate["gradients"] or 0.0)))


def _standing(sampler: str, cells: list[CellRecord]) -> Standing:
    good = [
        cell
        for cell in cells
        if not cell["problems"] and all(_positive(cell[rate]) for rate in RATES.values())
    ]
    passed = 2 * len(good) > len(cells)
    reasons = list(dict.fromkeys(problem for cell in cells for problem in cell["problems"]))
    if not passed and not reasons:
        reasons = ["an effective sample size is not defined"]
    costs = {
        "gradients": [float(cell["preparation"]["num_gradients"]) for cell in good],
        "seconds": [cell["preparation"]["seconds"] + cell["compile_seconds"] for cell in good],
    }
    rates = {unit: [cell[rate] for cell in good] for unit, rate in RATES.items()}
    return Standing(
        sampler,
        passed,
        len(cells),
        len(good),
        reasons,
        rates={unit: values if passed else [] for unit, values in rates.items()},
        rate={
            unit: statistics.median(values) if passed else None for unit, values in rates.items()
        },
        fixed={
            unit: statistics.median(values) if passed else None for unit, values in costs.items()
        },
        compiling=statistics.median(cell["compile_seconds"] for cell in good) if passed else None,
        chosen=list(
            dict.fromkeys(c["settings"]["chosen"] for c in cells if "chosen" in c["settings"])
        ),
    )


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def find(found: list[Standing], sampler: str) -> Standing | None:
    """The standing of a sampler, if it took part."""
    return next((standing for standing in found if standing.sampler == sampler), None)


def best_peer(found: list[Standing], unit: str) -> Standing | None:
    """The passing sampler other than capriole with the best rate."""
    able = [s for s in found if s.passed and s.sampler != OURS]
    return max(able, key=lambda s: s.rate[unit] or 0.0, default=None)


def ratio(found: list[Standing], unit: str) -> float | None:
    """Capriole's rate over the best passing peer's.

    0 if only peers pass, infinite if only capriole does; None if nobody does, or capriole or its
    peers did not run.
    """
    ours, rival = find(found, OURS), best_peer(found, unit)
    if ours is None or len(found) < 2:
        return None
    if rival is None:
        return math.inf if ours.passed else None
    mine, theirs = ours.rate[unit], rival.rate[unit]
    return 0.0 if mine is None or theirs is None else mine / theirs


def cheaper_than_nuts(found: list[Standing], unit: str = "seconds") -> bool | None:
    """Whether capriole reaches 10,000 effective draws at a lower total cost than the better NUTS
    that passes.

    None if neither passes, or capriole or NUTS did not run.
    """
    ours, nuts = find(found, OURS), [s for s in found if s.sampler in NUTS]
    if ours is None or not nuts:
        return None
    mine, theirs = ours.total(unit), [total for s in nuts if (total := s.total(unit)) is not None]
    if mine is None:
        return False if theirs else None
    return not theirs or mine < min(theirs)


def break_even(ours: Standing, other: Standing, unit: str) -> float | None:
    """Effective draws above which ``ours`` costs less in all than ``other``; both must have
    passed::

        n = (fixed_ours - fixed_other) / (1 / rate_other - 1 / rate_ours)

    0 if it is cheaper from the first draw on, None if it never is.
    """
    mine, theirs = ours.rate[unit], other.rate[unit]
    fixed = (ours.fixed[unit] or 0.0) - (other.fixed[unit] or 0.0)
    if mine is None or theirs is None or mine <= theirs:
        return None
    return max(0.0, fixed / (1 / theirs - 1 / mine))
