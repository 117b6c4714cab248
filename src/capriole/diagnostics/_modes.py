"""Modes: which chains sit together, the mass of each mode, and how often chains visit them."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

from ._dispersion import SEPARATION, floored_scale, has_moved

MAX_MODES = 16
"""Largest number of modes: more groups of chains come from a rough surface or from stuck chains."""
LEADING_POINTS = 5
"""Points that must lead to a mode, on average, so that it is missed in less than one of 100."""
_UNSETTLED = SEPARATION / 2
"""Distance of a chain's halves, in standard deviations, that shows that it was still on its way."""
_DRAWS_PER_DIM = 20
"""Draws per dimension that an estimate of a mode's covariance needs."""
_SMALLEST_DEVIATION = 1e-300
"""Floor of a standard deviation before its log is taken."""


class Modes(NamedTuple):
    """Modes that chains were found in.

    Attributes:
        label: mode of every chain; -1: it went from one mode to another, or hardly moved. All are
            -1 where there are more than `MAX_MODES`.
        log_mass: log mass of each mode, up to a constant.
    """

    label: Int[np.ndarray, " chains"]
    log_mass: Float[np.ndarray, " modes"]


def find_modes(
    draws: Float[np.ndarray, "chains draws dim"], lp: Float[np.ndarray, "chains draws"]
) -> Modes:
    """Group chains into modes, and estimate the mass of each.

    Two chains are in one mode if their means are less than `SEPARATION` standard deviations (the
    larger of both) apart in every coordinate, directly or through other chains. A mode's mass is
    that of a Gaussian::

        log mass = mean log p + log det(covariance) / 2

    with variances alone if there are few draws. A chain whose halves differ by `SEPARATION` / 2 of
    their standard deviations was on its way, and connects nothing.

    Args:
        draws: draws of all chains.
        lp: log densities of the draws.

    Returns:
        The mode of every chain, and the modes' masses.
    """
    means, scale = draws.mean(axis=1), _deviation(draws)
    halves = np.array_split(draws, 2, axis=1)
    first, second = (half.mean(axis=1) for half in halves)
    smaller = np.minimum(*(_deviation(half) for half in halves))
    settled = has_moved(draws) & (np.max(np.abs(first - second) / smaller, axis=1) < _UNSETTLED)
    label = np.full(len(draws), -1)
    for i in np.flatnonzero(settled):
        if label[i] >= 0:
            continue
        label[i] = label.max() + 1
        edge = [i]
        while edge:
            j = edge.pop()
            distance = np.max(np.abs(means - means[j]) / np.maximum(scale, scale[j]), axis=1)
            near = np.flatnonzero(settled & (label < 0) & (distance < SEPARATION))
            label[near] = label[i]
            edge.extend(near)
    num = label.max() + 1
    if num > MAX_MODES:
        return Modes(np.full(len(draws), -1), np.zeros(0))
    members = [draws[label == k].reshape(-1, draws.shape[2]) for k in range(num)]
    few = min(map(len, members), default=0) < _DRAWS_PER_DIM * draws.shape[2]
    volume = [_log_det(member, diagonal=few) / 2 for member in members]
    return Modes(label, np.array([lp[label == k].mean() + volume[k] for k in range(num)]))


def _deviation(draws: np.ndarray) -> np.ndarray:
    """Standard deviations of every chain, shape (chains, dim)."""
    return floored_scale(draws.std(axis=1), draws.mean(axis=1))


def _log_det(draws: np.ndarray, *, diagonal: bool) -> float:
    """Log determinant of the covariance of draws (n, dim), or of its diagonal."""
    if diagonal:
        deviation = draws.std(axis=0, dtype=np.float64)
        return float(2 * np.sum(np.log(np.maximum(deviation, _SMALLEST_DEVIATION))))
    return float(np.linalg.slogdet(np.atleast_2d(np.cov(draws.T.astype(np.float64))))[1])


class ModeSummary(NamedTuple):
    """Summary of a mode, in the user's coordinates.

    Attributes:
        centre: mean of each coordinate.
        scale: standard deviation of each coordinate.
        share: share of the mass, estimated.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    share: float

    def checked(self, dim: int) -> Self:
        """Itself. Raises ValueError if it cannot be a mode in ``dim`` dimensions."""
        numbers = (*self.centre, *self.scale, self.share)
        sizes = (len(self.centre), len(self.scale))
        if sizes != (dim, dim) or not np.isfinite(numbers).all() or min(self.scale) <= 0:
            raise ValueError(f"no mode in {dim} dimensions: {str(self)[:80]!r}")
        return self


class ModeSearch(NamedTuple):
    """What was searched for modes that no chain met.

    Attributes:
        num_points: Points that were looked at.
        num_finite: Those of them that have a log density and a gradient.
        num_unexplained: Those that no known mode explains.
        num_climbed: Those of them that climbed; fewer where gradients ran out.
        num_maxima: Maxima that were found and weighed.
        num_found: Modes that no chain had met, with a share of the mass that matters.
        num_gradients: Gradients.
        widths: Smallest and largest width of the cloud around the starts, in their spreads.
        low: The value of each dimension below which 1 % of the points lie, in the user's
            coordinates.
        high: The value above which 1 % of them lie.
    """

    num_points: int
    num_finite: int
    num_unexplained: int
    num_climbed: int
    num_maxima: int
    num_found: int
    num_gradients: int
    widths: tuple[float, float]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __str__(self) -> str:
        """What was searched, and what that cannot exclude, as a sentence without its full stop."""
        near, far = self.widths
        ends = [f"{a:.3g} to {b:.3g}" for a, b in zip(self.low[:3], self.high[:3], strict=True)]
        more = ", ..." if len(self.low) > len(ends) else ""
        climbed = ""
        if self.num_unexplained:
            climbed = (
                f", {self.num_climbed:,} of the {self.num_unexplained:,} that no known mode "
                "explains were followed uphill"
            )
        found = f"{self.num_found} {'mode was' if self.num_found == 1 else 'modes were'} found"
        one_in = max(1, self.num_points // LEADING_POINTS)
        return (
            f"{self.num_points:,} points at {near:g} to {far:g} spreads of the starts (98 % of "
            f"them in {'; '.join(ends)}{more}) were searched for modes that no chain met{climbed}, "
            f"with {self.num_gradients:,} gradients and no temperatures: {found}; one that fewer "
            f"than 1 in {one_in:,} points lead to may be missed"
        )

    def checked(self, dim: int) -> Self:
        """Itself. Raises ValueError if it cannot be a search in ``dim`` dimensions."""
        if (len(self.low), len(self.high)) != (dim, dim) or self.num_gradients < 0:
            raise ValueError(f"no search for modes in {dim} dimensions: {str(self)[:80]!r}")
        return self


def summarise_modes(
    modes: Modes, draws: Float[np.ndarray, "chains draws dim"]
) -> tuple[ModeSummary, ...]:
    """The modes, the largest mass first; those without a finite mass are left out.

    Args:
        modes: the modes of the chains.
        draws: draws of the same chains, in the user's coordinates.

    Returns:
        The modes.
    """
    known = np.flatnonzero(np.isfinite(modes.log_mass))
    share = np.exp(modes.log_mass - np.max(modes.log_mass[known], initial=-np.inf))
    share /= share[known].sum()
    found = []
    for k in known[np.argsort(-share[known])]:
        member = draws[modes.label == k].reshape(-1, draws.shape[2]).astype(np.float64)
        scale = floored_scale(member.std(axis=0), member.mean(axis=0))
        centre = tuple(member.mean(axis=0).tolist())
        found.append(ModeSummary(centre, tuple(scale.tolist()), float(share[k])))
    return tuple(found)


def assign_modes(
    draws: Float[np.ndarray, "chains draws dim"], found: Sequence[ModeSummary]
) -> Int[np.ndarray, "chains draws"]:
    """Assign every draw to the mode in which it has the highest density::

        - sum_i ((x_i - centre_i) / scale_i)^2 / 2 - sum_i log scale_i

    Args:
        draws: draws in the user's coordinates.
        found: the modes.

    Returns:
        Index of the mode of every draw.
    """
    scores = []
    for place in found:
        scale = np.array(place.scale)
        scores.append(
            -np.sum(((draws - np.array(place.centre)) / scale) ** 2, axis=2) / 2
            - np.log(scale).sum()
        )
    return np.argmax(scores, axis=0)


class ModeOccupation(NamedTuple):
    """How often chains visit the modes.

    Attributes:
        weights: share of the draws in each mode.
        errors: standard errors of the weights, from their spread over chains; NaN for one chain.
        switches_per_step: share of the steps that change the mode.
        saw_all: share of the chains that visited every mode.
    """

    weights: Float[np.ndarray, " modes"]
    errors: Float[np.ndarray, " modes"]
    switches_per_step: float
    saw_all: float


def mode_occupation(labels: Int[np.ndarray, "chains draws"], num_modes: int) -> ModeOccupation:
    """How often chains visit the modes::

        error = sd of the chains' weights / sqrt(chains)

    Args:
        labels: mode of every draw, 0 to ``num_modes`` - 1.
        num_modes: number of modes.

    Returns:
        Weights, their errors, and switches.

    Raises:
        ValueError: a label is out of range.
    """
    if labels.min() < 0 or labels.max() >= num_modes:
        raise ValueError(
            f"labels must lie in 0 to {num_modes - 1}, got {labels.min()} to {labels.max()}"
        )
    per_chain = (labels[:, :, None] == np.arange(num_modes)).mean(axis=1)
    chains = len(labels)
    errors = (
        per_chain.std(axis=0, ddof=1) / np.sqrt(chains)
        if chains > 1
        else np.full(num_modes, np.nan)
    )
    switches = float(np.mean(labels[:, 1:] != labels[:, :-1])) if labels.shape[1] > 1 else 0.0
    return ModeOccupation(
        per_chain.mean(axis=0), errors, switches, float(np.mean((per_chain > 0).all(axis=1)))
    )


def mode_rhat(labels: Int[np.ndarray, "chains draws"], num_modes: int) -> float:
    """Largest split R-hat of the mode indicators.

    It does not see modes that no chain visits: read it together with `mode_occupation`.

    Args:
        labels: mode of every draw.
        num_modes: number of modes.

    Returns:
        1 where all chains agree on the weights, inf where every chain stays in one mode; NaN for
        fewer than 2 chains or 4 draws.
    """
    from arviz_stats.base import array_stats

    if len(labels) < 2 or labels.shape[1] < 4:
        return float("nan")
    worst = 1.0
    for mode in range(num_modes):
        indicator = (labels == mode).astype(np.float64)
        if np.ptp(indicator) == 0:
            continue
        if np.ptp(indicator, axis=1).max() == 0:
            return float("inf")
        with np.errstate(divide="ignore", invalid="ignore"):  # half chains without a switch: inf
            worst = max(
                worst, float(array_stats.rhat(indicator, chain_axis=0, draw_axis=1, method="split"))
            )
    return worst
