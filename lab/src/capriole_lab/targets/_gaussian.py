"""The paper's two Gaussians and its mixtures of Gaussians (Levy et al. 2018, section 5.1)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector, column

from ._base import AbstractExactTarget, AbstractMultimodalTarget, check_mode, default_dtype, normal


class IllConditionedGaussian(AbstractExactTarget):
    """ICG: ``-sum_i x_i^2 / (2 var_i)`` with variances log-spaced over 1e-2..1e2 (paper: 50
    dimensions).

    Raises ValueError unless dim >= 1 and 0 < low <= high.
    """

    scale: Float[Array, " dim"]
    dim: int = eqx.field(static=True)

    def __init__(self, *, dim: int = 50, low: float = 1e-2, high: float = 1e2, dtype: Any = None):
        if dim < 1 or not 0 < low <= high:
            raise ValueError(
                f"need dim >= 1 and 0 < low <= high, got dim={dim}, low={low}, high={high}"
            )
        self.scale = jnp.asarray(np.sqrt(np.geomspace(low, high, dim)), default_dtype(dtype))
        self.dim = dim

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        return -jnp.sum((position / column(self.scale, position)) ** 2, axis=0) / 2

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.scale.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        return self.scale[:, None] * normal(key, self.dim, num, self.scale.dtype)

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """The diagonal of the covariance."""
        return np.asarray(self.scale, np.float64) ** 2


class StronglyCorrelatedGaussian(AbstractExactTarget):
    """SCG-2: variances 1e2 and 1e-2 along axes rotated by pi/4, ``-|W x|^2 / 2`` with W^T W the
    precision.

    The paper writes ``x^T P x``; its terms cancel to 1 part in 10^4 along the wide axis, and
    whitening first avoids the loss of those digits in float32. Raises ValueError for a variance
    that is not positive.
    """

    whiten: Float[Array, "2 2"]
    factor: Float[Array, "2 2"]
    dim: int = eqx.field(static=True)

    def __init__(self, *, variances: tuple[float, float] = (1e2, 1e-2), dtype: Any = None):
        if len(variances) != 2 or not min(variances) > 0:
            raise ValueError(f"need two positive variances, one per axis, got {variances}")
        axes = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
        dtype = default_dtype(dtype)
        self.whiten = jnp.asarray((axes / np.sqrt(variances)).T, dtype)
        self.factor = jnp.asarray(axes * np.sqrt(variances), dtype)
        self.dim = 2

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        return -jnp.sum((self.whiten @ position) ** 2, axis=0) / 2

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, 2, num, self.factor.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        return self.factor @ normal(key, 2, num, self.factor.dtype)

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(2)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Of x_0 and x_1: (1e2 + 1e-2) / 2 each."""
        return np.sum(np.asarray(self.factor, np.float64) ** 2, axis=1)


class GaussianMixture(AbstractMultimodalTarget):
    """``log sum_k w_k N(x; mean_k, var_k I)``, normalised; modes are the components.

    ``means`` (modes, dim), ``variances`` and ``weights`` (modes,), weights equal unless given.
    Raises ValueError for shapes that do not fit, variances or weights that are not positive,
    weights that do not sum to 1.
    """

    means: Float[Array, "modes dim"]
    log_weights: Float[Array, " modes"]
    scales: Float[Array, " modes"]
    start_scale: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        means: ArrayLike,
        variances: ArrayLike,
        weights: ArrayLike | None = None,
        dtype: Any = None,
    ):
        centres, var = np.asarray(means, np.float64), np.asarray(variances, np.float64)
        share = (
            np.full(var.shape, 1 / max(var.size, 1))
            if weights is None
            else np.asarray(weights, np.float64)
        )
        if (
            centres.ndim != 2
            or not centres.size
            or not centres.shape[:1] == var.shape == share.shape
        ):
            shapes = f"{centres.shape}, {var.shape} and {share.shape}"
            raise ValueError(
                "need means (modes, dim) with a variance and a weight for each, got shapes "
                f"{shapes}"
            )
        if not (var.min() > 0 and share.min() > 0 and abs(share.sum() - 1) < 1e-9):
            raise ValueError(
                f"variances and weights must be positive and weights sum to 1, got {var} and "
                f"{share}"
            )
        dtype = default_dtype(dtype)
        self.means, self.scales = jnp.asarray(centres, dtype), jnp.asarray(np.sqrt(var), dtype)
        self.log_weights = jnp.asarray(np.log(share), dtype)
        self.start_scale = float(np.abs(centres).max() + np.sqrt(var.max()))
        self.dim = centres.shape[1]

    def _log_parts(self, position: Vector) -> Float[Array, "modes *chains"]:
        like = position[:1]
        offset = position[None] - self.means.reshape(self.means.shape + (1,) * (position.ndim - 1))
        quadratic = jnp.sum(offset**2, axis=1) / column(2 * self.scales**2, like)
        constant = (
            self.log_weights
            - self.dim * jnp.log(self.scales)
            - self.dim / 2 * float(np.log(2 * np.pi))
        )
        return column(constant, like) - quadratic

    def __call__(self, position: Vector) -> Scalar:
        """Normalised log density."""
        return jax.scipy.special.logsumexp(self._log_parts(position), axis=0)

    def start(self, key: Key, num: int) -> Vector:
        """N(0, s^2 I) with s the distance to the outermost mode's edge: covers all modes."""
        return self.start_scale * normal(key, self.dim, num, self.means.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        label_key, normal_key = jax.random.split(key)
        label = jax.random.categorical(label_key, self.log_weights, shape=(num,))
        noise = normal(normal_key, self.dim, num, self.means.dtype)
        return self.means[label].T + self.scales[label] * noise

    def mode(self, position: Vector) -> Int[Array, "*chains"]:
        """The component with the highest responsibility."""
        return jnp.argmax(self._log_parts(position), axis=0)

    def sample_mode(self, key: Key, num: int, index: int) -> Vector:
        """Draws of component ``index``."""
        check_mode(index, len(self.scales))
        return self.means[index][:, None] + self.scales[index] * normal(
            key, self.dim, num, self.means.dtype
        )

    @property
    def mode_weights(self) -> Float[np.ndarray, " modes"]:
        """The weights of the components."""
        weights = np.exp(np.asarray(self.log_weights, np.float64))
        return weights / weights.sum()

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Weighted mean of the centres."""
        return self.mode_weights @ np.asarray(self.means, np.float64)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Within plus between components."""
        centres, var = np.asarray(self.means, np.float64), np.asarray(self.scales, np.float64) ** 2
        return self.mode_weights @ (var[:, None] + (centres - self.mean) ** 2)


def mog(*, dtype: Any = None) -> GaussianMixture:
    """MoG of the paper: two equal modes 4 apart, variance 0.1."""
    return GaussianMixture(means=[[-2.0, 0.0], [2.0, 0.0]], variances=[0.1, 0.1], dtype=dtype)


def mog_asym(*, dtype: Any = None) -> GaussianMixture:
    """MoG-asym of A-NICE-MC: two equally likely modes 10 apart, variances 3 and 0.05."""
    return GaussianMixture(means=[[-5.0, 0.0], [5.0, 0.0]], variances=[3.0, 0.05], dtype=dtype)


def mog2(*, dtype: Any = None) -> GaussianMixture:
    """The mog2 on which A-NICE-MC works: two equal modes 10 apart, variance 0.5."""
    return GaussianMixture(means=[[-5.0, 0.0], [5.0, 0.0]], variances=[0.5, 0.5], dtype=dtype)
