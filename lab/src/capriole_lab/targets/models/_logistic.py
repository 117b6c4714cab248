"""Bayesian logistic regression, with a real data set that ships with the package."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector

from .._base import AbstractTarget, default_dtype, normal
from .._data import read_table


class LogisticRegression(AbstractTarget):
    """Posterior of weights w ~ N(0, prior_scale^2 I) given labels y in {0, 1} and features X::

        sum_n [ y_n eta_n - log(1 + exp(eta_n)) ] - |w|^2 / (2 prior_scale^2),   eta = X w

    with the prior's normalising constant left out: ``rows log(1/2)`` at w = 0. ``features`` (rows,
    dim), a column of ones included if an intercept is wanted. Raises ValueError for shapes, labels,
    missing values that do not fit.
    """

    features: Float[Array, "rows dim"]
    labels: Float[Array, " rows"]
    prior_scale: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self, *, features: ArrayLike, labels: ArrayLike, prior_scale: float = 1.0, dtype: Any = None
    ):
        features, labels = np.asarray(features, np.float64), np.asarray(labels, np.float64)
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ValueError(
                f"need features (rows, dim) and labels (rows,), got {features.shape} and "
                f"{labels.shape}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"labels must be 0 or 1, got {np.setdiff1d(labels, (0, 1))[0]}; recode them"
            )
        if not np.isfinite(features).all():
            bad = np.argwhere(~np.isfinite(features))[0].tolist()
            raise ValueError(
                f"feature {bad} is {features[tuple(bad)]}; drop or impute missing values"
            )
        if not prior_scale > 0:
            raise ValueError(f"prior_scale must be positive, got {prior_scale}")
        dtype = default_dtype(dtype)
        self.features, self.labels = jnp.asarray(features, dtype), jnp.asarray(labels, dtype)
        self.prior_scale, self.dim = prior_scale, features.shape[1]

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        eta = self.features @ position
        likelihood = self.labels @ eta - jnp.sum(jax.nn.softplus(eta), axis=0)
        return likelihood - jnp.sum(position**2, axis=0) / (2 * self.prior_scale**2)

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.features.dtype)


def breast_cancer(*, dtype: Any = None) -> LogisticRegression:
    """The Wisconsin diagnostic breast cancer data: 569 rows, an intercept and 30 standardised
    features, 31 weights.

    Each feature has mean 0 and standard deviation 1 (divisor 569); label 1 is benign. Source:
    data/README.md. Raises ValueError if the file that ships with capriole is missing or damaged.
    """
    table = read_table("breast_cancer.csv", (569, 31))
    raw, labels = table[:, :-1], table[:, -1]
    standard = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    return LogisticRegression(
        features=np.column_stack([np.ones(len(raw)), standard]), labels=labels, dtype=dtype
    )
