"""Whether draws went as far as there is mass: along known marginals, and where chains are held."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ._problems import Problem, ProblemKind, Severity, name_of
from ._statistics import bulk_ess
from ._thresholds import THRESHOLDS

LEVELS = (0.5, 0.03, 0.1, 0.9, 0.97, 0.003, 0.997)
"""Shares of the mass below the quantiles of a `Marginal`."""


class Marginal(NamedTuple):
    """A marginal distribution by its quantiles.

    Attributes:
        dimension: The index of its dimension.
        quantiles: The values below which `LEVELS` of the mass lie.
    """

    dimension: int
    quantiles: tuple[float, ...]

    def checked(self, dim: int) -> "Marginal":
        """Itself. Raises ValueError if it cannot be a marginal of one of ``dim`` dimensions."""
        sound = len(self.quantiles) == len(LEVELS) and all(map(math.isfinite, self.quantiles))
        if not sound or not 0 <= self.dimension < dim:
            raise ValueError(f"no marginal of one of {dim} dimensions: {str(self)[:80]!r}")
        return self


def is_middle(value: float, draws: np.ndarray) -> bool:
    """Whether ``value`` is in the middle of the draws.

    Args:
        value: A median, in the units of the draws.
        draws: Draws of any shape.

    Returns:
        Whether the share of the draws below it is between the two of ``THRESHOLDS.middle``.
    """
    low, high = THRESHOLDS.middle
    return bool(low < np.mean(draws < value) < high)


def tail_problems(
    draws: Float[np.ndarray, "chains draws dim"],
    marginals: Iterable[Marginal],
    names: Sequence[str] | None = None,
) -> list[Problem]:
    """Ends of known marginals that draws miss, or visit too often.

    The share of the draws beyond a quantile must be within a factor of two of that of the mass, or
    within four standard errors of it::

        |share - mass| <= 4 sqrt(mass (1 - mass) / ESS)

    Nothing is said where the middle is elsewhere: the marginal is then that of another mode.

    Args:
        draws: Draws in the user's coordinates.
        marginals: What is known.
        names: A name for every dimension; None: ``x[0]`` and so on.

    Returns:
        The worst end of each marginal, if one is wrong; the worst of them first.
    """
    found = [
        _worst_end(draws[:, :, marginal.dimension], marginal, name_of(marginal.dimension, names))
        for marginal in marginals
    ]
    return sorted((end for end in found if end is not None), key=lambda end: end.reach)


def _worst_end(draws: np.ndarray, marginal: Marginal, name: str) -> Problem | None:
    middle, *tails = marginal.quantiles
    if not is_middle(middle, draws):
        return None
    found = []
    ess = max(float(np.nan_to_num(bulk_ess(draws[:, :, None])[0])), 1.0)
    for level, value in zip(LEVELS[1:], tails, strict=True):
        side, mass = ("below", level) if level < 0.5 else ("above", 1 - level)
        share = float(np.mean(draws < value if level < 0.5 else draws > value))
        errors = THRESHOLDS.tail_standard_errors * math.sqrt(mass * (1 - mass) / ess)
        within = mass / THRESHOLDS.tail_factor <= share <= THRESHOLDS.tail_factor * mass
        if abs(share - mass) > errors and not within:
            text = (
                f"{name} is {side} {value:.3g} in {share:.2%} of the draws, but {mass:.1%} of the "
                "mass lies there, the other parameters integrated out: the chains do not move "
                "freely along a funnel"
            )
            reach = min(share / mass, mass / max(share, 1e-9))
            kind = ProblemKind.TAIL_MISSED
            remedy = "write it non-centred"
            found.append(Problem(kind, Severity.FATAL, text, remedy, variable=name, reach=reach))
    return min(found, key=lambda end: end.reach, default=None)


class _End(NamedTuple):
    """The outermost draws of a dimension on one side, and how the steps from them went.

    ``reach`` is their acceptance over that of all steps, ``excess`` their rate of divergences over
    that of all.
    """

    name: str
    where: str
    share: float
    reach: float
    num_diverging: int
    diverging_rate: float
    excess: float

    @property
    def diverges(self) -> bool:
        """Whether divergent steps are concentrated in it."""
        limits = THRESHOLDS
        return (
            self.num_diverging >= limits.tail_diverging
            and self.diverging_rate >= limits.tail_diverging_rate
            and self.excess >= limits.tail_diverging_ratio
        )

    @property
    def is_wrong(self) -> bool:
        """Whether steps from it fail much more often than elsewhere."""
        limits = THRESHOLDS
        ratio = limits.tail_held_ratio_diverging if self.diverges else limits.tail_held_ratio
        return self.reach * ratio < 1

    @property
    def is_fatal(self) -> bool:
        """Whether they fail so often that the draws there are of no use."""
        many = self.diverges and self.num_diverging >= THRESHOLDS.tail_diverging_fatal
        return self.is_wrong and (many or self.reach * THRESHOLDS.tail_held_ratio_fatal < 1)


def sticky_tails(
    draws: Float[np.ndarray, "chains draws dim"],
    acceptance_rate: Float[np.ndarray, "chains draws"],
    diverging: Bool[np.ndarray, "chains draws"] | Int[np.ndarray, "chains draws"] | None = None,
    *,
    may_fail: bool = True,
    names: Sequence[str] | None = None,
) -> list[Problem]:
    """Far ends of a dimension from which steps fail much more often than elsewhere.

    A chain gets to such an end as rarely as back, so whether it was there in one run is luck. Where
    steps from the outermost draws diverge, those that lead further out do, too: the mass beyond is
    missed. The ends are the outermost draws on either side, some thousandths of all. One is wrong
    if acceptance in it is a quarter of the mean, or half of it while divergent steps are five times
    as frequent there as elsewhere.

    Args:
        draws: Draws in the user's coordinates.
        acceptance_rate: Acceptance of the step that led to a draw; a draw's own is the next one's.
        diverging: Divergent steps that led to a draw, those without a finite log density included.
        may_fail: Whether draws can be called unusable for it. In a narrow mode at the end of a
            dimension steps are rejected, too.
        names: A name for every dimension; None: ``x[0]`` and so on.

    Returns:
        The worst end, or nothing. It is fatal where acceptance is a tenth of the mean, or ten
        divergent steps began there. ``reach`` is its acceptance over the mean.
    """
    failed = np.zeros(acceptance_rate.shape) if diverging is None else np.asarray(diverging)
    ends = [end for end in _ends(draws, acceptance_rate, failed, names) if end.is_wrong]
    if not ends:
        return []
    worst = min(ends, key=lambda end: (not end.is_fatal, end.reach))
    mean = float(np.mean(acceptance_rate[:, 1:]))
    text = (
        f"where {worst.where} ({worst.share:.1%} of the draws) proposals are accepted at a rate of "
        f"{worst.reach * mean:.2g}, elsewhere at {mean:.2g}"
    )
    if worst.diverges:
        kind = ProblemKind.TAIL_MISSED
        text += (
            f", and {worst.num_diverging} of {np.sum(failed[:, 1:]):.0f} divergent ones began "
            "there: what lies further out may be missed"
        )
    else:
        kind = ProblemKind.TAIL_STICKY
        text += ": the far tail comes in spells, and may be missing or too heavy"
    severity = Severity.FATAL if may_fail and worst.is_fatal else Severity.WARNING
    remedy = "draw more, or reparameterise"
    return [Problem(kind, severity, text, remedy, variable=worst.name, reach=worst.reach)]


def _ends(
    draws: np.ndarray,
    acceptance_rate: np.ndarray,
    failed: np.ndarray,
    names: Sequence[str] | None,
) -> list[_End]:
    """All ends of all dimensions that hold enough draws."""
    rates, before = acceptance_rate[:, 1:].ravel(), draws[:, :-1].reshape(-1, draws.shape[2])
    fails = failed[:, 1:].ravel()
    sizes = {int(share * len(rates)): share for share in THRESHOLDS.tail_shares}
    sizes = {num: share for num, share in sizes.items() if num >= THRESHOLDS.tail_fewest}
    mean, mean_fails = float(np.mean(rates)), float(np.mean(fails))
    if not sizes or not mean > 0:
        return []
    found, most = [], max(sizes)
    for k, values in enumerate(before.T):
        parts = np.argpartition(values, (most, len(values) - most - 1))
        for part, side, sign in ((parts[:most], "below", 1), (parts[-most:], "above", -1)):
            outermost = part[np.argsort(sign * values[part])]
            for num, share in sizes.items():
                end = outermost[:num]
                diverging_rate = float(np.mean(fails[end]))
                found.append(
                    _End(
                        name=name_of(k, names),
                        where=f"{name_of(k, names)} is {side} {values[end[-1]]:.3g}",
                        share=share,
                        reach=float(np.mean(rates[end])) / mean,
                        num_diverging=int(np.sum(fails[end])),
                        diverging_rate=diverging_rate,
                        excess=diverging_rate / max(mean_fails, 1e-12),
                    )
                )
    return found
