"""Whether a log density falls fast enough for a finite integral, along axes and where its gradient
never points.
"""

import numpy as np

from ..coordinates import spread
from ..kernels import AbstractLogDensity, Vector, state_at
from ..models import labels, named
from ._logdensities import logdensities
from ._thresholds import PROPERNESS


def refuse_improper(target: AbstractLogDensity, starts: Vector) -> int:
    """Refuse a log density that has no finite mass along some line through the starts.

    The lines are the axes, and the direction in which gradients are smallest: a combination of
    dimensions may be undetermined where each of them is not. The integral of ``pi(m + t v)`` over t
    is finite only if ``log pi + log t`` tends to minus infinity. So it must fall between one pair
    of distances at least. That it does is no proof that a density is proper. A floor so far below
    the middle of the line that nothing of it could be seen is taken for a clamp, as of a logarithm
    that is kept from minus infinity.

    Args:
        target: The log density.
        starts: Positions (dim, n).

    Returns:
        The number of log densities and gradients that this took.

    Raises:
        ValueError: There is such a line; the text names its variables.
    """
    with np.errstate(all="ignore"):  # far out there may be no numbers
        try:
            where = _flat(target, np.asarray(starts, np.float64), starts)
        except RuntimeError:  # of a solver in the log density, which tells nothing
            where = ""
    if where:
        raise ValueError(
            f"the log density does not fall along {where}. If it has no finite integral (is "
            "improper): give a prior, fix what the data do not identify, or add the log Jacobian "
            "of a change of variables. If it is only that wide: start wider (spread)"
        )
    return starts.shape[1] + 2 * (1 + len(PROPERNESS.distances)) * (len(starts) + 1)


def _flat(target: AbstractLogDensity, at: np.ndarray, starts: Vector) -> str:
    """Where the density does not fall, and how far that was asked; empty if there is no such."""
    dim, (middle, scale) = len(at), spread(at)
    state = state_at(target, starts)
    unasked = _unasked(np.asarray(state.logdensity_grad, np.float64) * scale[:, None])
    directions = scale[:, None] * np.concatenate([np.eye(dim), unasked[:, None]], axis=1)
    directions = np.concatenate([directions, -directions], axis=1)
    distances = np.array([0.0, *PROPERNESS.distances])
    far = np.concatenate([middle[:, None] + t * directions for t in distances], axis=1)
    values = logdensities(target, far, starts).astype(np.float64).reshape(len(distances), -1)
    known = np.asarray(state.logdensity, np.float64)
    # The middle may lie in a hole, the starts around it.
    top = np.fmax(values[0, 0], np.median(known[np.isfinite(known)]))
    flat = _flat_between(values[1:], top).reshape(-1, 2, dim + 1)
    large = np.flatnonzero(np.abs(unasked) > 0.1 * np.abs(unasked).max())
    exact = PROPERNESS.exact
    if not np.all(flat[: exact - 1, :, large], axis=0).any():  # each of them falls there
        flat[exact - 1 :, :, dim] = True
    never = np.all(flat, axis=0).any(axis=0)
    if not never.any():
        return ""
    names = labels(target, dim)
    if never[:dim].any():
        out_to = distances[-1]
        which = named(names, np.flatnonzero(never[:dim]), PROPERNESS.named)
    else:
        out_to = distances[exact]
        which = f"a combination of {named(names, large, PROPERNESS.named)}"
    return f"{which}, out to {out_to:.0e} standard deviations of the starts"


def _unasked(gradients: np.ndarray) -> np.ndarray:
    """The direction (dim,) in which the ``gradients`` (dim, n) are smallest."""
    gradients = gradients[:, np.isfinite(gradients).all(axis=0)]
    return np.linalg.eigh(gradients @ gradients.T)[1][:, 0]


def _flat_between(values: np.ndarray, top: float) -> np.ndarray:
    """Flags of pairs of distances between which a line does not fall, where that matters.

    Args:
        values: Log densities (distances, lines).
        top: Log density in the middle.

    Returns:
        The flags (distances - 1, lines).
    """
    # Of a stretch as long as it is far.
    mass = values + np.log(PROPERNESS.distances)[:, None]
    falls = np.diff(mass, axis=0) < -PROPERNESS.fall
    return np.isfinite(mass[1:]) & (mass[1:] > top - PROPERNESS.clamp) & ~falls
