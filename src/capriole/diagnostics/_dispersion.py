"""How far apart chains are, and which of the positions they found to keep in mind."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ._thresholds import THRESHOLDS

SEPARATION = THRESHOLDS.separation
"""Distance of a chain from the others, in its standard deviations, that shows another mode."""

DENSER_THAN_BEST = 1.0
"""Nats above the densest draw from which on a position was missed."""
DENSER_THAN_MODE = 2.0
"""Nats above a Gaussian's estimated mode from which on a position was missed."""
RESEEDED_SHARE = 4
"""At most one in so many chains is moved to a missed position."""
SMALLEST_SCALE = 1e-12
"""Floor of a scale, relative to 1 + |location|: a constant coordinate must not divide by zero."""


def floored_scale(scale: np.ndarray, location: np.ndarray) -> np.ndarray:
    """Scales that are safe to divide by::

        max(scale, 1e-12 (1 + |location|))

    Args:
        scale: standard deviations or the like, any shape.
        location: means or the like, same shape.

    Returns:
        Positive scales, same shape.
    """
    return np.maximum(scale, SMALLEST_SCALE * (1 + np.abs(location)))


class ExploredPoints(NamedTuple):
    """Positions where the first chains ended.

    Attributes:
        places: positions in the user's coordinates, shape (dim, n).
        lp: log densities there, shape (n,).
    """

    places: np.ndarray
    lp: np.ndarray


def missed_high_density_points(met: ExploredPoints, lp: np.ndarray) -> np.ndarray:
    """Positions that are denser than anything that the draws show::

        log p > max(densest draw + 1,  mean log p + var log p + 2)

    For a Gaussian, mean log p + var log p is the log density of its mode. So a position above both
    belongs to a narrow region that the draws miss: chains jump out of a narrow mode where the step
    size suits a wide one.

    Args:
        met: positions where the first chains ended.
        lp: log densities of the draws, any shape.

    Returns:
        Missed positions, shape (dim, n).
    """
    finite = lp[np.isfinite(lp)]
    if not finite.size:
        return met.places[:, :0]
    dense = max(
        float(finite.max()) + DENSER_THAN_BEST,
        float(finite.mean() + finite.var()) + DENSER_THAN_MODE,
    )
    return met.places[:, met.lp > dense]


def reseed_chains(position: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Move the first chains, at most a quarter of all, to missed positions.

    Args:
        position: positions of the chains, shape (dim, chains).
        left: missed positions, shape (dim, n).

    Returns:
        Positions of shape (dim, chains).
    """
    num = min(left.shape[1], position.shape[1] // RESEEDED_SHARE)
    return np.concatenate([left[:, :num], position[:, num:]], axis=1)


def farthest_point_subset(places: np.ndarray, num: int, num_far: int | None = None) -> np.ndarray:
    """Choose ``num`` of many positions so that all modes are among them.

    ``num_far`` are chosen by farthest-first traversal in robustly scaled coordinates, so a mode
    that any chain found is among them. The others are spaced evenly through the list.

    Args:
        places: positions, shape (dim, n).
        num: number of positions to choose.
        num_far: number of them that are far from one another; None: half.

    Returns:
        Positions of shape (dim, num).

    References:
        Gonzalez 1985, Clustering to minimize the maximum intercluster distance.
    """
    num_far = num // 2 if num_far is None else num_far
    low, middle, high = np.quantile(places, [0.25, 0.5, 0.75], axis=1)
    scaled = np.arcsinh((places - middle[:, None]) / floored_scale(high - low, middle)[:, None])
    picked = [int(np.argmin(np.sum(scaled**2, axis=0)))]
    nearest = np.sum((scaled - scaled[:, picked]) ** 2, axis=0)
    while len(picked) < min(num_far, places.shape[1]):
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.sum((scaled - scaled[:, picked[-1:]]) ** 2, axis=0))
    evenly = np.linspace(0, places.shape[1] - 1, num - len(picked)).astype(int)
    return places[:, [*picked, *evenly]]


def has_moved(draws: Float[np.ndarray, "chains draws dim"]) -> Bool[np.ndarray, " chains"]:
    """Of every chain, whether it moved in `THRESHOLDS.moved_share` of its steps."""
    return np.mean(np.any(np.diff(draws, axis=1) != 0, axis=2), axis=1) >= THRESHOLDS.moved_share


def farthest(draws: Float[np.ndarray, "chains draws dim"]) -> tuple[float, int]:
    """Largest separation of the chains, and the number of stuck ones::

        max over chains, coordinates of |mean of chain - median of chains' means| / sd of chain

    Stuck chains are left out of the maximum. R-hat hardly notices one chain of 64 in another mode;
    this does.

    Args:
        draws: draws of all chains.

    Returns:
        The separation in standard deviations, and the number of chains that moved in less than
        `THRESHOLDS.moved_share` of their steps.
    """
    means, moved = draws.mean(axis=1), has_moved(draws)
    spread = floored_scale(draws.std(axis=1), means)
    distance = np.max(np.abs(means - np.median(means, axis=0)) / spread, axis=1)
    return float(np.max(distance[moved], initial=0.0)), int(np.sum(~moved))
