"""Whether draws went as far as there is mass: along known marginals, and where chains are held."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

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


def sticky_tails(
    draws: Float[np.ndarray, "chains draws dim"],
    acceptance_rate: Float[np.ndarray, "chains draws"],
    names: Sequence[str] | None = None,
) -> list[Problem]:
    """Far ends of a dimension from which proposals are accepted much less often than elsewhere.

    A chain gets there as rarely as back, so whether it was there in one run is luck. The ends are
    the outermost draws on either side, half a percent of all.

    Args:
        draws: Draws in the user's coordinates.
        acceptance_rate: Acceptance of the step that led to a draw; a draw's own is the next one's.
        names: A name for every dimension; None: ``x[0]`` and so on.

    Returns:
        A warning about the worst end, or nothing.
    """
    rates, before = acceptance_rate[:, 1:].ravel(), draws[:, :-1].reshape(-1, draws.shape[2])
    num = int(THRESHOLDS.tail_share * len(before))
    if num < THRESHOLDS.tail_fewest:
        return []
    worst, where, name = float(np.mean(rates)) / THRESHOLDS.tail_held_ratio, "", ""
    for k, values in enumerate(before.T):
        order = np.argpartition(values, (num, len(values) - num))
        for ends, side in ((order[:num], "below"), (order[-num:], "above")):
            if (rate := float(np.mean(rates[ends]))) < worst:
                edge = values[ends].max() if side == "below" else values[ends].min()
                worst, name = rate, name_of(k, names)
                where = f"{name} is {side} {edge:.3g}"
    if not where:
        return []
    text = (
        f"where {where} ({THRESHOLDS.tail_share:.1%} of the draws) proposals are accepted at a "
        f"rate of {worst:.2g}, elsewhere at {np.mean(rates):.2g}: the far tail comes in spells, "
        "and may be missing or too heavy"
    )
    kind, remedy = ProblemKind.TAIL_STICKY, "draw more, or reparameterise"
    return [Problem(kind, Severity.WARNING, text, remedy, variable=name)]
