"""Whether a log density falls fast enough for a finite integral, along axes and where its gradient
never points.
"""

import numpy as np

from ..coordinates import spread
from ..kernels import AbstractLogDensity, Vector, state_at
from ._logdensities import logdensities

_DISTANCES = (1e2, 1e4, 1e6, 1e9, 1e12)
_FALLS = 0.1
_NAMED = 5
_MATTERS = 1e3
"""Nats below the starts' log density, and below what all the volume out to the last of `_DISTANCES`
makes up for, from which on a floor holds nothing.
"""


def refuse_improper(target: AbstractLogDensity, starts: Vector) -> int:
    """Raises ValueError if there is no finite mass along some line through the middle of ``starts``
    (dim, n); returns the number of log densities and gradients that this took.

    The lines are the axes and, for what only a combination of dimensions determines, the direction
    that gradients have least of. ``int pi(m + t v) dt`` is finite only if ``log pi + log t`` tends
    to minus infinity: between one pair at least of `_DISTANCES`, in spreads of the starts, it must
    fall. That it does is no proof that a density is proper. Flat floors so far down that no volume
    makes up for them are taken for boundaries.
    """
    with np.errstate(all="ignore"):  # far out there may be no numbers
        try:
            where = _flat(target, np.asarray(starts, np.float64), starts)
        except (
            RuntimeError
        ):  # from within the log density: a solver that runs out of steps tells nothing
            where = ""
    if where:
        raise ValueError(
            f"the log density does not fall towards infinity along {where}, so it has no finite "
            "integral (it is "
            "improper) and cannot be sampled: give a prior, fix what the data do not identify, or "
            "add the log "
            "Jacobian of a change of variables"
        )
    return starts.shape[1] + 2 * len(_DISTANCES) * (len(starts) + 1)


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
        [middle[:, None] + distance * directions for distance in _DISTANCES], axis=1
    )
    values = logdensities(target, far, starts).astype(np.float64).reshape(len(_DISTANCES), -1)
    falls = np.diff(values + np.log(_DISTANCES)[:, None], axis=0) < -_FALLS
    # A floor far below all that chains saw, as in where(inside, logp, -1e10), is a boundary and no
    # flat direction.
    known = np.asarray(state.logdensity, np.float64)
    floor = np.median(known[np.isfinite(known)]) - dim * np.log(_DISTANCES[-1]) - _MATTERS
    matters = np.isfinite(values[1:]) & (values[1:] > floor)
    never = np.all(matters & ~falls, axis=0).reshape(2, -1).any(axis=0)
    if not never.any():
        return ""
    if never[:dim].any():
        return _named("dimension", np.flatnonzero(never[:dim]))
    sizes = np.abs(unasked[:, 0])
    return _named("a combination of dimensions", np.flatnonzero(sizes > 0.1 * sizes.max()))


def _named(what: str, dimensions: np.ndarray) -> str:
    more = f" and {len(dimensions) - _NAMED} more" if len(dimensions) > _NAMED else ""
    return f"{what} {', '.join(map(str, dimensions[:_NAMED]))}{more}"
