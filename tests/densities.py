"""Small skewed targets with exact draws, in the library's layout: positions (dim, chains).

``draw(rng, n)`` gives exact draws; ``standardise(x)`` (where one exists) maps them to independent
N(0, 1) numbers. Written for the tests alone, so that the library is tested without the laboratory.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from capriole import AbstractLogDensity


class Gaussian(AbstractLogDensity):
    """Diagonal Gaussian."""

    scale: jnp.ndarray

    def __call__(self, position):
        z = position / self.scale.reshape((-1,) + (1,) * (position.ndim - 1))
        return -jnp.sum(z**2, axis=0) / 2

    def standardise(self, x):
        return x / np.asarray(self.scale)[:, None]

    def draw(self, rng, n):
        return rng.normal(size=(self.scale.size, n)) * np.asarray(self.scale)[:, None]


class Banana(AbstractLogDensity):
    """x0 ~ N(0, s^2), x1 | x0 ~ N(b (x0^2 - s^2), 1), any further coordinates N(0, 1)."""

    scale: float = 1.5
    bend: float = 0.4

    def __call__(self, position):
        curve = position[1:2] - self.bend * (position[0] ** 2 - self.scale**2)
        rest = jnp.sum(curve**2, axis=0) + jnp.sum(position[2:] ** 2, axis=0)
        return -((position[0] / self.scale) ** 2) / 2 - rest / 2

    def standardise(self, x):
        curve = x[1] - self.bend * (x[0] ** 2 - self.scale**2)
        return np.concatenate([[x[0] / self.scale, curve], x[2:]])

    def draw(self, rng, n):
        z = rng.normal(size=(2, n))
        x0 = self.scale * z[0]
        return np.stack([x0, z[1] + self.bend * (x0**2 - self.scale**2)])


class Funnel(AbstractLogDensity):
    """Neck y = x0 ~ N(0, s^2), the others N(0, exp(y))."""

    scale: float = 1.0

    def __call__(self, position):
        neck, rest = position[0], position[1:]
        energy = (
            (neck / self.scale) ** 2
            + jnp.exp(-neck) * jnp.sum(rest**2, axis=0)
            + rest.shape[0] * neck
        )
        return -energy / 2

    def standardise(self, x):
        return np.concatenate([x[:1] / self.scale, x[1:] * np.exp(-x[0] / 2)])

    def draw(self, rng, n, dim=3):
        neck = self.scale * rng.normal(size=n)
        return np.concatenate([neck[None], rng.normal(size=(dim - 1, n)) * np.exp(neck / 2)])


class Mixture2(AbstractLogDensity):
    """Round Gaussians in the plane at (-c, 0) and (c, 0): one wide with weight w, one narrow."""

    centre: float = 1.5
    wide: float = 1.2
    narrow: float = 0.4
    weight: float = 0.5

    def __call__(self, position):
        left = self._part(position, -1, self.wide, self.weight)
        return jnp.logaddexp(left, self._part(position, 1, self.narrow, 1 - self.weight))

    def _part(self, position, sign, sd, weight):
        square = (position[0] - sign * self.centre) ** 2 + position[1] ** 2
        return math.log(weight) - 2 * math.log(sd) - square / (2 * sd**2)

    def draw(self, rng, n):
        first = rng.random(n) < self.weight
        z = rng.normal(size=(2, n)) * np.where(first, self.wide, self.narrow)
        return z + np.stack([np.where(first, -self.centre, self.centre), np.zeros(n)])

    def cdfs(self):
        """Exact distribution functions of the two coordinates."""

        def cdf(value, centre):
            wide = special.ndtr((value + centre) / self.wide)
            return self.weight * wide + (1 - self.weight) * special.ndtr(
                (value - centre) / self.narrow
            )

        return [lambda x: cdf(x, self.centre), lambda x: cdf(x, 0.0)]


class Correlated(AbstractLogDensity):
    """Two-dimensional Gaussian with these variances along axes that are turned by 45 degrees."""

    whiten: jax.Array
    factor: jax.Array
    dim: int = eqx.field(static=True, default=2)

    @classmethod
    def of(cls, wide=1e2, narrow=1e-2):
        """The paper's strongly correlated Gaussian, unless told otherwise."""
        axes = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
        sd = np.sqrt([wide, narrow])
        return cls(jnp.asarray((axes / sd).T), jnp.asarray(axes * sd))

    def __call__(self, position):
        return -jnp.sum((self.whiten @ position) ** 2, axis=0) / 2

    def start(self, key, num):
        """N(0, I): a log density that has starts of its own."""
        return jax.random.normal(key, (num, 2)).T

    def sample(self, key, num):
        """Exact draws."""
        return self.factor @ self.start(key, num)


class Rough(AbstractLogDensity):
    """N(0, I) with a ripple 0.01 cos(x / 1e-4) whose gradient is noise."""

    def __call__(self, position):
        return -jnp.sum(position**2 / 2 + 0.01 * jnp.cos(position / 1e-4), axis=0)


def cliff(position):
    """A Gaussian that is NaN for x0 < -1, +inf for x0 > 1.5 and -inf for x1 > 1."""
    value = -jnp.sum(position**2) / 2
    value = jnp.where(position[1] > 1, -jnp.inf, value)
    return jnp.where(position[0] < -1, jnp.nan, jnp.where(position[0] > 1.5, jnp.inf, value))


@jax.custom_vjp
def hosted(x):
    """N(0, I), computed outside JAX: it has a gradient and no second derivative."""
    return jax.pure_callback(
        lambda a: -np.sum(np.asarray(a) ** 2) / 2,
        jax.ShapeDtypeStruct((), x.dtype),
        x,
        vmap_method="sequential",
    )


def _hosted_forward(x):
    gradient = jax.pure_callback(
        lambda a: -np.asarray(a),
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        x,
        vmap_method="sequential",
    )
    return hosted(x), gradient


hosted.defvjp(_hosted_forward, lambda gradient, g: (g * gradient,))
