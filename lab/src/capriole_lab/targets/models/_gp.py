"""Poisson regression with a Gaussian process."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector

from .._base import default_dtype, normal
from .._posterior import AbstractPosterior, gathered, indexed, named

_JITTER = 1e-10


class PoissonProcessRegression(AbstractPosterior):
    """``k_i ~ Poisson(exp f_i)``, f a Gaussian process, ``cov = alpha^2 exp(-(x - x')^2 / (2
    rho^2)) + 1e-10 I``, ``rho ~ Gamma(25, 4), alpha ~ N+(0, 2)``; ``u = (log rho, log alpha, e)``
    with ``f = chol(cov) e``.

    Double precision only: in single precision the jitter vanishes next to alpha^2 and the Cholesky
    factor is NaN on 37 % of the reference draws, so a sampler would silently cut that part off.
    Raises ValueError for anything else.
    """

    squares: Float[Array, "points points"]
    counts: Float[Array, " points"]
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, inputs: ArrayLike, counts: ArrayLike, dtype: Any = None):
        inputs, counts = np.asarray(inputs, np.float64), np.asarray(counts, np.float64)
        if inputs.ndim != 1 or counts.shape != inputs.shape:
            raise ValueError(
                f"need inputs and counts of one length, got {inputs.shape} and {counts.shape}"
            )
        dtype = default_dtype(dtype)
        if dtype != np.float64:
            raise ValueError(
                f"this Gaussian process needs float64, got {dtype}: its Cholesky factor is NaN on "
                "much of the posterior otherwise; set jax.config.update('jax_enable_x64', True), "
                "or run with --float64"
            )
        self.squares = jnp.asarray((inputs[:, None] - inputs) ** 2, dtype)
        self.counts = jnp.asarray(counts, dtype)
        self.parameters = ("rho", "alpha", *indexed("f", len(inputs)))
        self.dim = len(self.parameters)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        log_rho, log_alpha, noise = position[0], position[1], position[2:]
        rates = self._apply(position)
        likelihood = self.counts @ rates - jnp.sum(jnp.exp(rates), axis=0)
        priors = 25 * log_rho - 4 * jnp.exp(log_rho) - jnp.exp(2 * log_alpha) / 8 + log_alpha
        return likelihood + priors - jnp.sum(noise**2, axis=0) / 2

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.counts.dtype)

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """rho, alpha and f."""
        return named(
            self.parameters, jnp.concatenate([jnp.exp(position[:2]), self._apply(position)])
        )

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`: log rho, log alpha, ``e = chol(covariance)^-1 f``."""
        values = gathered(parameters, self.parameters, self.counts.dtype)
        logs, rates = jnp.log(values[:2]), jnp.moveaxis(values[2:], 0, -1)[..., None]
        noise = jax.scipy.linalg.solve_triangular(self._factor(logs), rates, lower=True)
        return jnp.concatenate([logs, jnp.moveaxis(noise[..., 0], -1, 0)])

    def _apply(self, position: Vector) -> Vector:
        return jnp.einsum("...ij,j...->i...", self._factor(position[:2]), position[2:])

    def _factor(self, logs: Float[Array, "2 *chains"]) -> Float[Array, "*chains points points"]:
        rho, alpha = jnp.exp(logs)[..., None, None]
        jitter = _JITTER * jnp.eye(len(self.counts), dtype=self.counts.dtype)
        return jnp.linalg.cholesky(alpha**2 * jnp.exp(-self.squares / (2 * rho**2)) + jitter)
