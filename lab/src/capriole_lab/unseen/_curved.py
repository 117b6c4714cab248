"""Curved targets: bananas, a chain of parabolas, twisted rings."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from capriole.kernels import Key, Scalar, Vector

from ._base import FLOAT, AbstractUnseen, gaussian

_GRID = 40_001


class Bananas(AbstractUnseen):
    """Independent pairs: ``a ~ N(0, s^2),  b ~ N(curvature (a^2 - s^2), width^2)``.

    ``pairs`` has (s, curvature, width) of each; position holds the pairs one after the other.
    """

    pairs: tuple[tuple[float, float, float], ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = 2 * len(self.pairs)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        value = jnp.zeros(position.shape[1:], FLOAT)
        for i, (scale, curvature, width) in enumerate(self.pairs):
            first, second = position[2 * i], position[2 * i + 1]
            rest = second - curvature * (first**2 - scale**2)
            value = value - (first / scale) ** 2 / 2 - (rest / width) ** 2 / 2
        return value

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        noise, rows = gaussian(key, self.dim, num), []
        for i, (scale, curvature, width) in enumerate(self.pairs):
            first = scale * noise[2 * i]
            rows += [first, curvature * (first**2 - scale**2) + width * noise[2 * i + 1]]
        return jnp.stack(rows)

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """``s^2`` and ``width^2 + 2 curvature^2 s^4``."""
        return np.array([v for s, c, w in self.pairs for v in (s**2, w**2 + 2 * c**2 * s**4)])


def bananas() -> Bananas:
    """Three pairs, from nearly straight to strongly bent: 6 dimensions."""
    return Bananas(pairs=((1.0, 0.2, 1.0), (2.0, 0.5, 0.5), (5.0, 0.1, 1.0)), spread=1.0)


class Parabolas(AbstractUnseen):
    """A chain of three: ``x_1 ~ N(0, 2^2),  x_2 ~ N(x_1^2 / 8, w^2),  x_3 ~ N(x_2^2 / 8, w^2)``."""

    dim: int = eqx.field(static=True, default=3)
    width: float = eqx.field(static=True, default=0.4)
    spread: float = eqx.field(static=True, default=1.0)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        first, second, third = position
        rest = jnp.stack([second - first**2 / 8, third - second**2 / 8])
        return -((first / 2) ** 2) / 2 - jnp.sum((rest / self.width) ** 2, axis=0) / 2

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        noise = gaussian(key, 3, num)
        first = 2 * noise[0]
        second = first**2 / 8 + self.width * noise[1]
        return jnp.stack([first, second, second**2 / 8 + self.width * noise[2]])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """From the moments of ``x_2 = z^2 / 2 + w e``."""
        return np.array([0.0, 0.5, (0.75 + self.width**2) / 8])

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """NaN for the last, whose square has very heavy tails."""
        return np.array([4.0, 0.5 + self.width**2, np.nan])


def parabolas() -> Parabolas:
    """The chain of parabolas."""
    return Parabolas()


class TwistedShell(AbstractUnseen):
    """A ring (2-d) or shell (4-d), each pair of coordinates bent into a banana::

        u = (x_0, x_1 - twist x_0^2, x_2, x_3 - twist x_2^2),   |u| near radius

    The log density is ``-(|u| - radius)^2 / (2 width^2)``. Draws invert the distribution function
    of ``|u|`` on a fine grid.
    """

    dim: int = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    width: float = eqx.field(static=True)
    twist: float = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def _bend(self, position: Vector, sign: float) -> Vector:
        bent = position[1::2] + sign * self.twist * position[::2] ** 2
        return jnp.stack([position[::2], bent], axis=1).reshape(position.shape)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant; the gradient at the centre is zero."""
        square = jnp.sum(self._bend(position, -1.0) ** 2, axis=0)
        away = square > 0
        length = jnp.where(away, jnp.sqrt(jnp.where(away, square, 1.0)), 0.0)
        return -(((length - self.radius) / self.width) ** 2) / 2

    def _lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """A grid of lengths, and the density of ``|u|`` there (not normalised)."""
        low = max(0.0, self.radius - 10 * self.width)
        grid = np.linspace(low, self.radius + 10 * self.width, _GRID)
        return grid, grid ** (self.dim - 1) * np.exp(
            -(((grid - self.radius) / self.width) ** 2) / 2
        )

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws up to the grid."""
        grid, density = self._lengths()
        below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
        keys = jax.random.split(key, 2)
        uniform = jax.random.uniform(keys[0], (num,), FLOAT)
        length = jnp.interp(uniform, jnp.asarray(below / below[-1]), jnp.asarray(grid))
        direction = gaussian(keys[1], self.dim, num)
        return self._bend(length * direction / jnp.linalg.norm(direction, axis=0), 1.0)

    def _moment(self, power: int) -> float:
        """E[|u|^power], by the trapezoidal rule."""
        grid, density = self._lengths()
        return float(np.sum(grid**power * density) / np.sum(density))

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero, and ``twist E[u_0^2]`` in the bent coordinates."""
        return np.tile([0.0, self.twist * self._moment(2) / self.dim], self.dim // 2)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """From the second and fourth moments of a point on a sphere."""
        square = self._moment(2) / self.dim
        fourth = 3 * self._moment(4) / (self.dim * (self.dim + 2))
        return np.tile([square, square + self.twist**2 * (fourth - square**2)], self.dim // 2)


def twisted_ring() -> TwistedShell:
    """A twisted ring in 2 dimensions."""
    return TwistedShell(dim=2, radius=3.0, width=0.3, twist=0.3, spread=1.0)


def twisted_shell() -> TwistedShell:
    """A twisted shell in 4 dimensions."""
    return TwistedShell(dim=4, radius=4.0, width=0.4, twist=0.25, spread=1.0)
