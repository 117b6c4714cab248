"""Bayesian logistic regression, with a real data set that ships with the package."""

import importlib.resources
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Key, Scalar, Vector
from ._base import AbstractTarget, default_dtype, normal


class LogisticRegression(AbstractTarget):
    """Posterior of weights w ~ N(0, prior_scale^2 I) given labels y in {0, 1} and features X::

        sum_n [ y_n eta_n - log(1 + exp(eta_n)) ] - |w|^2 / (2 prior_scale^2),   eta = X w

    up to a constant: 569 log(1/2) at w = 0 for `breast_cancer`. Raises ValueError for shapes or labels that do not fit.
    """

    features: Float[Array, "rows dim"]
    labels: Float[Array, " rows"]
    prior_scale: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, features: np.ndarray, labels: np.ndarray, prior_scale: float = 1.0, dtype: Any = None):
        features, labels = np.asarray(features, np.float64), np.asarray(labels, np.float64)
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise ValueError(f"need features (rows, dim) and labels (rows,), got {features.shape} and {labels.shape}")
        if not np.isin(labels, (0, 1)).all() or not np.isfinite(features).all():
            raise ValueError("labels must be 0 or 1 and features finite; drop or impute missing values")
        if prior_scale <= 0:
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
        """Draws of N(0, I)."""
        return normal(key, self.dim, num, self.features.dtype)


def breast_cancer(*, dtype: Any = None) -> LogisticRegression:
    """The Wisconsin diagnostic breast cancer data: 569 rows, 30 standardised features and an intercept, 31 weights.

    Raises ValueError if the file that ships with capriole is missing or damaged.
    """
    table = _read_table()
    raw, labels = table[:, :-1], table[:, -1]
    standard = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    return LogisticRegression(features=np.column_stack([np.ones(len(raw)), standard]), labels=labels, dtype=dtype)


def _read_table(name: str = "breast_cancer.csv") -> np.ndarray:
    file = importlib.resources.files(__package__) / "data" / name
    try:
        with file.open(encoding="utf-8") as lines:
            table = np.loadtxt(lines, delimiter=",", skiprows=1)
    except (OSError, ValueError) as error:
        raise ValueError(f"the data file {name} is missing or damaged ({error}); reinstall capriole") from error
    if table.shape != (569, 31):
        raise ValueError(f"the data file {name} has shape {table.shape} instead of (569, 31); reinstall capriole")
    return table
