"""A log-Gaussian Cox process on a line."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector

from .._base import default_dtype, normal
from .._data import read_table
from .._posterior import AbstractPosterior, gathered, indexed, named


class CoxProcess(AbstractPosterior):
    """Counts of events in equal cells, ``count_i ~ Poisson(width exp f_i)``, with a Gaussian log
    rate::

        f = mean + L u,  u ~ N(0, I),  L L^T = variance exp(-|t_i - t_j| / length)
        mean = log(total / time) - variance / 2

    (Moller, Syversen and Waagepetersen 1998, in one dimension, whitened by the prior's Cholesky
    factor). Raises ValueError for counts that are no counts, or a width, variance or length that is
    not positive.
    """

    factor: Float[Array, "cells cells"]
    counts: Float[Array, " cells"]
    mean: float = eqx.field(static=True)
    width: float = eqx.field(static=True)
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self, *, counts: ArrayLike, width: float, variance: float, length: float, dtype: Any = None
    ):
        counts = np.asarray(counts, np.float64)
        if counts.ndim != 1 or not (counts >= 0).all() or not counts.any() or (counts % 1).any():
            raise ValueError(f"counts must be whole, not negative and not all 0, got {counts}")
        if not min(width, variance, length) > 0:
            raise ValueError(
                f"width, variance, length must be positive, got {width}, {variance}, {length}"
            )
        times = width * np.arange(len(counts))
        covariance = variance * np.exp(-np.abs(times[:, None] - times) / length)
        dtype = default_dtype(dtype)
        self.factor, self.counts = (
            jnp.asarray(np.linalg.cholesky(covariance), dtype),
            jnp.asarray(counts, dtype),
        )
        self.mean = float(np.log(counts.mean() / width) - variance / 2)
        self.width, self.parameters, self.dim = float(width), indexed("f", len(counts)), len(counts)

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        rates = self._log_rates(position)
        expected = self.width * jnp.sum(jnp.exp(rates), axis=0)
        return self.counts @ rates - expected - jnp.sum(position**2, axis=0) / 2

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I), the prior."""
        return normal(key, self.dim, num, self.factor.dtype)

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """Log rates per unit of time."""
        return named(self.parameters, self._log_rates(position))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """The inverse of `constrain`."""
        away = gathered(parameters, self.parameters, self.factor.dtype) - self.mean
        flat = jax.scipy.linalg.solve_triangular(
            self.factor, away.reshape(self.dim, -1), lower=True
        )
        return flat.reshape(away.shape)

    def _log_rates(self, position: Vector) -> Vector:
        return self.mean + self.factor @ position


def coal_disasters(*, dtype: Any = None) -> CoxProcess:
    """191 explosions in British coal mines, 1851 to 1962, in 50 cells."""
    dates = read_table("coal_disasters.csv", (191, 1))[:, 0]
    counts, edges = np.histogram(dates, bins=50, range=(1851, 1963))
    return CoxProcess(
        counts=counts, width=edges[1] - edges[0], variance=1.0, length=20.0, dtype=dtype
    )
