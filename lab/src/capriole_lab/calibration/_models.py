"""Models that can be simulated: prior, data given parameters, posterior of many data sets."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.coordinates import in_coordinates_of
from capriole.kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Jittered,
    Key,
    Mixture,
    Scalar,
    Transition,
    Vector,
    column,
)


class AbstractModel(eqx.Module):
    """A joint density of unconstrained parameters ``(dim, *chains)``, data ``(rows, *chains)``."""

    names: eqx.AbstractVar[tuple[str, ...]]

    @abstractmethod
    def draw_prior(self, key: Key, num: int) -> Vector:
        """``num`` independent draws of the parameters, ``(dim, num)``."""

    @abstractmethod
    def draw_data(self, key: Key, position: Vector) -> Array:
        """One data set per chain, ``(rows, chains)``."""

    @abstractmethod
    def log_prior(self, position: Vector) -> Scalar:
        """Log density of the prior in these coordinates, up to a constant."""

    @abstractmethod
    def log_likelihood(self, position: Vector, data: Array) -> Scalar:
        """Log density of the data given the parameters, up to a function of the data."""

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.names)

    def draw(self, key: Key, num: int) -> tuple[Vector, Array]:
        """Exact draws of both: parameters, and data given them."""
        prior_key, data_key = jax.random.split(key)
        position = self.draw_prior(prior_key, num)
        return position, self.draw_data(data_key, position)

    def quantities(self, position: Vector, data: Array) -> dict[str, Scalar]:
        """What is ranked: parameters, and what depends on the data (Modrak et al. 2023)."""
        fit = self.log_likelihood(position, data)
        found = dict(zip(self.names, position, strict=True))
        return found | {"log likelihood": fit, "log posterior": fit + self.log_prior(position)}


class Posterior(AbstractLogDensity):
    """``log prior + power * log likelihood``; every chain has its own data ``(rows, chains)``, or
    all ``(rows,)``.

    ``power`` is 1; other values are wrong models, 0 the prior.
    """

    model: AbstractModel
    data: Array
    power: Float[Array, ""]

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        data = self.data if self.data.ndim == position.ndim else column(self.data, position)
        return self.model.log_prior(position) + self.power * self.model.log_likelihood(
            position, data
        )

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return self.model.dim


class NormalModel(AbstractModel):
    """``s^2 ~ InvGamma(6, 5), mu | s ~ N(0, 4 s^2), y_i ~ N(mu, s^2)``, 6 rows; (mu, log s)."""

    names: tuple[str, ...] = eqx.field(static=True, default=("mean", "log scale"))
    shape: float = 6.0
    rate: float = 5.0
    width: float = 2.0
    rows: int = eqx.field(static=True, default=6)

    def draw_prior(self, key: Key, num: int) -> Vector:
        """Mean and log scale."""
        scale_key, mean_key = jax.random.split(key)
        log_scale = jnp.log(self.rate / jax.random.gamma(scale_key, self.shape, (num,))) / 2
        return jnp.stack(
            [self.width * jnp.exp(log_scale) * jax.random.normal(mean_key, (num,)), log_scale]
        )

    def draw_data(self, key: Key, position: Vector) -> Array:
        """The rows."""
        mean, log_scale = position
        return mean + jnp.exp(log_scale) * jax.random.normal(key, (self.rows, *mean.shape))

    def log_prior(self, position: Vector) -> Scalar:
        """With the Jacobian of s^2 -> log s."""
        mean, log_scale = position
        precision = jnp.exp(-2 * log_scale)
        return (
            -(2 * self.shape + 1) * log_scale
            - (self.rate + (mean / self.width) ** 2 / 2) * precision
        )

    def log_likelihood(self, position: Vector, data: Array) -> Scalar:
        """Normal."""
        mean, log_scale = position
        return (
            -jnp.sum((data - mean) ** 2, axis=0) * jnp.exp(-2 * log_scale) / 2
            - self.rows * log_scale
        )


class Hierarchy(AbstractModel):
    """Groups, centred: ``mu ~ N(0, 1), log tau ~ N(0, 1/4), theta_j ~ N(mu, tau), y_j ~ N(theta_j,
    1)``.

    A funnel where tau is small. Position (theta_1 ... theta_4, mu, log tau).
    """

    names: tuple[str, ...] = eqx.field(
        static=True, default=(*(f"effect {j + 1}" for j in range(4)), "mean", "log spread")
    )
    width: float = 0.5

    def draw_prior(self, key: Key, num: int) -> Vector:
        """Effects, their mean and log spread."""
        mean, log_spread, *noise = jax.random.normal(key, (self.dim, num))
        log_spread = self.width * log_spread
        return jnp.stack([*(mean + jnp.exp(log_spread) * jnp.stack(noise)), mean, log_spread])

    def draw_data(self, key: Key, position: Vector) -> Array:
        """One row per group."""
        effects = position[:-2]
        return effects + jax.random.normal(key, effects.shape)

    def log_prior(self, position: Vector) -> Scalar:
        """Normal at both levels."""
        effects, mean, log_spread = position[:-2], position[-2], position[-1]
        spread = jnp.sum((effects - mean) ** 2, axis=0) * jnp.exp(-2 * log_spread)
        return -(spread + mean**2 + (log_spread / self.width) ** 2) / 2 - len(effects) * log_spread

    def log_likelihood(self, position: Vector, data: Array) -> Scalar:
        """Normal with unit variance."""
        return -jnp.sum((data - position[:-2]) ** 2, axis=0) / 2


class LogisticModel(AbstractModel):
    """Logistic regression, 10 rows: ``w ~ N(0, I)``, an intercept and 3 slopes, ``y_i ~
    Bernoulli(sigmoid(x_i w))``.

    So few that posteriors overlap: a kernel without gradients, tuned on one data set, still moves
    on another.
    """

    features: Float[Array, "rows dim"]
    names: tuple[str, ...] = eqx.field(static=True)

    def __init__(self) -> None:
        drawn = np.random.default_rng(0).normal(size=(10, 3))
        # Correlated columns, for a posterior that is worth whitening.
        mixed = drawn @ np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.5], [0.0, 0.0, 1.5]])
        self.features = jnp.asarray(np.column_stack([np.ones(10), mixed]))
        self.names = ("intercept", "slope 1", "slope 2", "slope 3")

    def draw_prior(self, key: Key, num: int) -> Vector:
        """The weights."""
        return jax.random.normal(key, (self.dim, num))

    def draw_data(self, key: Key, position: Vector) -> Array:
        """Labels, 0 or 1."""
        chance = jax.nn.sigmoid(self.features @ position)
        return jax.random.bernoulli(key, chance).astype(position.dtype)

    def log_prior(self, position: Vector) -> Scalar:
        """Standard normal."""
        return -jnp.sum(position**2, axis=0) / 2

    def log_likelihood(self, position: Vector, data: Array) -> Scalar:
        """Bernoulli."""
        eta = self.features @ position
        return jnp.sum(data * eta - jax.nn.softplus(eta), axis=0)


def retargeted(
    kernel: AbstractTransition, logdensity: AbstractLogDensity, context: Array | None = None
) -> AbstractTransition:
    """The same dynamics, whitening included, for another log density in the user's coordinates: as
    exact for that one.

    ``context`` replaces that of the parts that have one. Raises TypeError for kernels of other
    kinds.
    """
    match kernel:
        case Mixture():
            parts = tuple(retargeted(part, logdensity, context) for part in kernel.transitions)
            return Mixture(parts, kernel.probabilities)
        case Jittered():
            inner = retargeted(kernel.transition, logdensity, context)
            return eqx.tree_at(lambda k: k.transition, kernel, inner)
        case Transition():
            old = kernel.logdensity
            return Transition(
                in_coordinates_of(old, logdensity),
                kernel.dynamics,
                None if kernel.context is None else context,
            )
    raise TypeError(
        f"cannot give {type(kernel).__name__} another target; known are Transition, Jittered and "
        "Mixture"
    )
