"""Which coordinates may be parents of a transport map."""

import numpy as np

from ._thresholds import THRESHOLDS
from ._whitening_estimation import spread


def parent_candidates(draws: np.ndarray) -> list[int]:
    """Coordinates on which the scales of the others depend most, best first.

    Args:
        draws: shape ``(dim, n)``.

    Returns:
        At most `Thresholds.max_candidates` indices.
    """
    draws = np.asarray(draws, np.float64)
    return [
        int(k)
        for k in np.argsort(
            -scale_influence(draws[:, :: -(-draws.shape[1] // THRESHOLDS.max_draws)])
        )[: THRESHOLDS.max_candidates]
    ]


def scale_influence(draws: np.ndarray) -> np.ndarray:
    """How strongly the scales of the others depend on each coordinate, shape ``(dim,)``.

    The sum of squared correlations between the coordinate and the log squares of the others, after
    its linear effect on them is removed. The larger of the values in the user's and in white
    coordinates.
    """
    num = draws.shape[1]
    middle, scale = spread(draws)
    x = (draws - middle[:, None]) / scale[:, None]
    x = x - x.mean(axis=1, keepdims=True)
    unit = x / np.maximum(x.std(axis=1, keepdims=True), THRESHOLDS.min_scale)
    cut = np.clip(unit, -4, 4)
    cut = (cut - cut.mean(axis=1, keepdims=True)) / np.maximum(
        cut.std(axis=1, keepdims=True), THRESHOLDS.min_scale
    )
    values, vectors = np.linalg.eigh(np.cov(x).reshape(len(x), -1))
    white = (vectors / np.sqrt(np.maximum(values, THRESHOLDS.min_scale * values[-1]))).T @ x
    correlation = unit @ unit.T / num
    influence = np.zeros(len(x))
    for k in range(len(x)):
        rest = np.delete(unit - correlation[:, k : k + 1] * unit[k], k, axis=0)
        influence[k] = max(
            np.sum(_correlation(np.log(part**2 + 0.05), cut[k]) ** 2) for part in (rest, white)
        )
    return influence


def _correlation(rows: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """Correlation of every row with one standardised row."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return (
        centred @ standard / len(standard) / np.maximum(centred.std(axis=1), THRESHOLDS.min_scale)
    )
