"""Batting averages of 1970: a centred hierarchy of binomials."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.nn import sigmoid, softplus
from jax.scipy.special import logit
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector

from .._base import default_dtype, normal
from .._posterior import AbstractPosterior, gathered, indexed, named

_HITS = (18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7)
_AT_BATS = 45


class BinomialHierarchy(AbstractPosterior):
    """``hits_j ~ Binomial(trials, chance_j), logit chance_j ~ N(mu, tau), mu ~ N(-1, 1), tau ~
    N+(0, 1)``.

    Centred, ``u = (logit chance, mu, log tau)``: few trials each leave tau near 0 possible, so it
    is a funnel. Raises ValueError unless all hits are from 0 to trials.
    """

    hits: Float[Array, " groups"]
    trials: int = eqx.field(static=True)
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, hits: ArrayLike, trials: int, dtype: Any = None):
        hits = np.asarray(hits, np.float64)
        if hits.ndim != 1 or not ((hits >= 0) & (hits <= trials)).all():
            raise ValueError(f"hits must lie from 0 to trials = {trials}, got {hits}")
        self.hits, self.trials = jnp.asarray(hits, default_dtype(dtype)), trials
        self.parameters = (*indexed("chance", len(hits)), "mu", "tau")
        self.dim = len(self.parameters)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        odds, mu, log_tau = position[:-2], position[-2], position[-1]
        likelihood = self.hits @ odds - self.trials * jnp.sum(softplus(odds), axis=0)
        spread = jnp.sum((odds - mu) ** 2, axis=0) * jnp.exp(-2 * log_tau)
        hyper = -((mu + 1) ** 2 + jnp.exp(2 * log_tau)) / 2 - (len(odds) - 1) * log_tau
        return likelihood - spread / 2 + hyper

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.hits.dtype)

    def hyper_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of (mu, log tau), exact to about four digits: chances integrated out
        one by one.

        Gauss-Hermite quadrature for each chance given mu and log tau, sums over a grid of the two,
        down to log tau = -14, below which lies a mass of the order of exp(-14).
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        mu, log_tau = np.meshgrid(np.linspace(-4, 2, 301), np.linspace(-14, 2, 321), indexing="ij")
        odds = mu[..., None] + np.exp(log_tau)[..., None] * nodes
        total = -((mu + 1) ** 2 + np.exp(2 * log_tau)) / 2 + log_tau
        hits, counts = np.unique(np.asarray(self.hits, np.float64), return_counts=True)
        for num, count in zip(hits, counts, strict=True):
            each = num * odds - self.trials * np.logaddexp(0, odds)
            top = each.max(axis=-1, keepdims=True)
            total += count * (top[..., 0] + np.log(np.exp(each - top) @ weights))
        mass = np.exp(total - total.max())
        mass /= mass.sum()
        mean = np.asarray([np.sum(mass * mu), np.sum(mass * log_tau)])
        square = np.asarray([np.sum(mass * mu**2), np.sum(mass * log_tau**2)])
        return mean, square - mean**2

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """Chances, mu and tau."""
        parts = [sigmoid(position[:-2]), position[-2:-1], jnp.exp(position[-1:])]
        return named(self.parameters, jnp.concatenate(parts))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`."""
        values = gathered(parameters, self.parameters, self.hits.dtype)
        return jnp.concatenate([logit(values[:-2]), values[-2:-1], jnp.log(values[-1:])])


def batting_averages(*, dtype: Any = None) -> BinomialHierarchy:
    """Hits of 18 players in 45 at bats of 1970 (Efron and Morris 1975): 20 dimensions."""
    return BinomialHierarchy(hits=_HITS, trials=_AT_BATS, dtype=dtype)
