"""Stochastic volatility, non-centred."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import logit
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector, column

from .._base import default_dtype, normal
from .._data import read_table
from .._posterior import AbstractPosterior, gathered, indexed, named
from .._recurrence import linear_recurrence


class StochasticVolatility(AbstractPosterior):
    """``y_t ~ N(0, exp(h_t))``, log variances an autoregression (Kim, Shephard and Chib 1998)::

        h_1 ~ N(mu, sigma^2 / (1 - phi^2)),  h_t ~ N(mu + phi (h_{t-1} - mu), sigma^2)
        mu ~ N(0, variance 10),  (phi + 1) / 2 ~ Beta(20, 1.5),  sigma^2 ~ InverseGamma(2.5, 0.025)

    in ``u = (e_1, ..., e_T, mu, logit((phi + 1) / 2), log sigma)``, e the standardised innovations
    of h. Raises ValueError unless the returns are one finite series of at least two values.
    """

    squares: Float[Array, " times"]
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, returns: ArrayLike, dtype: Any = None):
        series = np.asarray(returns, np.float64)
        if series.ndim != 1 or len(series) < 2 or not np.isfinite(series).all():
            raise ValueError(
                f"need one finite series of at least 2 returns, got shape {series.shape} or "
                "missing values"
            )
        self.squares = jnp.asarray(series**2, default_dtype(dtype))
        self.parameters = (*indexed("h", len(series)), "mu", "phi", "sigma")
        self.dim = len(self.parameters)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        noise, mu, odds, log_sigma = position[:-3], position[-3], position[-2], position[-1]
        volatility = self._volatility(position)
        misfit = column(self.squares, volatility) * jnp.exp(-volatility) + volatility + noise**2
        priors = (
            20 * log_sigmoid(odds)
            + 1.5 * log_sigmoid(-odds)
            - 5 * log_sigma
            - 0.025 * jnp.exp(-2 * log_sigma)
        )
        return priors - mu**2 / 20 - jnp.sum(misfit, axis=0) / 2

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I), but narrow around plausible mu, phi and sigma: wide volatilities overflow."""
        noise = normal(key, self.dim, num, self.squares.dtype)
        mu, odds, log_sigma = noise[-3:]
        tail = jnp.stack([mu + jnp.log(jnp.mean(self.squares)), odds / 2 + 3, log_sigma / 4 - 1.5])
        return jnp.concatenate([noise[:-3], tail])

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """h, mu, phi and sigma."""
        tail = jnp.stack([position[-3], jnp.tanh(position[-2] / 2), jnp.exp(position[-1])])
        return named(self.parameters, jnp.concatenate([self._volatility(position), tail]))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`."""
        values = gathered(parameters, self.parameters, self.squares.dtype)
        mu, phi, sigma = values[-3:]
        away = values[:-3] - mu
        noise = (
            jnp.concatenate([away[:1] * jnp.sqrt(1 - phi**2), away[1:] - phi * away[:-1]]) / sigma
        )
        return jnp.concatenate([noise, jnp.stack([mu, logit((phi + 1) / 2), jnp.log(sigma)])])

    def _volatility(self, position: Vector) -> Float[Array, "times *chains"]:
        noise, mu, odds, log_sigma = position[:-3], position[-3], position[-2], position[-1]
        spread = jnp.exp(-(log_sigmoid(odds) + log_sigmoid(-odds)) / 2) / 2  # 1 / sqrt(1 - phi^2)
        innovations = jnp.exp(log_sigma) * jnp.concatenate([spread * noise[:1], noise[1:]])
        return mu + linear_recurrence(innovations, 2 * sigmoid(odds) - 1)


def stochastic_volatility(*, dtype: Any = None) -> StochasticVolatility:
    """200 returns simulated from the model with mu = -1, phi = 0.95, sigma = 0.25."""
    return StochasticVolatility(returns=_simulated(200, mu=-1.0, phi=0.95, sigma=0.25), dtype=dtype)


def volatility_moments() -> np.ndarray:
    """Mean, variance and their standard errors (parameters, 4) of mu, logit((phi + 1) / 2) and log
    sigma.

    Of `stochastic_volatility`, by integration (`lab/benchmarks/volatility_moments.py`;
    results/volatility-moments.json).
    """
    return read_table("volatility_moments.csv", (3, 4))


def _simulated(num: int, *, mu: float, phi: float, sigma: float) -> np.ndarray:
    """Returns from a fixed seed of NumPy's legacy generator, whose stream never changes."""
    stream = np.random.RandomState(19980701)
    noise, innovations = stream.standard_normal(num), sigma * stream.standard_normal(num)
    innovations[0] /= np.sqrt(1 - phi**2)
    away = [0.0]
    for innovation in innovations:
        away.append(phi * away[-1] + innovation)
    return noise * np.exp((mu + np.array(away[1:])) / 2)
