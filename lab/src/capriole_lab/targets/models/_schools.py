"""Eight schools, the smallest hierarchical model, in both parametrisations."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector, column

from .._base import default_dtype, normal
from .._posterior import AbstractPosterior, gathered, indexed, named
from .._priors import Normal, StudentT

_MU, _TAU = Normal(0, 5), StudentT(1, 0, 5)


class CentredSchools(AbstractPosterior):
    """``y_j ~ N(theta_j, error_j), theta_j ~ N(mu, tau), mu ~ N(0, 5), tau ~ Cauchy+(0, 5)``; u =
    (theta, mu, log tau).

    A funnel where tau is small (Rubin 1981; Gelman et al., Bayesian Data Analysis, section 5.5).
    """

    effects: Float[Array, " schools"]
    errors: Float[Array, " schools"]
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, effects: ArrayLike, errors: ArrayLike, dtype: Any = None):
        self.effects, self.errors, self.parameters = _checked(effects, errors, dtype)
        self.dim = len(self.parameters)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        theta, mu, log_tau = position[:-2], position[-2], position[-1]
        spread = jnp.sum((theta - mu) ** 2, axis=0) * jnp.exp(-2 * log_tau)
        hyper = _MU(mu) + _TAU(jnp.exp(log_tau)) - (len(theta) - 1) * log_tau
        return _fit(self.effects, self.errors, theta) - spread / 2 + hyper

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.errors.dtype)

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """theta, mu and tau."""
        return named(self.parameters, jnp.concatenate([position[:-1], jnp.exp(position[-1:])]))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """theta, mu and log tau."""
        values = gathered(parameters, self.parameters, self.errors.dtype)
        return jnp.concatenate([values[:-1], jnp.log(values[-1:])])


class NonCentredSchools(AbstractPosterior):
    """`CentredSchools` in ``u = (e, mu, log tau)``, ``theta_j = mu + tau e_j, e_j ~ N(0, 1)``."""

    effects: Float[Array, " schools"]
    errors: Float[Array, " schools"]
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, effects: ArrayLike, errors: ArrayLike, dtype: Any = None):
        self.effects, self.errors, self.parameters = _checked(effects, errors, dtype)
        self.dim = len(self.parameters)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        noise, mu, log_tau = position[:-2], position[-2], position[-1]
        tau = jnp.exp(log_tau)
        hyper = _MU(mu) + _TAU(tau) + log_tau
        return (
            _fit(self.effects, self.errors, mu + tau * noise)
            - jnp.sum(noise**2, axis=0) / 2
            + hyper
        )

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.errors.dtype)

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """theta, mu and tau."""
        noise, mu, tau = position[:-2], position[-2:-1], jnp.exp(position[-1:])
        return named(self.parameters, jnp.concatenate([mu + tau * noise, mu, tau]))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """e, mu and log tau."""
        values = gathered(parameters, self.parameters, self.errors.dtype)
        theta, mu, tau = values[:-2], values[-2:-1], values[-1:]
        return jnp.concatenate([(theta - mu) / tau, mu, jnp.log(tau)])


def _fit(effects: Array, errors: Array, theta: Vector) -> Scalar:
    return -jnp.sum(((column(effects, theta) - theta) / column(errors, theta)) ** 2, axis=0) / 2


def _checked(
    effects: ArrayLike, errors: ArrayLike, dtype: Any
) -> tuple[Array, Array, tuple[str, ...]]:
    effects, errors = np.asarray(effects, np.float64), np.asarray(errors, np.float64)
    if effects.ndim != 1 or errors.shape != effects.shape or not (errors > 0).all():
        raise ValueError(
            f"need effects and positive errors of one length, got {effects.shape} and {errors}"
        )
    dtype = default_dtype(dtype)
    return (
        jnp.asarray(effects, dtype),
        jnp.asarray(errors, dtype),
        (*indexed("theta", len(effects)), "mu", "tau"),
    )
