"""Targets whose scales are variables: funnels, hierarchies, shrinkage, volatility.

All are priors in the centred form, so draws come from the top down.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from capriole.kernels import Key, Scalar, Vector

from ._base import AbstractUnseen, gaussian, log_gamma


def _normal(value: Array, mean: Array | float, log_sd: Array | float) -> Array:
    """Log density of N(mean, exp(log_sd)^2), up to a constant."""
    return -(((value - mean) * jnp.exp(-log_sd)) ** 2) / 2 - log_sd


class ScaleFunnel(AbstractUnseen):
    """One log standard deviation and its children::

    x_0 ~ N(0, neck^2),   x_i ~ N(0, exp(2 x_0))
    """

    num_children: int = eqx.field(static=True)
    neck: float = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = 1 + self.num_children

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        log_sd = position[0]
        children = jnp.sum(position[1:] ** 2, axis=0) * jnp.exp(-2 * log_sd) / 2
        return -((log_sd / self.neck) ** 2) / 2 - children - self.num_children * log_sd

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        noise = gaussian(key, self.dim, num)
        log_sd = self.neck * noise[:1]
        return jnp.concatenate([log_sd, jnp.exp(log_sd) * noise[1:]])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Of the scale; NaN for the children."""
        return np.array([self.neck**2] + [np.nan] * self.num_children)


def mild_funnel() -> ScaleFunnel:
    """Fifty children whose log standard deviation has standard deviation 0.5."""
    return ScaleFunnel(num_children=50, neck=0.5, spread=1.0)


def strong_funnel() -> ScaleFunnel:
    """Five children whose log standard deviation has standard deviation 1.3."""
    return ScaleFunnel(num_children=5, neck=1.3, spread=1.0)


class TwoLevels(AbstractUnseen):
    """Groups around a mean, items around their group; both log standard deviations are variables.

    The order is: mean, log sd of groups, log sd of items, groups, items of the first group, ...
    """

    num_groups: int = eqx.field(static=True)
    num_items: int = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    _TOP = ((0.0, 2.0), (0.0, 0.6), (-0.7, 0.5))
    """Mean and standard deviation of the mean and of the two log standard deviations."""

    def __post_init__(self) -> None:
        self.dim = 3 + self.num_groups * (1 + self.num_items)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        value = sum(
            -(((position[i] - mean) / sd) ** 2) / 2 for i, (mean, sd) in enumerate(self._TOP)
        )
        centre, group_sd, item_sd = position[:3]
        groups, items = position[3 : 3 + self.num_groups], position[3 + self.num_groups :]
        parents = jnp.repeat(groups, self.num_items, axis=0)
        value = value + jnp.sum(_normal(groups, centre, group_sd), axis=0)
        return value + jnp.sum(_normal(items, parents, item_sd), axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        noise = gaussian(key, self.dim, num)
        centre, group_sd, item_sd = (
            mean + sd * row for row, (mean, sd) in zip(noise[:3], self._TOP, strict=True)
        )
        groups = centre + jnp.exp(group_sd) * noise[3 : 3 + self.num_groups]
        items = jnp.repeat(groups, self.num_items, axis=0)
        items = items + jnp.exp(item_sd) * noise[3 + self.num_groups :]
        return jnp.concatenate([jnp.stack([centre, group_sd, item_sd]), groups, items])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Those of the top, zero below."""
        return np.array([mean for mean, _ in self._TOP] + [0.0] * (self.dim - 3))

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Those of the top, NaN below."""
        return np.array([sd**2 for _, sd in self._TOP] + [np.nan] * (self.dim - 3))


def two_levels() -> TwoLevels:
    """Six groups with four items each."""
    return TwoLevels(num_groups=6, num_items=4, spread=1.0)


class Shrinkage(AbstractUnseen):
    """A horseshoe with lighter tails: half-t local scales, a log-normal global scale::

        g ~ N(-1, 0.5^2),   exp(l_i) ~ half-t(freedom),   b_i ~ N(0, exp(g + l_i)^2)

    The order is: g, all l, all b.
    """

    num: int = eqx.field(static=True)
    freedom: float = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = 1 + 2 * self.num

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        overall, local, coefficient = position[0], position[1 : 1 + self.num], position[-self.num :]
        tail = jnp.log1p(jnp.exp(2 * local) / self.freedom)
        scales = jnp.sum(local - (self.freedom + 1) / 2 * tail, axis=0)
        children = jnp.sum(_normal(coefficient, 0.0, overall + local), axis=0)
        return -(((overall + 1) / 0.5) ** 2) / 2 + scales + children

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        keys = jax.random.split(key, 2)
        noise = gaussian(keys[0], self.dim, num)
        overall = -1 + 0.5 * noise[:1]
        chi = log_gamma(keys[1], np.full(self.num, self.freedom / 2), num)
        local = jnp.log(jnp.abs(noise[1 : 1 + self.num]))
        local = local - (chi - math.log(self.freedom / 2)) / 2
        return jnp.concatenate([overall, local, jnp.exp(overall + local) * noise[1 + self.num :]])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Of the logs in closed form, zero for the coefficients."""
        half = self.freedom / 2
        local = (special.digamma(0.5) + math.log(2) - special.digamma(half) + math.log(half)) / 2
        return np.concatenate([[-1.0], np.full(self.num, local), np.zeros(self.num)])

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Of the logs in closed form, NaN for the coefficients."""
        local = (special.polygamma(1, 0.5) + special.polygamma(1, self.freedom / 2)) / 4
        return np.concatenate([[0.25], np.full(self.num, local), np.full(self.num, np.nan)])


def shrinkage() -> Shrinkage:
    """Five coefficients whose local scales are half-t with 4 degrees of freedom."""
    return Shrinkage(num=5, freedom=4.0, spread=1.0)


class VolatileLevel(AbstractUnseen):
    """A random walk whose log step size is a random walk with an unknown step::

        s ~ N(-1.5, 0.4^2),   h_1 ~ N(0, 0.5^2),   h_t ~ N(h_{t-1}, exp(s)^2)
        y_0 ~ N(0, 1),        y_t ~ N(y_{t-1}, exp(h_t)^2)

    The order is: s, all h, all y.
    """

    num: int = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = 2 + 2 * self.num

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        step, height, level = position[0], position[1 : 1 + self.num], position[1 + self.num :]
        value = -(((step + 1.5) / 0.4) ** 2) / 2 - (height[0] / 0.5) ** 2 / 2 - level[0] ** 2 / 2
        value = value + jnp.sum(_normal(height[1:], height[:-1], step), axis=0)
        return value + jnp.sum(_normal(level[1:], level[:-1], height), axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        noise = gaussian(key, self.dim, num)
        step = -1.5 + 0.4 * noise[:1]
        moves = [0.5 * noise[1:2], jnp.exp(step) * noise[2 : 1 + self.num]]
        height = jnp.cumsum(jnp.concatenate(moves), axis=0)
        walk = [noise[1 + self.num : 2 + self.num], jnp.exp(height) * noise[2 + self.num :]]
        return jnp.concatenate([step, height, jnp.cumsum(jnp.concatenate(walk), axis=0)])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero but for the step of the log steps."""
        return np.array([-1.5] + [0.0] * (self.dim - 1))

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Of the log steps; that of the first level; NaN for the other levels."""
        height = 0.25 + np.arange(self.num) * math.exp(-3 + 2 * 0.16)
        return np.concatenate([[0.16], height, [1.0], np.full(self.num, np.nan)])


def volatile_level() -> VolatileLevel:
    """Fourteen steps: 30 dimensions."""
    return VolatileLevel(num=14, spread=1.0)
