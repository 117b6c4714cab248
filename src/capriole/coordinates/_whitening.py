"""Affine coordinates in which a target has mean near 0 and covariance near I, and how they are
estimated.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Scalar, Vector, column
from ._transport_map import Transported, TransportMap

FEW = 64
"""Dimensions up to which full rank costs nothing that is felt."""


class Whitening(eqx.Module):
    """The affine map ``x = location + scale * (z + U ((stretches - 1) * U^T z))``.

    ``U`` has orthonormal columns: rank 0 is a diagonal map, full rank a dense one, anything between
    diagonal plus low-rank. ``U diag(stretches^2) U^T`` plus the identity on the rest is the
    correlation that it undoes. Its methods take JAX arrays, or, after `on_host`, NumPy arrays, of
    shape ``(dim, *chains)``.
    """

    location: Float[Array, " dim"]
    scale: Float[Array, " dim"]
    directions: Float[Array, "dim rank"]
    stretches: Float[Array, " rank"]

    def forward(self, z: Any) -> Any:
        """Positions x of shape ``(dim, *chains)`` from whitened coordinates."""
        return column(self.location, z) + column(self.scale, z) * self._stretch(z, self.stretches)

    def inverse(self, x: Any) -> Any:
        """Whitened coordinates of positions x; `forward` undone."""
        return self._stretch(
            (x - column(self.location, x)) / column(self.scale, x), 1 / self.stretches
        )

    def gradient(self, force: Any) -> Any:
        """Gradients in the user's coordinates from those in whitened ones: ``force`` by the
        transposed inverse.
        """
        return self._stretch(force, 1 / self.stretches) / column(self.scale, force)

    def force(self, gradient: Any) -> Any:
        """Gradients in whitened coordinates from those in the user's; `gradient` undone."""
        return self._stretch(gradient * column(self.scale, gradient), self.stretches)

    def _stretch(self, z: Any, stretches: Any) -> Any:
        if not self.stretches.size:
            return z
        return z + self.directions @ (column(stretches - 1, z) * (self.directions.T @ z))


class Whitened(AbstractLogDensity):
    """``logdensity`` in whitened coordinates: ``z -> logdensity(location + L z)``, without the
    constant ``log |L|``.

    A kernel for it is exact for it; `Whitening.forward` maps its draws to draws of ``logdensity``.
    """

    logdensity: AbstractLogDensity
    whitening: Whitening

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at whitened positions."""
        return self.logdensity(self.whitening.forward(position))


def to_user(logdensity: AbstractLogDensity, position: Any) -> Any:
    """Positions in the user's coordinates, from those of a kernel for ``logdensity``; NumPy in,
    NumPy out.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of positions that whoever asks will check
        for step in maps(logdensity):
            position = (on_host(step) if isinstance(position, np.ndarray) else step).forward(
                position
            )
    return position


def maps(logdensity: AbstractLogDensity) -> list[Whitening | TransportMap]:
    """The maps that lead from the coordinates of ``logdensity`` to the user's, in order."""
    found: list[Whitening | TransportMap] = []
    while isinstance(logdensity, Whitened | Transported):
        found.append(
            logdensity.whitening if isinstance(logdensity, Whitened) else logdensity.transport
        )
        logdensity = logdensity.logdensity
    return found


def users(logdensity: AbstractLogDensity) -> AbstractLogDensity:
    """The log density in the user's own coordinates."""
    while isinstance(logdensity, Whitened | Transported):
        logdensity = logdensity.logdensity
    return logdensity


def seen_from(
    coordinates: AbstractLogDensity, logdensity: AbstractLogDensity
) -> AbstractLogDensity:
    """Another log density in the coordinates of the first."""
    for step in reversed(maps(coordinates)):
        logdensity = (
            Whitened(logdensity, step)
            if isinstance(step, Whitening)
            else Transported(logdensity, step)
        )
    return logdensity


def draws_to_user(
    logdensity: AbstractLogDensity, position: Float[np.ndarray, "chains draws dim"]
) -> Float[np.ndarray, "chains draws dim"]:
    """Draws of a kernel for ``logdensity`` in the user's coordinates.

    One draw of all chains at a time: a product over many would round a draw differently according
    to how many come with it, and draws written in pieces (after a resume) would not be those
    written in one.
    """
    return drawn_to_user(logdensity, position, np.zeros(position.shape[:2], position.dtype))[0]


def drawn_to_user(
    logdensity: AbstractLogDensity,
    position: Float[np.ndarray, "chains draws dim"],
    lp: Float[np.ndarray, "chains draws"],
) -> tuple[Float[np.ndarray, "chains draws dim"], Float[np.ndarray, "chains draws"]]:
    """As `draws_to_user`, and the log densities ``lp`` of the draws as the user's function has them
    there::

        log p(x) = log p(z) - log |dx / dz|

    for a transport map; that of a whitening is constant, and no part of a `Whitened` log density.
    """
    steps = maps(logdensity)
    if not steps:
        return position, lp
    moved, log_det = _each_forward(steps, jnp.asarray(position.transpose(1, 2, 0)))
    return np.ascontiguousarray(np.asarray(moved).transpose(2, 0, 1)), lp - np.asarray(log_det).T


@eqx.filter_jit
def _each_forward(
    steps: list[Whitening | TransportMap], draws: Float[Array, "draws dim chains"]
) -> tuple[Float[Array, "draws dim chains"], Float[Array, "draws chains"]]:
    def forward(position: Vector) -> tuple[Vector, Scalar]:
        log_det = jnp.zeros(position.shape[1:], position.dtype)
        for step in steps:
            if isinstance(step, TransportMap):
                log_det = log_det + step.log_det(position)
            position = step.forward(position)
        return position, log_det

    return jax.lax.map(forward, draws)


def from_user(logdensity: AbstractLogDensity, position: Any) -> Any:
    """Positions in the coordinates of a kernel for ``logdensity``, from the user's; NumPy in, NumPy
    out.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        for step in reversed(maps(logdensity)):
            position = (on_host(step) if isinstance(position, np.ndarray) else step).inverse(
                position
            )
    return position


def on_host[T: Whitening | TransportMap](step: T) -> T:
    """The same map for NumPy arrays: every operation of it on JAX arrays outside jit would cost a
    compilation.
    """
    return jax.tree.map(np.asarray, step)


def spread(draws: Float[np.ndarray, "dim draws"]) -> tuple[np.ndarray, np.ndarray]:
    """Medians and robust standard deviations, by quartiles, bounded below by rounding."""
    low, middle, high = np.quantile(np.asarray(draws, np.float64), [0.25, 0.5, 0.75], axis=1)
    return middle, np.maximum((high - low) / 1.349, 1e-12 * (1 + np.abs(middle)))


def identity(dim: int, dtype: Any) -> Whitening:
    """The map ``x = z``."""
    ones = jnp.ones(dim, dtype)
    return Whitening(jnp.zeros(dim, dtype), ones, jnp.zeros((dim, 0), dtype), jnp.zeros(0, dtype))


def diagonal(draws: Float[np.ndarray, "dim draws"], *, dtype: Any = None) -> Whitening:
    """Medians and robust standard deviations alone: where chains disagree, correlations would be
    noise.
    """
    middle, scale = spread(draws)
    dim, dtype = len(middle), dtype or jnp.zeros(()).dtype
    empty = jnp.zeros((dim, 0), dtype), jnp.zeros(0, dtype)
    return Whitening(jnp.asarray(middle, dtype), jnp.asarray(scale, dtype), *empty)


def padded(whitening: Whitening, rank: int) -> Whitening:
    """The same map with ``rank`` directions: unused ones are zero. Equal shapes spare a compilation
    per window.
    """
    host = on_host(whitening)
    missing = rank - host.stretches.shape[0]
    directions = np.pad(host.directions, ((0, 0), (0, missing)))
    stretches = np.pad(host.stretches, (0, missing), constant_values=1.0)
    return Whitening(
        whitening.location, whitening.scale, jnp.asarray(directions), jnp.asarray(stretches)
    )


def reusable(whitening: Whitening, sharp: Whitening | None = None) -> Whitening:
    """`padded` to full rank, so that one compiled program serves.

    Where there is a ``sharp`` whitening to compare with, and in up to `FEW` dimensions, where
    products cost less than one more compilation.
    """
    dim = whitening.location.shape[0]
    return padded(whitening, dim) if sharp is not None or dim <= FEW else whitening


def estimate_whitening(
    draws: Float[np.ndarray, "dim draws"],
    *,
    num_independent: float | None = None,
    dtype: Any = None,
) -> Whitening:
    """Location, scales and the significant part of the correlation of draws, robust against heavy
    tails.

    Draws that lie further than 5 robust standard deviations from a coordinate's median are left
    out, unless that were half of them (cutting them off instead would spoil narrow directions of
    correlated targets). Of the eigenvectors of the correlation those are kept whose eigenvalue lies
    outside ``(1 +- sqrt(dim / n))^2``, the range that n independent draws of N(0, I) would fill
    anyway (Marchenko and Pastur 1967): none for a few draws in many dimensions (a diagonal map),
    all of them for many draws (a dense one). ``num_independent`` is n (default: all draws count).

    Raises ValueError for draws that are not finite or fewer than 4.
    """
    draws = np.asarray(draws, np.float64)
    dim, num = draws.shape
    if num < 4 or not np.isfinite(draws).all():
        raise ValueError(
            f"need at least 4 finite draws to estimate a covariance, got {num} in {dim} dimensions"
        )
    n = max(1.0, num if num_independent is None else num_independent)
    kept = draws[:, _inside(draws)]
    location, scale, standard = _standardised(kept)
    values, vectors = np.linalg.eigh(standard @ standard.T / kept.shape[1])
    edge = np.sqrt(dim / n)
    significant = values > (1 + edge) ** 2
    if edge < 1:  # else some are 0 but for rounding, whatever the target
        significant |= values < (1 - edge) ** 2
    stretches = np.sqrt(np.maximum(values[significant], 1e-14))
    parts = (location, scale, vectors[:, significant], stretches)
    return Whitening(*(jnp.asarray(part, dtype or jnp.zeros(()).dtype) for part in parts))


def fisher_whitening(
    draws: Float[np.ndarray, "dim draws"],
    grads: Float[np.ndarray, "dim draws"],
    *,
    dtype: Any = None,
) -> Whitening:
    """Dense whitening from draws and the gradients of the log density there.

    The covariance S is the geometric mean of that of the draws and the inverse of that of the
    gradients::

        S = C^(1/2) (C^(1/2) G C^(1/2))^(-1/2) C^(1/2),     location = mean(x) + S mean(grad)

    the affine map with the least Fisher divergence from N(0, I). For a Gaussian it is exact
    whatever the noise of the draws, since there C = S G S. Outliers are left out as in
    `estimate_whitening`. Source: Seyboldt, Carlson and Carpenter 2026 (nutpie).

    Raises ValueError for values that are not finite, fewer than ``2 dim`` draws, and gradients that
    do not vary along a coordinate: they tell nothing of its scale.
    """
    draws, grads = np.asarray(draws, np.float64), np.asarray(grads, np.float64)
    dim, num = draws.shape
    if num < 2 * dim or not (np.isfinite(draws).all() and np.isfinite(grads).all()):
        raise ValueError(
            f"need at least {2 * dim} finite draws and gradients in {dim} dimensions, got {num} "
            "draws"
        )
    inside = _inside(draws)
    location, scale, standard = _standardised(draws[:, inside])
    forces = grads[:, inside] * scale[:, None]
    mean = forces.mean(axis=1)
    forces = forces - mean[:, None]
    same = np.flatnonzero(forces.std(axis=1) <= 1e-12 * np.abs(mean))
    if same.size:
        raise ValueError(
            f"the gradients do not vary in coordinates {same.tolist()}; whiten by the draws alone"
        )
    root = _power(standard @ standard.T / standard.shape[1], 0.5)
    covariance = root @ _power(root @ (forces @ forces.T / forces.shape[1]) @ root, -0.5) @ root
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    stretches = np.sqrt(np.maximum(values, 1e-14 * values[-1]))
    parts = (location + scale * (covariance @ mean), scale, vectors, stretches)
    return Whitening(*(jnp.asarray(part, dtype or jnp.zeros(()).dtype) for part in parts))


def _inside(draws: np.ndarray) -> np.ndarray:
    """Which draws lie within 5 robust standard deviations of every median; all, if that were half
    of them or fewer.
    """
    middle, scale = spread(draws)
    inside = np.all(np.abs(draws - middle[:, None]) <= 5 * scale[:, None], axis=0)
    return inside if inside.mean() > 0.5 else np.ones_like(inside)


def _standardised(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, standard deviations (bounded below by rounding), and the draws in units of them."""
    location = draws.mean(axis=1)
    scale = np.maximum(draws.std(axis=1), 1e-12 * (1 + np.abs(location)))
    return location, scale, (draws - location[:, None]) / scale[:, None]


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a symmetric positive matrix; eigenvalues below rounding are lifted to it."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-14 * values[-1]) ** exponent) @ vectors.T
