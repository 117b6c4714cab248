"""Places that chains found: which of many are far apart, which were left again, and how far apart
chains sit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

APART = 6.0
"""Distance of a chain's mean from the mean of all, in its own standard deviations, from which on it
sits elsewhere.
"""
FROZEN = 0.1
"""Share of its steps in which a chain must move, or it is frozen."""


class Met(NamedTuple):
    """Places (dim, n), in the user's coordinates, where chains and scouts ended at first, and log
    densities there.
    """

    places: np.ndarray
    lp: np.ndarray


def left_behind(met: Met, lp: np.ndarray) -> np.ndarray:
    """Those of the places that are denser than anything the draws with log densities ``lp`` are
    near.

    Of a Gaussian, mean log p + var log p is the log density of the mode; two nats above that, and
    one above the densest draw, there must be something narrow that the draws do not show. Chains
    jump out of a narrow mode where the step size suits a wide one.
    """
    finite = lp[np.isfinite(lp)]
    if not finite.size:
        return met.places[:, :0]
    dense = max(float(finite.max()) + 1, float(finite.mean() + finite.var()) + 2)
    return met.places[:, met.lp > dense]


def put_back(position: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Positions (dim, chains), the first of them, up to a quarter, at places that were left."""
    num = min(left.shape[1], position.shape[1] // 4)
    return np.concatenate([left[:, :num], position[:, num:]], axis=1)


def spread_out(places: np.ndarray, num: int, num_far: int | None = None) -> np.ndarray:
    """``num`` of the positions (dim, n): ``num_far`` of them (default: half) as far from one
    another as can be, the others evenly through the list.

    Farthest-first traversal in robustly scaled coordinates: a mode that any chain found is among
    them.
    """
    num_far = num // 2 if num_far is None else num_far
    low, middle, high = np.quantile(places, [0.25, 0.5, 0.75], axis=1)
    scaled = np.arcsinh(
        (places - middle[:, None]) / np.maximum(high - low, 1e-12 * (1 + np.abs(middle)))[:, None]
    )
    picked = [int(np.argmin(np.sum(scaled**2, axis=0)))]
    nearest = np.sum((scaled - scaled[:, picked]) ** 2, axis=0)
    while len(picked) < min(num_far, places.shape[1]):
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.sum((scaled - scaled[:, picked[-1:]]) ** 2, axis=0))
    evenly = np.linspace(0, places.shape[1] - 1, num - len(picked)).astype(int)
    return places[:, [*picked, *evenly]]


def is_moving(draws: Float[np.ndarray, "chains draws dim"]) -> Bool[np.ndarray, " chains"]:
    """Whether every chain moved in `FROZEN` of its steps."""
    return np.mean(np.any(np.diff(draws, axis=1) != 0, axis=2), axis=1) >= FROZEN


def farthest(draws: Float[np.ndarray, "chains draws dim"]) -> tuple[float, int]:
    """How far apart chains sit, and the number of frozen ones, which moved in less than `FROZEN` of
    their steps.

    The former is the largest distance of a chain's mean from the median of all chains' means, in
    standard deviations of that chain, the frozen left out. R-hat hardly notices one chain of 64 in
    another mode; this does.
    """
    means, moving = draws.mean(axis=1), is_moving(draws)
    spread = np.maximum(draws.std(axis=1), 1e-12 * (1 + np.abs(means)))
    distance = np.max(np.abs(means - np.median(means, axis=0)) / spread, axis=1)
    return float(np.max(distance[moving], initial=0.0)), int(np.sum(~moving))
