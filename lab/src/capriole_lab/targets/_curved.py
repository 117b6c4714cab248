"""Targets that no linear map makes easy: rough well, funnel, banana, rings."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from capriole.kernels import Key, Scalar, Vector, column

from ._base import AbstractExactTarget, AbstractMultimodalTarget, check_mode, default_dtype, normal

_TRIES = 8
_RING_TRIES = 64


class RoughWell(AbstractExactTarget):
    """``-x.x / 2 - eta sum_i cos(x_i / wavelength)``: a Gaussian with a ripple (Levy et al. 2018,
    section 5.1).

    Mean and variance are those of N(0, I) up to terms of order exp(-1 / (2 wavelength^2)), zero in
    double precision for wavelengths up to 0.1 (larger ones are refused). `sample` rejects from N(0,
    1), 8 tries per coordinate: at eta = 0.01 all fail with probability below (1 - exp(-2 eta))^8 =
    2.4e-14, at the largest eta, 0.1, below 1.2e-6. In float32 the ripple's phase x / wavelength is
    rounded by about 1e-7 / wavelength radians: 1e-3 for wavelength 1e-4. The function stays smooth
    enough to sample; only its gradient differs by that fraction of eta / wavelength. Raises
    ValueError for dim < 1 or eta or wavelength outside (0, 0.1].
    """

    eta: float = eqx.field(static=True)
    wavelength: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __init__(
        self, *, dim: int = 2, eta: float = 1e-2, wavelength: float = 1e-2, dtype: Any = None
    ):
        if dim < 1 or not 0 < eta <= 0.1 or not 0 < wavelength <= 0.1:
            raise ValueError(
                f"need dim >= 1, 0 < eta, wavelength <= 0.1, got {dim}, {eta}, {wavelength}"
            )
        self.eta, self.wavelength, self.dim, self.dtype = eta, wavelength, dim, default_dtype(dtype)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        return -jnp.sum(position**2 / 2 + self.eta * jnp.cos(position / self.wavelength), axis=0)

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws by rejection."""
        normal_key, uniform_key = jax.random.split(key)
        shape = (num, self.dim, _TRIES)
        proposals = jax.random.normal(normal_key, shape, self.dtype)
        keep = jnp.exp(-self.eta * (jnp.cos(proposals / self.wavelength) + 1))
        first = jnp.argmax(
            jax.random.uniform(uniform_key, shape, self.dtype) < keep, axis=-1, keepdims=True
        )
        return jnp.take_along_axis(proposals, first, axis=-1)[..., 0].T

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """One."""
        return np.ones(self.dim)


def rough_well(*, dtype: Any = None) -> RoughWell:
    """The paper's formula: ripple ``eta cos(x / eta)``, eta = 0.01."""
    return RoughWell(wavelength=1e-2, dtype=dtype)


def rougher_well(*, dtype: Any = None) -> RoughWell:
    """The released code's ``eta cos(x / eta^2)``, eta = 0.01: its gradient is noise of size 100."""
    return RoughWell(wavelength=1e-4, dtype=dtype)


class Funnel(AbstractExactTarget):
    """Neal's funnel: neck ``v = x_0 ~ N(0, scale^2)``, the other coordinates N(0, exp(v)) (Neal
    2003, section 8).

    Moments of the wide coordinates exist but their sample moments are too heavy-tailed to check
    (NaN here). Raises ValueError unless dim >= 2 and scale > 0.
    """

    scale: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __init__(self, *, dim: int = 10, scale: float = 3.0, dtype: Any = None):
        if dim < 2 or not scale > 0:
            raise ValueError(f"need dim >= 2 and scale > 0, got {dim} and {scale}")
        self.scale, self.dim, self.dtype = scale, dim, default_dtype(dtype)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        neck, wide = position[0], position[1:]
        spread = jnp.sum(wide**2, axis=0) * jnp.exp(-neck)
        return -(neck**2) / (2 * self.scale**2) - spread / 2 - (self.dim - 1) / 2 * neck

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, self.dim, num, self.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        noise = normal(key, self.dim, num, self.dtype)
        neck = self.scale * noise[:1]
        return jnp.concatenate([neck, jnp.exp(neck / 2) * noise[1:]])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero for the neck, NaN elsewhere."""
        return np.array([0.0] + [np.nan] * (self.dim - 1))

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """scale^2 for the neck, NaN elsewhere."""
        return np.array([self.scale**2] + [np.nan] * (self.dim - 1))


class Banana(AbstractExactTarget):
    """``x_0 ~ N(0, scale^2), x_1 ~ N(curvature (x_0^2 - scale^2), 1)`` (Haario et al. 1999).

    Raises ValueError unless scale > 0 and curvature is finite.
    """

    scale: float = eqx.field(static=True)
    curvature: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __init__(self, *, scale: float = 10.0, curvature: float = 0.03, dtype: Any = None):
        if not scale > 0 or not math.isfinite(curvature):
            raise ValueError(
                f"scale must be positive and curvature finite, got {scale} and {curvature}"
            )
        self.scale, self.curvature, self.dim, self.dtype = scale, curvature, 2, default_dtype(dtype)

    def _ridge(self, first: Array) -> Array:
        return self.curvature * (first**2 - self.scale**2)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        first, second = position
        return -((first / self.scale) ** 2) / 2 - (second - self._ridge(first)) ** 2 / 2

    def start(self, key: Key, num: int) -> Vector:
        """N(0, I)."""
        return normal(key, 2, num, self.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        first, noise = normal(key, 2, num, self.dtype)
        return jnp.stack([self.scale * first, self._ridge(self.scale * first) + noise])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(2)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """scale^2 and 1 + 2 curvature^2 scale^4."""
        return np.array([self.scale**2, 1 + 2 * self.curvature**2 * self.scale**4])


class RingMixture(AbstractMultimodalTarget):
    """Concentric rings in the plane, ``log sum_k exp(-(r - r_k)^2 / (2 width^2))``; the modes are
    the rings.

    A-NICE-MC's ring5 (Song et al. 2017) with the minimum over rings smoothed to a sum. Weights and
    variance are in closed form up to the mass that a ring has below r = 0 (under 1e-10: radii of at
    least 6 widths are required). `sample` rejects from N(r_k, width^2) cut at r_k + 8 width, 64
    tries: all fail with probability below 3e-18 for the default rings, 3e-16 for the smallest
    radius allowed. The gradient at r = 0 is set to zero. Raises ValueError unless width > 0 and
    every radius is at least 6 widths.
    """

    radii: Float[Array, " modes"]
    width: float = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        radii: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0),
        width: float = 0.2 / math.sqrt(2),
        dtype: Any = None,
    ):
        if not width > 0 or not radii or not all(radius >= 6 * width for radius in radii):
            raise ValueError(
                f"need width > 0 and radii of at least 6 widths, got radii {radii} and width "
                f"{width}"
            )
        self.radii = jnp.asarray(radii, default_dtype(dtype))
        self.width, self.dim = width, 2

    def _log_parts(self, position: Vector) -> Float[Array, "modes *chains"]:
        square = jnp.sum(position**2, axis=0)
        away = (
            square > 0
        )  # guards both sides of the square root, so that second derivatives are finite at 0 too
        radius = jnp.where(away, jnp.sqrt(jnp.where(away, square, 1.0)), 0.0)
        return -(((radius - column(self.radii, position)) / self.width) ** 2) / 2

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        return jax.scipy.special.logsumexp(self._log_parts(position), axis=0)

    def start(self, key: Key, num: int) -> Vector:
        """N(0, s^2 I) with s half of the largest radius."""
        return jnp.max(self.radii) / 2 * normal(key, 2, num, self.radii.dtype)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        label_key, ring_key = jax.random.split(key)
        return self._on_rings(
            ring_key, jax.random.categorical(label_key, jnp.log(self.radii), shape=(num,))
        )

    def _on_rings(self, key: Key, label: Int[Array, " num"]) -> Vector:
        normal_key, uniform_key, angle_key = jax.random.split(key, 3)
        centre, dtype = self.radii[label][:, None], self.radii.dtype
        proposals = centre + self.width * jax.random.normal(
            normal_key, (len(label), _RING_TRIES), dtype
        )
        keep = proposals / (centre + 8 * self.width)
        accepted = jax.random.uniform(uniform_key, proposals.shape, dtype) < keep
        radius = jnp.take_along_axis(proposals, jnp.argmax(accepted, axis=1)[:, None], axis=1)[:, 0]
        angle = jax.random.uniform(angle_key, radius.shape, dtype, 0, 2 * math.pi)
        return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def mode(self, position: Vector) -> Int[Array, "*chains"]:
        """The ring with the highest responsibility."""
        return jnp.argmax(self._log_parts(position), axis=0)

    def sample_mode(self, key: Key, num: int, index: int) -> Vector:
        """Draws of ring ``index``."""
        check_mode(index, len(self.radii))
        return self._on_rings(key, jnp.full((num,), index))

    @property
    def mode_weights(self) -> Float[np.ndarray, " modes"]:
        """Proportional to the radii: int r exp(-(r - r_k)^2 / 2 w^2) dr = r_k w sqrt(2 pi)."""
        radii = np.asarray(self.radii, np.float64)
        return radii / radii.sum()

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(2)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """E[r^2] / 2 with E[r^2 | ring k] = r_k^2 + 3 width^2."""
        radii = np.asarray(self.radii, np.float64)
        return np.full(2, self.mode_weights @ (radii**2 + 3 * self.width**2) / 2)
