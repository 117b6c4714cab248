"""Fast diagnostics: ArviZ only sees the few dimensions that look worst.

ArviZ takes 1 to 20 ms for each dimension.
"""

import numpy as np

from ._statistics import bulk_ess, rhat

NUM_DIMENSIONS = 4
"""Dimensions that ArviZ sees: the worst of all is nearly always among them."""
BLOCK = 25
"""Draws per average: long enough to tell fast dimensions from slow ones in a few hundred draws."""


def fast_min_ess(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk ESS of the `NUM_DIMENSIONS` dimensions that look slowest.

    Args:
        draws: shape (chains, draws, dim).

    Returns:
        Bulk ESS of x, and of (x - mean)^2, each for the dimensions slowest in it.
    """
    centred, squares = _centred(draws)
    return bulk_ess(_slowest(centred)), bulk_ess(_slowest(squares))


def fast_ess(draws: np.ndarray) -> float:
    """A rough ESS of the worst dimension, the smaller of x and of (x - mean)^2::

        ESS = number of draws / (25 r),   r = variance of averages over 25 draws / variance

    It is at least 1 per block however slow the chain, so it only tells useless kernels from others.

    Args:
        draws: shape (chains, draws, dim), at least 50 draws.

    Returns:
        The ESS of all chains; 0 if it is not finite.
    """
    slowest = max(float(np.max(_slowness(values))) for values in _centred(draws))
    return draws.shape[0] * draws.shape[1] / (BLOCK * slowest) if 0 < slowest < np.inf else 0.0


def fast_max_rhat(draws: np.ndarray) -> float:
    """Largest R-hat of the `NUM_DIMENSIONS` dimensions in which chains differ most.

    Chains are compared by their averages of x and of |x - mean|. Where every dimension must be
    checked, use the largest value of `rhat`.

    Args:
        draws: shape (chains, draws, dim).

    Returns:
        The largest R-hat of those dimensions.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        wide = np.asarray(draws, np.float64)
        folded = np.abs(wide - wide.mean(axis=(0, 1)))
        ratio = np.maximum(*(_between_over_total(values) for values in (wide, folded)))
    return float(np.max(rhat(draws[:, :, np.argsort(-ratio)[:NUM_DIMENSIONS]])))


def _between_over_total(values: np.ndarray) -> np.ndarray:
    """Variance of the chains' averages over the variance of all, infinite where not finite."""
    return np.nan_to_num(values.mean(axis=1).var(axis=0) / values.var(axis=(0, 1)), nan=np.inf)


def _centred(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws minus their mean, and the square of that."""
    with np.errstate(over="ignore", invalid="ignore"):
        centred = np.asarray(draws, np.float64) - draws.mean(axis=(0, 1))
        return centred, centred**2


def _slowest(values: np.ndarray) -> np.ndarray:
    """The dimensions whose averages over `BLOCK` draws vary most; not finite ones first."""
    if values.shape[2] <= NUM_DIMENSIONS or values.shape[1] < 2 * BLOCK:
        return values
    return values[:, :, np.argsort(-_slowness(values))[:NUM_DIMENSIONS]]


def _slowness(values: np.ndarray) -> np.ndarray:
    """Variance of averages over `BLOCK` draws over the variance; infinite where not finite."""
    chains, draws, dim = values.shape
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        blocks = values[:, : draws - draws % BLOCK].reshape(chains, -1, BLOCK, dim).mean(axis=2)
        return np.nan_to_num(blocks.var(axis=(0, 1)) / values.var(axis=(0, 1)), nan=np.inf)
