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
    dim, chains = like.shape
    num = positions.shape[1]
    padded_places = np.resize(positions.T, (-(-num // chains) * chains, dim)).T.astype(like.dtype)
    blocks = np.split(padded_places, padded_places.shape[1] // chains, axis=1)
    values = [np.asarray(state_at(logdensity, jnp.asarray(block)).logdensity) for block in blocks]
    return np.concatenate(values)[:num]
