"""Where a matrix lives: correlation and covariance matrices, and their Cholesky factors."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Scalar
from ._supports import TOLERANCE, Support

type Array = Any


def cholesky_corr() -> Support:
    """Cholesky factors of correlation matrices, K x K from ``K (K - 1) / 2``."""

    def holds(x: Array) -> Any:
        lengths = np.abs(np.sum(x**2, axis=-1) - 1) < TOLERANCE
        return _is_factor(x) and np.all(lengths)

    words = "lower triangular with a positive diagonal and rows of length 1"
    return Support(words, _each(_corr_factor), _each(_corr_factor_inverse, 2), holds)


def corr() -> Support:
    """Correlation matrices, K x K from ``K (K - 1) / 2``."""

    def forward(z: Array) -> tuple[Array, Scalar]:
        factor, log_det = _corr_factor(z)
        # Entries below the diagonal, by column.
        below = jnp.arange(factor.shape[-1] - 1, -1, -1, dtype=z.dtype)
        return factor @ factor.T, log_det + jnp.sum(below * jnp.log(jnp.diagonal(factor)))

    def inverse(x: Array) -> Array:
        return _corr_factor_inverse(jnp.linalg.cholesky(x))

    def holds(x: Array) -> Any:
        unit = np.abs(np.diagonal(x, axis1=-2, axis2=-1) - 1) < TOLERANCE
        return np.all(unit) and _is_positive_definite(x)

    words = "a correlation matrix: symmetric, positive definite, with ones on its diagonal"
    return Support(words, _each(forward), _each(inverse, 2), holds)


def cholesky() -> Support:
    """Cholesky factors of covariance matrices, K x K from ``K (K + 1) / 2``."""
    words = "lower triangular with a positive diagonal"
    return Support(words, _each(_factor), _each(_factor_inverse, 2), _is_factor)


def covariance() -> Support:
    """Covariance matrices, K x K from ``K (K + 1) / 2``."""

    def forward(z: Array) -> tuple[Array, Scalar]:
        factor, log_det = _factor(z)
        size = factor.shape[-1]
        powers = jnp.arange(size, 0, -1, dtype=z.dtype)
        more = size * math.log(2) + jnp.sum(powers * jnp.log(jnp.diagonal(factor)))
        return factor @ factor.T, log_det + more

    def inverse(x: Array) -> Array:
        return _factor_inverse(jnp.linalg.cholesky(x))

    words = "a covariance matrix: symmetric and positive definite"
    return Support(words, _each(forward), _each(inverse, 2), _is_positive_definite)


def _each(function: Callable, ndim: int = 1) -> Callable:
    """A map of one array of ``ndim`` axes over all leading axes; log determinants are summed."""

    def mapped(value: Array) -> Any:
        many = function
        for _ in range(value.ndim - ndim):
            many = jax.vmap(many)
        out = many(value)
        return (out[0], jnp.sum(out[1])) if isinstance(out, tuple) else out

    return mapped


def _is_factor(x: Array) -> Any:
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        return False
    return not np.triu(x, 1).any() and np.all(np.diagonal(x, axis1=-2, axis2=-1) > 0)


def _is_positive_definite(x: Array) -> bool:
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or not np.all(np.isfinite(x)):
        return False
    symmetric = np.allclose(x, np.swapaxes(x, -1, -2), atol=TOLERANCE)
    return symmetric and bool(np.all(np.linalg.eigvalsh(x) > 0))


def _size(count: int, diagonal: int) -> int:
    """Rows of a square matrix whose lower triangle has ``count`` entries."""
    return round((np.sqrt(1 + 8 * count) + (1 if diagonal < 0 else -1)) / 2)


def _corr_factor(z: Array) -> tuple[Array, Scalar]:
    """One factor from canonical partial correlations, tanh of ``z``."""
    size = _size(z.shape[-1], -1)
    rows, columns = np.tril_indices(size, -1)
    blank = jnp.zeros((size, size), z.dtype)
    rest = 2 * (math.log(2) - z - jax.nn.softplus(-2 * z))  # log(1 - tanh^2), without cancelling
    logs = blank.at[rows, columns].set(rest)
    before = jnp.cumsum(logs, axis=1) - logs
    lower = blank.at[rows, columns].set(jnp.tanh(z)) * jnp.exp(before / 2)
    factor = lower + jnp.diag(jnp.exp(jnp.sum(logs, axis=1) / 2))
    return factor, jnp.sum(rest) + jnp.sum(before[rows, columns]) / 2


def _corr_factor_inverse(x: Array) -> Array:
    rows, columns = np.tril_indices(x.shape[-1], -1)
    # What is left of a row's unit length is summed from its right, where it is not 1 - (1 - small).
    left = jnp.cumsum((jnp.tril(x) ** 2)[:, ::-1], axis=1)[:, ::-1]
    return jnp.arctanh((x / jnp.sqrt(jnp.where(left > 0, left, 1.0)))[rows, columns])


def _factor(z: Array) -> tuple[Array, Scalar]:
    """One lower triangular matrix, exp on its diagonal."""
    size = _size(z.shape[-1], 0)
    matrix = jnp.zeros((size, size), z.dtype).at[np.tril_indices(size)].set(z)
    logs = jnp.diagonal(matrix)
    return jnp.tril(matrix, -1) + jnp.diag(jnp.exp(logs)), jnp.sum(logs)


def _factor_inverse(x: Array) -> Array:
    matrix = jnp.tril(x, -1) + jnp.diag(jnp.log(jnp.diagonal(x)))
    return matrix[np.tril_indices(x.shape[-1])]


MATRICES: dict[str, Callable[[], Support]] = {
    "cholesky_corr": cholesky_corr,
    "corr": corr,
    "cholesky": cholesky,
    "covariance": covariance,
}
"""Supports of matrices that are known by a word."""
