"""What a target is."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from .._logdensity import AbstractLogDensity
from .._types import Key, Vector


class AbstractTarget(AbstractLogDensity):
    """A log density with a dimension and over-dispersed starts."""

    dim: eqx.AbstractVar[int]

    @abstractmethod
    def start(self, key: Key, num: int) -> Float[jax.Array, "dim num"]:
        """Over-dispersed starting positions, not draws from the target."""


class AbstractExactTarget(AbstractTarget):
    """A target with independent exact draws and known moments (NaN where a moment is of no use as a check)."""

    @abstractmethod
    def sample(self, key: Key, num: int) -> Float[jax.Array, "dim num"]:
        """Independent exact draws; the first k do not depend on ``num``."""

    @property
    @abstractmethod
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Exact means, float64."""

    @property
    @abstractmethod
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Exact variances, float64."""


class AbstractMultimodalTarget(AbstractExactTarget):
    """An exact target made of modes with known weights."""

    @property
    @abstractmethod
    def mode_weights(self) -> Float[np.ndarray, " modes"]:
        """Exact probabilities of the modes."""

    @abstractmethod
    def mode(self, position: Vector) -> Int[jax.Array, "*chains"]:
        """Index of the mode that is most responsible for a position."""

    @abstractmethod
    def sample_mode(self, key: Key, num: int, index: int) -> Float[jax.Array, "dim num"]:
        """Exact draws of one mode alone, for starts in one mode."""


def default_dtype(dtype: jnp.dtype | None) -> jnp.dtype:
    """``dtype``, or JAX's default float: float64 if x64 is enabled, else float32."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype)


def normal(key: Key, dim: int, num: int, dtype: jnp.dtype) -> Float[jax.Array, "dim num"]:
    """Standard normal columns; the first k do not depend on ``num``."""
    return jax.random.normal(key, (num, dim), dtype).T
