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
    of distances at least. That it does is no proof that a density is proper. Flat floors so far
    down that no volume makes up for them are taken for boundaries.

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
            f"the log density does not fall towards infinity along {where}, so it has no finite "
            "integral (it is improper) and cannot be sampled: give a prior, fix what the data do "
            "not identify, or add the log Jacobian of a change of variables"
        )
    return starts.shape[1] + 2 * len(PROPERNESS.distances) * (len(starts) + 1)


def _flat(target: AbstractLogDensity, at: np.ndarray, starts: Vector) -> str:
    """The direction in which the density does not fall, in words; empty if there is none."""
    dim = len(at)
    middle, scale = spread(at)
    state = state_at(target, starts)
    gradients = np.asarray(state.logdensity_grad, np.float64) * scale[:, None]
    gradients = gradients[:, np.isfinite(gradients).all(axis=0)]
    unasked = np.linalg.eigh(gradients @ gradients.T)[1][:, :1]
    directions = scale[:, None] * np.concatenate([np.eye(dim), unasked], axis=1)
    directions = np.concatenate([directions, -directions], axis=1)
    far = np.concatenate(
        [middle[:, None] + distance * directions for distance in PROPERNESS.distances], axis=1
    )
    values = (
        logdensities(target, far, starts).astype(np.float64).reshape(len(PROPERNESS.distances), -1)
    )
    falls = np.diff(values + np.log(PROPERNESS.distances)[:, None], axis=0) < -PROPERNESS.fall
    # A floor far below all that chains saw, as in where(inside, logp, -1e10), is a boundary and no
    # flat direction.
    known = np.asarray(state.logdensity, np.float64)
    floor = (
        np.median(known[np.isfinite(known)])
        - dim * np.log(PROPERNESS.distances[-1])
        - PROPERNESS.matters
    )
    matters = np.isfinite(values[1:]) & (values[1:] > floor)
    never = np.all(matters & ~falls, axis=0).reshape(2, -1).any(axis=0)
    if not never.any():
        return ""
    names = labels(target, dim)
    if never[:dim].any():
        return named(names, np.flatnonzero(never[:dim]), PROPERNESS.named)
    sizes = np.abs(unasked[:, 0])
    together = named(names, np.flatnonzero(sizes > 0.1 * sizes.max()), PROPERNESS.named)
    return f"a combination of {together}"
