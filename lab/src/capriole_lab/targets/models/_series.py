"""Posteriors of series and mixtures: GARCH(1, 1), two-state HMM, two components."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_sigmoid, sigmoid, softplus
from jax.scipy.special import logit
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector, column

from .._base import default_dtype, normal
from .._posterior import AbstractPosterior, gathered, named
from .._recurrence import linear_recurrence

_GARCH = ("mu", "alpha0", "alpha1", "beta1")
_MARKOV = ("theta1[1]", "theta1[2]", "theta2[1]", "theta2[2]", "mu[1]", "mu[2]")
_MIXTURE = ("mu[1]", "mu[2]", "sigma[1]", "sigma[2]", "theta")


class Garch(AbstractPosterior):
    """``y_t ~ N(mu, var_t), var_t = a0 + a1 (y_{t-1} - mu)^2 + b1 var_{t-1}``, var_1 given, flat
    priors where a0 > 0, 0 < a1, b1 and a1 + b1 < 1; ``u = (mu, log a0, logit a1, logit(b1 / (1 -
    a1)))``.
    """

    series: Float[Array, " times"]
    first_variance: float = eqx.field(static=True)
    parameters: tuple[str, ...] = eqx.field(static=True, default=_GARCH)
    dim: int = eqx.field(static=True, default=4)

    def __init__(self, *, series: ArrayLike, first_scale: float, dtype: Any = None):
        if not first_scale > 0:
            raise ValueError(f"first_scale must be positive, got {first_scale}")
        self.series, self.first_variance = _series(series, dtype), float(first_scale) ** 2

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        alpha0, alpha1, beta1 = self._coefficients(position)
        square = (column(self.series, position) - position[0]) ** 2
        first = jnp.full_like(square[:1], self.first_variance)
        variance = linear_recurrence(jnp.concatenate([first, alpha0 + alpha1 * square[:-1]]), beta1)
        likelihood = -jnp.sum(square / variance + jnp.log(variance), axis=0) / 2
        halves = log_sigmoid(position[2:]) + log_sigmoid(-position[2:])
        return likelihood + position[1] + jnp.sum(halves, axis=0) + log_sigmoid(-position[2])

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I), mu shifted to the mean of the series."""
        noise = normal(key, self.dim, num, self.series.dtype)
        return noise.at[0].add(jnp.mean(self.series))

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """mu, alpha0, alpha1 and beta1."""
        return named(self.parameters, jnp.stack([position[0], *self._coefficients(position)]))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`."""
        mu, alpha0, alpha1, beta1 = gathered(parameters, self.parameters, self.series.dtype)
        return jnp.stack([mu, jnp.log(alpha0), logit(alpha1), logit(beta1 / (1 - alpha1))])

    def _coefficients(self, position: Vector) -> tuple[Scalar, Scalar, Scalar]:
        return (
            jnp.exp(position[1]),
            sigmoid(position[2]),
            sigmoid(-position[2]) * sigmoid(position[3]),
        )


class HiddenMarkov(AbstractPosterior):
    """Two hidden states, uniform rows theta1 and theta2 of transition probabilities, ``y_t ~
    N(mu_state, 1)``, ``mu_1 ~ N(3, 1), mu_2 ~ N(10, 1)``, 0 < mu_1 < mu_2, no weight on the first
    state (bball-hmm, Imad Ali).

    ``u = (logit theta1[1], logit theta2[1], log mu_1, log(mu_2 - mu_1))``; paths are summed by the
    forward algorithm.
    """

    series: Float[Array, " times"]
    parameters: tuple[str, ...] = eqx.field(static=True, default=_MARKOV)
    dim: int = eqx.field(static=True, default=4)

    def __init__(self, *, series: ArrayLike, dtype: Any = None):
        self.series = _series(series, dtype)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        odds, means = position[:2], self._means(position)
        moves = jnp.stack([log_sigmoid(odds), log_sigmoid(-odds)], axis=1)
        emission = -((column(self.series, position)[:, None] - means) ** 2) / 2

        def step(forward: Vector, observed: Vector) -> tuple[Vector, None]:
            paths = forward[:, None] + moves
            return jnp.logaddexp(paths[0], paths[1]) + observed, None

        last, _ = jax.lax.scan(step, emission[0], emission[1:])
        likelihood = jnp.logaddexp(last[0], last[1])
        priors = -((means[0] - 3) ** 2 + (means[1] - 10) ** 2) / 2
        return likelihood + priors + jnp.sum(moves, axis=(0, 1)) + position[2] + position[3]

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.series.dtype)

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """theta1, theta2 and mu."""
        first = sigmoid(position[:2])
        rows = jnp.stack([first[0], sigmoid(-position[0]), first[1], sigmoid(-position[1])])
        return named(self.parameters, jnp.concatenate([rows, self._means(position)]))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`; both elements of a row count, so that digits near 1 last."""
        values = gathered(parameters, self.parameters, self.series.dtype)
        odds = jnp.log(values[0:4:2]) - jnp.log(values[1:4:2])
        return jnp.concatenate([odds, jnp.log(values[4:5]), jnp.log(values[5:6] - values[4:5])])

    def _means(self, position: Vector) -> Vector:
        first = jnp.exp(position[2])
        return jnp.stack([first, first + jnp.exp(position[3])])


class NormalMixture(AbstractPosterior):
    """``y_n ~ theta N(mu_1, s_1) + (1 - theta) N(mu_2, s_2)``, priors N(0, 2), N+(0, 2), Beta(5,
    5), mu_1 < mu_2; ``u = (mu_1, log(mu_2 - mu_1), log s_1, log s_2, logit theta)``. Each
    component's log density is a polynomial in y, so that all rows and chains take one product with
    the ``powers`` (1, y, y^2) and one softplus of the difference from the wider one: from the
    narrower one, sums of 1e20 would cancel where its scale is tiny.
    """

    powers: Float[Array, "rows 3"]
    parameters: tuple[str, ...] = eqx.field(static=True, default=_MIXTURE)
    dim: int = eqx.field(static=True, default=5)

    def __init__(self, *, values: ArrayLike, dtype: Any = None):
        series = _series(values, dtype)
        self.powers = jnp.stack([jnp.ones_like(series), series, series**2], axis=1)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        means, log_scales, odds = self._means(position), position[2:4], position[4]
        weights, precisions = (
            jnp.stack([log_sigmoid(odds), log_sigmoid(-odds)]),
            jnp.exp(-2 * log_scales),
        )
        constants = weights - log_scales - means**2 * precisions / 2
        each = jnp.stack([constants, means * precisions, -precisions / 2])
        each = jnp.where(precisions[0] < precisions[1], each, each[:, ::-1])
        wide, excess = each[:, 0], each[:, 1] - each[:, 0]
        likelihood = self.powers.sum(axis=0) @ wide + jnp.sum(
            softplus(self.powers @ excess), axis=0
        )
        priors = -jnp.sum(means**2 + jnp.exp(2 * log_scales), axis=0) / 8 + 5 * jnp.sum(
            weights, axis=0
        )
        return likelihood + priors + jnp.sum(position[1:4], axis=0)

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.powers.dtype)

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """mu, sigma and theta."""
        parts = [self._means(position), jnp.exp(position[2:4]), sigmoid(position[4:])]
        return named(self.parameters, jnp.concatenate(parts))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`."""
        values = gathered(parameters, self.parameters, self.powers.dtype)
        gap = jnp.log(values[1:2] - values[:1])
        return jnp.concatenate([values[:1], gap, jnp.log(values[2:4]), logit(values[4:])])

    def _means(self, position: Vector) -> Vector:
        return jnp.stack([position[0], position[0] + jnp.exp(position[1])])


def _series(values: ArrayLike, dtype: Any) -> Array:
    """The data as an array. Raises ValueError unless it is one finite series of two or more."""
    series = np.asarray(values, np.float64)
    if series.ndim != 1 or len(series) < 2 or not np.isfinite(series).all():
        raise ValueError(
            f"need one finite series of at least 2 values, got shape {series.shape} or missing "
            "values"
        )
    return jnp.asarray(series, default_dtype(dtype))
