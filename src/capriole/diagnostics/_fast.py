"""Quick looks at draws that spare ArviZ most of its work: it takes 1 to 20 ms for each dimension."""

import numpy as np

from .. import diagnostics

_LOOKED_AT = 4
_BLOCK = 25


def worst_ess(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk ESS of x and of (x - mean)^2 for the `_LOOKED_AT` dimensions that a quick look finds
    slowest.

    Draws have shape (chains, draws, dim).
    """
    centred, squares = _centred(draws)
    return diagnostics.bulk_ess(_slowest(centred)), diagnostics.bulk_ess(_slowest(squares))


def quick_ess(draws: np.ndarray) -> float:
    """A rough figure for the lower of the two in the worst dimension, for telling the hopeless from
    the rest.

    From the variance of averages over `_BLOCK` draws, so at least one for each block however slow
    the chain; 0 if not finite. Needs at least two blocks.
    """
    slowest = max(float(np.max(_slowness(values))) for values in _centred(draws))
    return draws.shape[0] * draws.shape[1] / (_BLOCK * slowest) if 0 < slowest < np.inf else 0.0


def worst_rhat(draws: np.ndarray) -> float:
    """R-hat of the worst of those dimensions in which chains differ most, in the average of x or of
    |x - mean|.

    Where all dimensions must be vouched for, take the largest of `diagnostics.rhat`.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        wide = np.asarray(draws, np.float64)
        folded = np.abs(wide - wide.mean(axis=(0, 1)))
        apart = np.maximum(*(_apart(values) for values in (wide, folded)))
    return float(np.max(diagnostics.rhat(draws[:, :, np.argsort(-apart)[:_LOOKED_AT]])))


def _apart(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.mean(axis=1).var(axis=0) / values.var(axis=(0, 1)), nan=np.inf)


def _centred(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore"):
        centred = np.asarray(draws, np.float64) - draws.mean(axis=(0, 1))
        return centred, centred**2


def _slowest(values: np.ndarray) -> np.ndarray:
    """The dimensions whose averages over `_BLOCK` draws vary most; those that are not finite first."""
    if values.shape[2] <= _LOOKED_AT or values.shape[1] < 2 * _BLOCK:
        return values
    return values[:, :, np.argsort(-_slowness(values))[:_LOOKED_AT]]


def _slowness(values: np.ndarray) -> np.ndarray:
    """Of every dimension, the variance of averages over `_BLOCK` draws, for its own; infinite where
    not finite.
    """
    chains, draws, dim = values.shape
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        blocks = values[:, : draws - draws % _BLOCK].reshape(chains, -1, _BLOCK, dim).mean(axis=2)
        return np.nan_to_num(blocks.var(axis=(0, 1)) / values.var(axis=(0, 1)), nan=np.inf)
