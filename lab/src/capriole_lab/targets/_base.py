"""What a target is."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from capriole.kernels import AbstractLogDensity, Key, Vector


class AbstractTarget(AbstractLogDensity):
    """A log density with a dimension and starting positions, built from keywords alone."""

    dim: eqx.AbstractVar[int]

    @abstractmethod
    def start(self, key: Key, num: int) -> Float[jax.Array, "dim num"]:
        """Over-dispersed starting positions: N(0, I), or wider where that would miss modes."""


class AbstractExactTarget(AbstractTarget):
    """A target with independent exact draws and known moments.

    A moment is NaN where it does not exist or where its sample moment has no usable standard error
    (the wide coordinates of a funnel): compare with ``nanmax`` or a mask.
    """

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
        """Exact draws of one mode. Raises ValueError if there is no such mode."""


class Entry(NamedTuple):
    """One line of a registry of targets; ``factory(dtype=...)`` makes the target."""

    factory: Callable[..., AbstractTarget]
    summary: str
    source: str


def default_dtype(dtype: Any) -> np.dtype:
    """``dtype``, or JAX's default float: float64 if x64 is enabled, else float32.

    Raises ValueError for anything but a floating-point type, and for float64 while x64 is off.
    """
    default = np.dtype(jax.dtypes.canonicalize_dtype(float))
    try:
        chosen = default if dtype is None else np.dtype(dtype)
    except TypeError as error:
        raise ValueError(
            f"dtype {dtype!r} is not a data type; pass None, float32 or float64"
        ) from error
    if not jnp.issubdtype(chosen, jnp.floating):
        raise ValueError(
            f"dtype must be a floating-point type, got {chosen}; pass None, float32 or float64"
        )
    if chosen.itemsize > default.itemsize:
        raise ValueError(
            f"dtype {chosen} needs jax.config.update('jax_enable_x64', True) first; or pass float32"
        )
    return chosen


def check_mode(index: int, num_modes: int) -> None:
    """Raises ValueError unless mode ``index`` exists: JAX would clamp it to the last one."""
    if not 0 <= index < num_modes:
        raise ValueError(f"there is no mode {index}; pass 0 to {num_modes - 1}")


def normal(key: Key, dim: int, num: int, dtype: np.dtype) -> Float[jax.Array, "dim num"]:
    """Standard normal columns; the first k do not depend on ``num``."""
    return jax.random.normal(key, (num, dim), dtype).T
