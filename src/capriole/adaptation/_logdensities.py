"""Log densities at many positions, by the program that is there already."""

import jax.numpy as jnp
import numpy as np

from ..kernels import AbstractLogDensity, Vector, state_at


def logdensities(logdensity: AbstractLogDensity, positions: np.ndarray, like: Vector) -> np.ndarray:
    """Log densities at many positions.

    Args:
        logdensity: The log density.
        positions: Positions (dim, n), in its coordinates.
        like: Positions (dim, chains): as many are taken at a time, whose program is there already.

    Returns:
        Log densities (n,).
    """
    num = positions.shape[1]
    states = [state_at(logdensity, jnp.asarray(block)) for block in _blocks(positions, like)]
    return np.concatenate([np.asarray(state.logdensity) for state in states])[:num]


def values_and_gradients(
    logdensity: AbstractLogDensity, positions: np.ndarray, like: Vector
) -> tuple[np.ndarray, np.ndarray]:
    """Log densities and gradients at many positions, where the density may raise.

    Args:
        logdensity: The log density.
        positions: Positions (dim, n), in its coordinates.
        like: Positions (dim, chains): as many are taken at a time, whose program is there already.

    Returns:
        Log densities (n,) and gradients (dim, n); NaN for a block in which the user's own raises.
    """
    values, gradients, num = [], [], positions.shape[1]
    for block in _blocks(positions, like):
        try:
            state = state_at(logdensity, jnp.asarray(block))
            value, gradient = np.asarray(state.logdensity), np.asarray(state.logdensity_grad)
        except Exception:  # the user's own, who may raise so far out
            value, gradient = np.full(block.shape[1], np.nan), np.full(block.shape, np.nan)
        values.append(value.astype(np.float64))
        gradients.append(gradient.astype(np.float64))
    return np.concatenate(values)[:num], np.concatenate(gradients, axis=1)[:, :num]


def _blocks(positions: np.ndarray, like: Vector) -> list[np.ndarray]:
    """Positions in blocks of as many as ``like`` has, the last one filled up."""
    dim, chains = like.shape
    num = positions.shape[1]
    filled = np.resize(positions.T, (-(-num // chains) * chains, dim)).T.astype(like.dtype)
    return list(np.split(filled, filled.shape[1] // chains, axis=1))
