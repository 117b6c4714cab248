"""Estimation of affine maps from draws, and from draws with gradients."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ._thresholds import THRESHOLDS
from ._whitening import Whitening


def estimate_whitening(
    draws: Float[np.ndarray, "dim draws"],
    *,
    num_independent: float | None = None,
    dtype: Any = None,
) -> Whitening:
    """Estimate location, scales and the significant part of the correlation from draws.

    Draws with a coordinate more than 5 robust standard deviations from its median are left out,
    unless they are half of all or more. They are not clipped, because clipping moves draws off
    narrow directions. An eigenvector of the correlation is kept if its eigenvalue is outside the
    range that n independent draws of N(0, I) fill::

        (1 - sqrt(dim / n))^2  to  (1 + sqrt(dim / n))^2

    Few draws in many dimensions therefore give a diagonal map, many draws a dense one.

    Args:
        draws: shape ``(dim, draws)``, at least 4 draws.
        num_independent: n, the effective number of draws; by default all count.
        dtype: floating type of the map; by default JAX's.

    Returns:
        The map.

    Raises:
        ValueError: if draws are not finite or fewer than 4.

    References:
        Marchenko and Pastur 1967.
    """
    draws = np.asarray(draws, np.float64)
    dim, num = draws.shape
    if num < 4 or not np.isfinite(draws).all():
        raise ValueError(
            f"need at least 4 finite draws to estimate a covariance, got {num} in {dim} dimensions"
        )
    n = max(1.0, num if num_independent is None else num_independent)
    kept = draws[:, _inliers(draws)]
    location, scale, standard = _standardise(kept)
    values, vectors = np.linalg.eigh(standard @ standard.T / kept.shape[1])
    edge = np.sqrt(dim / n)
    significant = values > (1 + edge) ** 2
    if edge < 1:  # with fewer draws than dimensions some eigenvalues are 0 for any target
        significant |= values < (1 - edge) ** 2
    stretches = np.sqrt(np.maximum(values[significant], THRESHOLDS.min_eigenvalue))
    parts = (location, scale, vectors[:, significant], stretches)
    return Whitening(*(jnp.asarray(part, dtype or jnp.zeros(()).dtype) for part in parts))


def fisher_whitening(
    draws: Float[np.ndarray, "dim draws"],
    grads: Float[np.ndarray, "dim draws"],
    *,
    dtype: Any = None,
) -> Whitening:
    """Estimate a dense map from draws and the gradients of the log density at them.

    The covariance S is the geometric mean of the covariance C of the draws and the inverse of the
    covariance G of the gradients::

        S = C^(1/2) (C^(1/2) G C^(1/2))^(-1/2) C^(1/2),   location = mean(x) + S mean(grad)

    Of all affine maps this one has the least Fisher divergence from N(0, I). For a Gaussian it is
    exact, because there C = S G S whatever the noise of the draws. Outliers are left out as in
    `estimate_whitening`.

    Args:
        draws: shape ``(dim, draws)``, at least ``2 dim`` draws.
        grads: gradients at the draws, same shape.
        dtype: floating type of the map; by default JAX's.

    Returns:
        The map.

    Raises:
        ValueError: if values are not finite, draws are too few, or gradients do not vary in a
            coordinate.

    References:
        Seyboldt, Carlson and Carpenter 2026 (nutpie).
    """
    draws, grads = np.asarray(draws, np.float64), np.asarray(grads, np.float64)
    dim, num = draws.shape
    if num < 2 * dim or not (np.isfinite(draws).all() and np.isfinite(grads).all()):
        raise ValueError(
            f"need at least {2 * dim} finite draws and gradients in {dim} dimensions, got {num} "
            "draws"
        )
    inside = _inliers(draws)
    location, scale, standard = _standardise(draws[:, inside])
    forces = grads[:, inside] * scale[:, None]
    mean = forces.mean(axis=1)
    forces = forces - mean[:, None]
    same = np.flatnonzero(forces.std(axis=1) <= THRESHOLDS.min_scale * np.abs(mean))
    if same.size:
        raise ValueError(
            f"the gradients do not vary in coordinates {same.tolist()}; whiten by the draws alone"
        )
    root = _matrix_power(standard @ standard.T / standard.shape[1], 0.5)
    covariance = (
        root @ _matrix_power(root @ (forces @ forces.T / forces.shape[1]) @ root, -0.5) @ root
    )
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    stretches = np.sqrt(np.maximum(values, THRESHOLDS.min_eigenvalue * values[-1]))
    parts = (location + scale * (covariance @ mean), scale, vectors, stretches)
    return Whitening(*(jnp.asarray(part, dtype or jnp.zeros(()).dtype) for part in parts))


def diagonal(draws: Float[np.ndarray, "dim draws"], *, dtype: Any = None) -> Whitening:
    """Estimate medians and robust standard deviations alone, for chains that disagree.

    Args:
        draws: shape ``(dim, draws)``.
        dtype: floating type of the map; by default JAX's.

    Returns:
        A map of rank 0.
    """
    middle, scale = spread(draws)
    dim, dtype = len(middle), dtype or jnp.zeros(()).dtype
    empty = jnp.zeros((dim, 0), dtype), jnp.zeros(0, dtype)
    return Whitening(jnp.asarray(middle, dtype), jnp.asarray(scale, dtype), *empty)


def spread(draws: Float[np.ndarray, "dim draws"]) -> tuple[np.ndarray, np.ndarray]:
    """Medians and robust standard deviations, from quartiles.

    Args:
        draws: shape ``(dim, draws)``.

    Returns:
        Medians and standard deviations, each of shape ``(dim,)``; the latter are at least rounding
        error.
    """
    low, middle, high = np.quantile(np.asarray(draws, np.float64), [0.25, 0.5, 0.75], axis=1)
    # The quartiles of N(0, 1) are 1.349 apart.
    return middle, np.maximum((high - low) / 1.349, THRESHOLDS.min_scale * (1 + np.abs(middle)))


def _inliers(draws: np.ndarray) -> np.ndarray:
    """Flags of the draws near every median; all draws, if only half of them or fewer are near."""
    middle, scale = spread(draws)
    inside = np.all(
        np.abs(draws - middle[:, None]) <= THRESHOLDS.max_outlier_deviations * scale[:, None],
        axis=0,
    )
    return inside if inside.mean() > 0.5 else np.ones_like(inside)


def _standardise(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, standard deviations, and draws in units of them."""
    location = draws.mean(axis=1)
    scale = np.maximum(draws.std(axis=1), THRESHOLDS.min_scale * (1 + np.abs(location)))
    return location, scale, (draws - location[:, None]) / scale[:, None]


def _matrix_power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Power of a symmetric positive matrix; eigenvalues below rounding error are raised to it."""
    values, vectors = np.linalg.eigh(matrix)
    return (
        vectors * np.maximum(values, THRESHOLDS.min_eigenvalue * values[-1]) ** exponent
    ) @ vectors.T
