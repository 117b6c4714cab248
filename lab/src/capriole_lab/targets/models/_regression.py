"""Linear regression with normal noise, from its sufficient statistics."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector, column

from .._base import default_dtype, normal
from .._posterior import AbstractPosterior, gathered, named
from .._priors import AbstractPrior


class NormalRegression(AbstractPosterior):
    """``y ~ N(X b, sigma^2)`` in ``u = (b, log sigma)``; with X = Q R, the least-squares b* and its
    residual r::

        -rows log sigma - (|R (b - b*)|^2 + |r|^2) / (2 sigma^2)
            + log prior(b) + log prior(sigma) + log sigma

    which is the log posterior exactly, at a cost that does not grow with the rows, and better
    conditioned than ``|y - X b|^2``. ``priors`` are blocks ``(num, prior)`` of coefficients in
    order; the last parameter is sigma. Raises ValueError for shapes that do not fit, values that
    are not finite, or features that are not independent.
    """

    root: Float[Array, "coefs coefs"]
    estimate: Float[Array, " coefs"]
    residual: Float[Array, ""]
    priors: tuple[AbstractPrior, ...]
    scale_prior: AbstractPrior
    sizes: tuple[int, ...] = eqx.field(static=True)
    parameters: tuple[str, ...] = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        features: ArrayLike,
        response: ArrayLike,
        priors: tuple[tuple[int, AbstractPrior], ...],
        scale_prior: AbstractPrior,
        parameters: tuple[str, ...],
        dtype: Any = None,
    ):
        features, response = np.asarray(features, np.float64), np.asarray(response, np.float64)
        if features.ndim != 2 or response.shape != features.shape[:1]:
            raise ValueError(
                f"need features (rows, coefs) and response (rows,), got {features.shape}, "
                f"{response.shape}"
            )
        rows, coefs = features.shape
        if sum(num for num, _ in priors) != coefs or len(parameters) != coefs + 1:
            raise ValueError(
                f"{coefs} features need as many priors, got {priors}, and one name more, got "
                f"{parameters}"
            )
        if not (np.isfinite(features).all() and np.isfinite(response).all()):
            raise ValueError("features and response must be finite; drop or impute missing values")
        if rows <= coefs or np.linalg.matrix_rank(features) < coefs:
            raise ValueError(
                f"the {coefs} features of {rows} rows are not linearly independent; drop some"
            )
        orthogonal, root = np.linalg.qr(features)
        estimate = np.linalg.solve(root, orthogonal.T @ response)
        dtype = default_dtype(dtype)
        self.root, self.estimate = jnp.asarray(root, dtype), jnp.asarray(estimate, dtype)
        self.residual = jnp.asarray(np.sum((response - features @ estimate) ** 2), dtype)
        self.sizes, self.priors = (
            tuple(num for num, _ in priors),
            tuple(prior for _, prior in priors),
        )
        self.scale_prior, self.parameters = scale_prior, parameters
        self.rows, self.dim = rows, coefs + 1

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        coefs, log_scale = position[:-1], position[-1]
        away = self.root @ (coefs - column(self.estimate, coefs))
        misfit = jnp.sum(away**2, axis=0) + self.residual
        value = -misfit * jnp.exp(-2 * log_scale) / 2 + self.scale_prior(jnp.exp(log_scale))
        first = 0
        for num, prior in zip(self.sizes, self.priors, strict=True):
            value = value + jnp.sum(prior(coefs[first : first + num]), axis=0)
            first += num
        return value - (self.rows - 1) * log_scale

    def start(self, key: Key, num: int) -> Vector:
        """The least-squares estimate plus noise of twice its standard error."""
        noise = 2 * normal(key, self.dim, num, self.root.dtype)
        scale = jnp.sqrt(self.residual / (self.rows - self.dim + 1))
        coefs = self.estimate[:, None] + scale * jax.scipy.linalg.solve_triangular(
            self.root, noise[:-1]
        )
        return jnp.concatenate([coefs, jnp.log(scale) + noise[-1:] / (2 * self.rows) ** 0.5])

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """The coefficients and sigma."""
        return named(self.parameters, jnp.concatenate([position[:-1], jnp.exp(position[-1:])]))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The coefficients and log sigma."""
        values = gathered(parameters, self.parameters, self.root.dtype)
        return jnp.concatenate([values[:-1], jnp.log(values[-1:])])
