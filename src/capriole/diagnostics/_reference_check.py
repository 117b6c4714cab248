"""Draws held against what was known before: moments, and the modes that chains sat in."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ._agreement import Z_LIMIT
from ._modes import ModeSummary, assign_modes, mode_occupation
from ._problems import Problem, ProblemKind, Severity, name_of
from ._statistics import Moments, moments
from ._thresholds import THRESHOLDS


class Difference(NamedTuple):
    """The moment that differs most from a reference.

    Attributes:
        z: Its difference in standard errors of both.
        of: Which moment, "mean" or "variance".
        dimension: The index of its dimension.
        variable: The name of that dimension.
    """

    z: float
    of: str
    dimension: int
    variable: str = ""


class ModeShare(NamedTuple):
    """A mode with its share of the mass, as estimated before and as drawn.

    Attributes:
        centre: Its centre (dim,), in the user's coordinates.
        scale: Its standard deviations (dim,).
        share: The share of the mass that it should hold, by the warm-up's estimate.
        draws: The share of the draws that are in it.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    share: float
    draws: float


class ReferenceCheck(NamedTuple):
    """Draws beside a reference.

    Attributes:
        difference: The moment that differs most; None where no moments are known.
        modes: The known modes, with the share of the draws in each.
        problems: What is wrong with either.
    """

    difference: Difference | None
    modes: tuple[ModeShare, ...]
    problems: list[Problem]


def reference_check(
    draws: Float[np.ndarray, "chains draws dim"],
    reference: Moments | None,
    modes: Sequence[ModeSummary],
    *,
    judges_moments: bool,
    names: Sequence[str] | None = None,
) -> ReferenceCheck:
    """Draws beside moments and modes that the warm-up saw::

        z = (m - m_reference) / sqrt(error^2 + error_reference^2)

    for means, and for variances about the reference's mean. Chains of a warm-up adapt, and may all
    have missed an end of a funnel: z says that one of the two is not right.

    Args:
        draws: Draws in the user's coordinates.
        reference: Moments of the warm-up; None where its chains had not met.
        modes: The modes where its chains sat.
        judges_moments: Whether a difference of moments is a problem. It is a mere figure where
            better marginals are known.
        names: A name for every dimension; None: ``x[0]`` and so on.

    Returns:
        The largest difference, shares of the modes, and problems.
    """
    problems: list[Problem] = []
    difference = None if reference is None else _difference(draws, reference, names)
    if difference is not None and judges_moments and abs(difference.z) > Z_LIMIT:
        text = (
            f"the {difference.of} of {difference.variable} is {abs(difference.z):.1f} "
            "standard errors from that of the warm-up, whose chains had met: one of the two missed "
            "something"
        )
        kind, remedy = ProblemKind.DIFFERS_FROM_WARMUP, "start wider (spread), draw more"
        name = difference.variable
        problems.append(Problem(kind, Severity.WARNING, text, remedy, variable=name))
    if len(modes) < 2:
        return ReferenceCheck(difference, tuple(ModeShare(*m, 1.0) for m in modes), problems)
    summary = mode_occupation(assign_modes(draws, modes), len(modes))
    weights, least = summary.weights, THRESHOLDS.reported_mode_share
    held = [w > 0 and mode.share >= least for mode, w in zip(modes, weights, strict=True)]
    if sum(held) > 1 and not summary.switches_per_step:
        text = (
            "no chain ever left the mode that it started in, so their shares are those of the "
            "starts"
        )
        remedy = "reparameterise, or sample every mode alone"
        problems.append(Problem(ProblemKind.MODE_NEVER_LEFT, Severity.FATAL, text, remedy))
    for mode, weight in zip(modes, weights, strict=True):
        if weight == 0 and mode.share >= least:
            text = (
                f"none of the draws is around {_where(mode)}, where chains of the warm-up "
                f"or the search for modes found {mode.share:.0%} of the mass, by estimate"
            )
            remedy = "draw more, start wider (spread), or reparameterise"
            problems.append(Problem(ProblemKind.MODE_MISSED, Severity.FATAL, text, remedy))
    shares = tuple(ModeShare(*m, float(w)) for m, w in zip(modes, weights, strict=True))
    return ReferenceCheck(difference, shares, problems)


def _difference(
    draws: np.ndarray, reference: Moments, names: Sequence[str] | None
) -> Difference | None:
    ours = moments(draws, reference.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (ours.mean - reference.mean) / np.hypot(ours.mean_error, reference.mean_error)
        errors = np.hypot(ours.variance_error, reference.variance_error)
        z = np.array([mean, (ours.variance - reference.variance) / errors])
    if not np.isfinite(z).any():
        return None
    of, dimension = np.unravel_index(
        np.nanargmax(np.where(np.isfinite(z), np.abs(z), np.nan)), z.shape
    )
    what, name = ("mean", "variance")[of], name_of(int(dimension), names)
    return Difference(float(z[of, dimension]), what, int(dimension), name)


def _where(mode: ModeSummary) -> str:
    first = ", ".join(f"{x:.3g}" for x in mode.centre[:4])
    return f"({first}{', ...' if len(mode.centre) > 4 else ''})"
