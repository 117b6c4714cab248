"""Mixtures of Gaussians with modes of unequal weight, width and shape."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from capriole.kernels import Key, Scalar, Vector, column

from ._base import FLOAT, AbstractUnseenModes, gaussian


class UnequalModes(AbstractUnseenModes):
    """``log sum_k w_k N(x; mean_k, F_k F_k^T)``, normalised.

    Args:
        weights: Weights of the modes, of sum 1.
        means: Their means, of shape (modes, dim).
        factors: Their factors ``F_k``, of shape (modes, dim, dim).
        spread: Scale of the starts.
    """

    means: Float[Array, "modes dim"]
    factors: Float[Array, "modes dim dim"]
    whiten: Float[Array, "modes dim dim"]
    constants: Float[Array, " modes"]
    weights: tuple[float, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __init__(
        self, weights: tuple[float, ...], means: np.ndarray, factors: np.ndarray, *, spread: float
    ):
        self.means, self.factors = jnp.asarray(means, FLOAT), jnp.asarray(factors, FLOAT)
        self.whiten = jnp.asarray(np.linalg.inv(factors), FLOAT)
        self.weights, self.dim, self.spread = weights, means.shape[1], spread
        volume = np.linalg.slogdet(factors)[1] + self.dim / 2 * math.log(2 * math.pi)
        self.constants = jnp.asarray(np.log(weights) - volume, FLOAT)

    @property
    def num_modes(self) -> int:
        """Number of components."""
        return len(self.weights)

    def _log_parts(self, position: Vector) -> Float[Array, "modes *chains"]:
        parts = [
            jnp.sum((whiten @ (position - column(mean, position))) ** 2, axis=0)
            for whiten, mean in zip(self.whiten, self.means, strict=True)
        ]
        squares = jnp.stack(parts)
        return column(self.constants, squares) - squares / 2

    def __call__(self, position: Vector) -> Scalar:
        """Normalised log density."""
        return jax.nn.logsumexp(self._log_parts(position), axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        keys = jax.random.split(key, 2)
        logits = jnp.log(jnp.asarray(self.weights, FLOAT))
        label = jax.random.categorical(keys[0], logits, shape=(num,))
        noise = gaussian(keys[1], self.dim, num)
        every = jnp.stack(
            [m[:, None] + f @ noise for m, f in zip(self.means, self.factors, strict=True)]
        )
        return jnp.take_along_axis(every, label[None, None], axis=0)[0]

    def mode(self, position: Vector) -> Int[Array, "*chains"]:
        """The component that is most responsible."""
        return jnp.argmax(self._log_parts(position), axis=0)

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Weighted mean of the means."""
        return np.array(self.weights) @ np.asarray(self.means)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Within plus between components."""
        within = np.sum(np.asarray(self.factors) ** 2, axis=2)
        return np.array(self.weights) @ (within + (np.asarray(self.means) - self.mean) ** 2)


def two_modes() -> UnequalModes:
    """Two unit modes 8 standard deviations apart in 5 dimensions, weights 0.2 and 0.8."""
    axis = np.array([1.0, -1.0, 0.5, 0.0, 2.0])
    centre = 4 * axis / np.linalg.norm(axis)
    return UnequalModes(
        (0.2, 0.8), np.stack([-centre, centre]), np.stack(2 * [np.eye(5)]), spread=4
    )


def three_widths() -> UnequalModes:
    """Three modes in 3 dimensions with standard deviations 0.3, 1 and 2."""
    means = np.array([[-5.0, 0.0, 2.0], [4.0, 4.0, 0.0], [2.0, -8.0, -3.0]])
    factors = np.array([0.3, 1.0, 2.0])[:, None, None] * np.eye(3)
    return UnequalModes((0.3, 0.3, 0.4), means, factors, spread=5)


def narrow_and_wide() -> UnequalModes:
    """A narrow mode on the flank of a wide, correlated one, in 2 dimensions."""
    wide = np.linalg.cholesky(np.array([[9.0, 5.0], [5.0, 4.0]]))
    factors = np.stack([0.1 * np.eye(2), wide])
    return UnequalModes((0.3, 0.7), np.array([[4.0, -1.0], [0.0, 0.0]]), factors, spread=3)
