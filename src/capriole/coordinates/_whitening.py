"""Affine maps to coordinates in which a target has mean near 0 and covariance near I."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Scalar, Vector, column
from ._thresholds import THRESHOLDS
from ._transport_map import TransportMap


class Whitening(eqx.Module):
    """An affine map with a diagonal part and a low-rank part::

        x = location + scale * (z + U ((stretches - 1) * U^T z)),   U^T U = I

    Rank 0 is a diagonal map, full rank a dense one. The correlation it removes is ``U
    diag(stretches^2) U^T`` plus the identity on the complement of U. Methods take JAX arrays, or
    NumPy arrays after `on_host`.

    Attributes:
        location: centre, in the user's units, shape ``(dim,)``.
        scale: standard deviations, in the user's units, shape ``(dim,)``.
        directions: U, orthonormal columns, shape ``(dim, rank)``.
        stretches: standard deviations along U, in units of ``scale``, shape ``(rank,)``.
    """

    location: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    directions: Float[Array, "dim rank"]
    stretches: Float[Array, " rank"]

    def forward(self, z: Any) -> Any:
        """Positions x from whitened coordinates.

        Args:
            z: shape ``(dim, *chains)``.
        """
        return column(self.location, z) + column(self.scale, z) * self._stretch(z, self.stretches)

    def inverse(self, x: Any) -> Any:
        """Whitened coordinates from positions; the inverse of `forward`.

        Args:
            x: shape ``(dim, *chains)``.
        """
        return self._stretch(
            (x - column(self.location, x)) / column(self.scale, x), 1 / self.stretches
        )

    def gradient(self, force: Any) -> Any:
        """Gradients in the user's coordinates from gradients in whitened ones: ``L^-T force``.

        Args:
            force: shape ``(dim, *chains)``.
        """
        return self._stretch(force, 1 / self.stretches) / column(self.scale, force)

    def force(self, gradient: Any) -> Any:
        """Gradients in whitened coordinates from gradients in the user's ones: ``L^T gradient``.

        Args:
            gradient: shape ``(dim, *chains)``.
        """
        return self._stretch(gradient * column(self.scale, gradient), self.stretches)

    def _stretch(self, z: Any, stretches: Any) -> Any:
        """``z + U ((stretches - 1) * U^T z)``."""
        if not self.stretches.size:
            return z
        return z + self.directions @ (column(stretches - 1, z) * (self.directions.T @ z))


class Whitened(AbstractLogDensity):
    """A log density in whitened coordinates, without the constant log-determinant::

        z -> logdensity(location + L z)

    A kernel for it is exact; `Whitening.forward` maps its draws to draws of ``logdensity``.

    Attributes:
        logdensity: log density in the outer coordinates.
        whitening: the map.
    """

    logdensity: AbstractLogDensity
    whitening: Whitening

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at whitened positions."""
        return self.logdensity(self.whitening.forward(position))


def on_host[T: Whitening | TransportMap](step: T) -> T:
    """The same map with NumPy arrays.

    JAX would compile each of its operations outside jit.

    Args:
        step: the map.

    Returns:
        The map; its methods then take NumPy arrays.
    """
    return jax.tree.map(np.asarray, step)


def identity(dim: int, dtype: Any) -> Whitening:
    """The map ``x = z``.

    Args:
        dim: number of coordinates.
        dtype: floating type.

    Returns:
        A map of rank 0.
    """
    ones = jnp.ones(dim, dtype)
    return Whitening(jnp.zeros(dim, dtype), ones, jnp.zeros((dim, 0), dtype), jnp.zeros(0, dtype))


def padded(whitening: Whitening, rank: int) -> Whitening:
    """The same map with more directions, which are unused.

    Maps of equal shapes share one compiled program.

    Args:
        whitening: the map.
        rank: new rank, at least the old one.

    Returns:
        The map with ``rank`` directions.
    """
    host = on_host(whitening)
    missing = rank - host.stretches.shape[0]
    directions = np.pad(host.directions, ((0, 0), (0, missing)))
    stretches = np.pad(host.stretches, (0, missing), constant_values=1.0)
    return Whitening(
        whitening.location, whitening.scale, jnp.asarray(directions), jnp.asarray(stretches)
    )


def pad_for_reuse(whitening: Whitening, fisher: Whitening | None = None) -> Whitening:
    """The same map at full rank where a shared program saves more than the products cost.

    That is in up to `Thresholds.max_full_rank_dim` dimensions, and wherever two maps are compared.

    Args:
        whitening: the map.
        fisher: the map estimated from gradients that it will be compared with, or None.

    Returns:
        The map, padded or unchanged.
    """
    dim = whitening.location.shape[0]
    return (
        padded(whitening, dim)
        if fisher is not None or dim <= THRESHOLDS.max_full_rank_dim
        else whitening
    )
