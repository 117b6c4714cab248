"""Whether draws agree with reference draws of the same posterior."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ._statistics import bulk_ess, bulk_ess_sq, mean_error, rhat, rhat_limit

Z_LIMIT = 5.2
"""Largest ``|z|`` of agreement: 400 comparisons exceed it by chance with probability below 1e-4."""

KS_LEVEL = 1e-6
"""Probability that the Kolmogorov-Smirnov distance of equal distributions exceeds its limit: per
coordinate, so that hundreds of comparisons raise no false alarm.
"""


class Agreement(NamedTuple):
    """Comparison of draws with reference draws, per coordinate.

    Attributes:
        z_mean: standardised difference of the means.
        z_square: standardised difference of the mean squares.
        ks: Kolmogorov-Smirnov distance.
        ks_limit: its limit.
        rhat: R-hat of the draws.
        rhat_limit: its limit.
        ess: smaller bulk ESS of the draws, of x and of its square. It says how much an agreement
            is worth: with 10,000 on both sides a mean that is wrong by 0.07 standard deviations is
            detected, with 100 only one that is wrong by half a standard deviation.
    """

    z_mean: Float[np.ndarray, " dim"]
    z_square: Float[np.ndarray, " dim"]
    ks: Float[np.ndarray, " dim"]
    ks_limit: Float[np.ndarray, " dim"]
    rhat: Float[np.ndarray, " dim"]
    rhat_limit: float
    ess: Float[np.ndarray, " dim"]

    @property
    def passed(self) -> bool:
        """Whether every ``|z|`` is at most `Z_LIMIT`, and every other value within its limit."""
        close = np.abs([self.z_mean, self.z_square]) <= Z_LIMIT
        return bool(
            close.all()
            and np.all(self.ks <= self.ks_limit)
            and np.all(self.rhat <= self.rhat_limit)
        )


def agreement(
    draws: Float[np.ndarray, "chains draws dim"],
    reference: Float[np.ndarray, "reference_chains reference_draws dim"],
) -> Agreement:
    """Compare means, mean squares and distributions of every coordinate::

        z  = (m - m_ref) / sqrt(error^2 + error_ref^2)      of x, and of (x - mean of reference)^2
        ks = sup |F - F_ref|  <=  sqrt(-log(level / 2) / 2 (1 / n + 1 / n_ref))

    with Monte Carlo errors by ArviZ, and n the ESS or the number of draws, whichever is smaller.
    Squares are centred: raw squares test nothing new where the mean is far from 0. The limit of ks
    is approximate for correlated draws.

    Args:
        draws: the draws to test.
        reference: reference draws.

    Returns:
        The comparison.

    Raises:
        ValueError: the arrays are not (chains, draws, dim) with the same dim, or there is only one
            chain of draws.
    """
    if draws.ndim != 3 or reference.ndim != 3 or draws.shape[2] != reference.shape[2]:
        raise ValueError(
            f"need (chains, draws, dim) of one dim, got {draws.shape} and {reference.shape}"
        )
    if len(draws) < 2:
        raise ValueError(f"need at least 2 chains of draws to know their errors, got {len(draws)}")
    draws, reference = np.asarray(draws, np.float64), np.asarray(reference, np.float64)
    centre = reference.mean(axis=(0, 1))
    ess = _smaller_ess(draws, centre)
    share = 1 / np.minimum(ess, _count(draws)) + 1 / np.minimum(
        _smaller_ess(reference, centre), _count(reference)
    )
    return Agreement(
        z_mean=_z(draws, reference),
        z_square=_z((draws - centre) ** 2, (reference - centre) ** 2),
        ks=np.array(
            [
                _distance(draws[..., i].ravel(), reference[..., i].ravel())
                for i in range(len(centre))
            ]
        ),
        ks_limit=np.sqrt(-np.log(KS_LEVEL / 2) / 2 * share),
        rhat=rhat(draws),
        rhat_limit=rhat_limit(*draws.shape),
        ess=ess,
    )


def _count(draws: np.ndarray) -> int:
    """Number of draws of all chains."""
    return draws.shape[0] * draws.shape[1]


def _smaller_ess(draws: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The smaller bulk ESS of each coordinate, of x and of its square."""
    return np.minimum(bulk_ess(draws), bulk_ess_sq(draws, centre))


def _z(draws: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Difference of the means in its Monte Carlo standard errors."""
    error = np.hypot(mean_error(draws), mean_error(reference))
    return (draws.mean(axis=(0, 1)) - reference.mean(axis=(0, 1))) / error


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance ``sup |F - G|``; NaN for draws that are not finite."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    everywhere = np.concatenate([first, second])
    shares = [
        np.searchsorted(np.sort(x), everywhere, side="right") / len(x) for x in (first, second)
    ]
    return float(np.abs(shares[0] - shares[1]).max())
