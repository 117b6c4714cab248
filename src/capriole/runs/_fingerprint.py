"""Whether a log density is the one that a run began with: its values at a few stored points."""

import hashlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import AbstractLogDensity, ChainState, Vector
from ..runtime import Arrays
from ._checkpoint import CheckpointError

POINTS = 3
_POINTS, _VALUES = "fingerprint/points", "fingerprint/values"


def fingerprint(logdensity: AbstractLogDensity, position: Vector) -> Arrays:
    """The arrays to store: the first positions (dim, 3) of ``position`` (dim, chains) and the
    values there.
    """
    points = np.asarray(position[:, :POINTS])
    return {_POINTS: points, _VALUES: np.asarray(logdensity(jnp.asarray(points)))}


def check_fingerprint(
    arrays: Arrays, logdensity: AbstractLogDensity, *, dim: int, num: int
) -> None:
    """Take the fingerprint of ``num`` positions out of ``arrays`` and compare it.

    Raises `CheckpointError` if there is none, or if a value differs by more than 8 rounding errors.
    """
    points, values = arrays.pop(_POINTS, None), arrays.pop(_VALUES, None)
    missing = CheckpointError("the checkpoint has no fingerprint of its log density")
    if points is None or values is None or points.shape != (dim, min(POINTS, num)):
        raise missing
    if values.shape != points.shape[1:] or points.dtype.kind != "f":
        raise missing
    now = np.asarray(logdensity(jnp.asarray(points)))
    close = 8 * np.finfo(now.dtype).eps * np.abs(values)
    if now.dtype != values.dtype or not np.all((np.abs(now - values) <= close) | (now == values)):
        raise CheckpointError(
            "the log density is not the one this run began with: at three stored points it had "
            "values "
            f"{values.tolist()}, now it has {now.tolist()}; resume with the same function and "
            "data, or start a new run"
        )


def check_state(logdensity: AbstractLogDensity, state: ChainState) -> None:
    """Raises `CheckpointError` unless ``logdensity`` has the values of a stored state at its
    positions.

    Those were computed in a loop, in another order: they are compared to a thousandth, in double
    precision to a millionth.
    """
    stored, now = np.asarray(state.logdensity), np.asarray(logdensity(jnp.asarray(state.position)))
    apart = np.abs(now - stored) / (1 + np.abs(stored))
    if now.dtype != stored.dtype or not np.all(apart <= max(1e4 * np.finfo(now.dtype).eps, 1e-6)):
        raise CheckpointError(
            f"the log density is not the one this run began with: where the first chain is it was "
            f"{stored.ravel()[0]:g}, now it is {now.ravel()[0]:g}; resume with the same function "
            "and data"
        )


def kernel_digest(kernel: Any) -> str:
    """A digest of all arrays of a kernel but those of its log density."""
    total = hashlib.sha256()
    for part in jax.tree.leaves(kernel, is_leaf=lambda part: isinstance(part, AbstractLogDensity)):
        if eqx.is_array_like(part):
            array = np.asarray(part)
            total.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return total.hexdigest()
