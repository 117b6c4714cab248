"""What an unseen target is."""

from abc import abstractmethod
from enum import StrEnum

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

from capriole.kernels import Key, Vector

from ..targets import AbstractExactTarget

FLOAT = np.dtype(np.float64)
"""The type of all numbers of these targets; they need JAX's x64 mode."""


class Kind(StrEnum):
    """What makes a target difficult."""

    GAUSSIAN = "correlated Gaussian"
    SKEWED = "skewed"
    HEAVY_TAILED = "heavy tails"
    FUNNEL = "funnel"
    HIERARCHY = "hierarchy"
    SHRINKAGE = "shrinkage prior"
    CURVED = "curved"
    RING = "ring"
    MODES = "modes"
    BOUNDED = "bounded"
    SERIES = "time series"


class AbstractUnseen(AbstractExactTarget):
    """An exact target whose chains start at ``spread * N(0, I)``, as those of a user would.

    The means and variances are NaN where a sample of moderate size has no usable standard error.
    """

    spread: eqx.AbstractVar[float]

    def start(self, key: Key, num: int) -> Vector:
        """Starts as a user would give them: they know nothing of the target.

        Args:
            key: Random key.
            num: Number of starts.

        Returns:
            ``spread`` times standard normal columns, of shape (dim, num).
        """
        return self.spread * gaussian(key, self.dim, num)


class AbstractUnseenModes(AbstractUnseen):
    """An unseen target with modes whose shares are judged."""

    @property
    @abstractmethod
    def num_modes(self) -> int:
        """Number of modes."""

    @abstractmethod
    def mode(self, position: Vector) -> Int[jax.Array, "*chains"]:
        """Index of the mode that a position belongs to."""


def gaussian(key: Key, dim: int, num: int) -> Float[jax.Array, "dim num"]:
    """Standard normal columns of shape (dim, num)."""
    return jax.random.normal(key, (num, dim), FLOAT).T


def log_gamma(key: Key, shape: Float[np.ndarray, " dim"], num: int) -> Float[jax.Array, "dim num"]:
    """Logarithms of gamma variables, one row for each value of ``shape``."""
    return jax.random.loggamma(key, np.asarray(shape, FLOAT), (num, len(shape)), FLOAT).T
