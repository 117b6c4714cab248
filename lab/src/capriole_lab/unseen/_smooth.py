"""Targets with one mode and no funnel: Gaussian, skewed, heavy-tailed, bounded."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from capriole.kernels import Key, Scalar, Vector, column

from ._base import FLOAT, AbstractUnseen, gaussian, log_gamma


class CorrelatedGaussian(AbstractUnseen):
    """``x ~ N(0, C)`` for a covariance C.

    Args:
        covariance: The covariance, of shape (dim, dim).
        spread: Scale of the starts.
    """

    factor: Float[Array, "dim dim"]
    whiten: Float[Array, "dim dim"]
    dim: int = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __init__(self, covariance: np.ndarray, *, spread: float = 1.0):
        factor = np.linalg.cholesky(covariance)
        self.factor = jnp.asarray(factor, FLOAT)
        self.whiten = jnp.asarray(np.linalg.inv(factor), FLOAT)
        self.dim, self.spread = len(covariance), spread

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        return -jnp.sum((self.whiten @ position) ** 2, axis=0) / 2

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        return self.factor @ gaussian(key, self.dim, num)

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """The diagonal of the covariance."""
        return np.sum(np.asarray(self.factor) ** 2, axis=1)


def _rotation(dim: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


def ill_conditioned() -> CorrelatedGaussian:
    """A Gaussian in 40 dimensions with rotated axes and condition number 1e6."""
    axes = _rotation(40, seed=1)
    return CorrelatedGaussian(axes @ np.diag(np.geomspace(1e-4, 1e2, 40)) @ axes.T)


def autoregression() -> CorrelatedGaussian:
    """A stationary AR(1) process of 100 times, with coefficient 0.95 and variance 1."""
    times = np.arange(100)
    return CorrelatedGaussian(0.95 ** np.abs(times[:, None] - times))


class LogGammas(AbstractUnseen):
    """Logarithms of gamma variables with different shapes: ``shape_i x_i - exp(x_i)``."""

    shape: tuple[float, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = len(self.shape)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        shape = column(jnp.asarray(self.shape, FLOAT), position)
        return jnp.sum(shape * position - jnp.exp(position), axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        return log_gamma(key, np.array(self.shape), num)

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """``digamma(shape)``."""
        return special.digamma(np.array(self.shape))

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """``trigamma(shape)``."""
        return special.polygamma(1, np.array(self.shape))


def log_gammas() -> LogGammas:
    """Twenty log-gamma variables with shapes from 0.3 to 5."""
    return LogGammas(shape=tuple(np.geomspace(0.3, 5.0, 20).tolist()), spread=2.0)


class TwoStudents(AbstractUnseen):
    """Two independent blocks of correlated Student's t, each with its degrees of freedom.

    Args:
        freedoms: Degrees of freedom of the blocks.
        scale: Scale matrix of each block, of shape (size, size).
        spread: Scale of the starts.
    """

    freedoms: tuple[float, float] = eqx.field(static=True)
    factor: Float[Array, "size size"]
    whiten: Float[Array, "size size"]
    dim: int = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __init__(self, freedoms: tuple[float, float], scale: np.ndarray, *, spread: float):
        factor = np.linalg.cholesky(scale)
        self.freedoms, self.spread, self.dim = freedoms, spread, 2 * len(scale)
        self.factor = jnp.asarray(factor, FLOAT)
        self.whiten = jnp.asarray(np.linalg.inv(factor), FLOAT)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        size = self.dim // 2
        value = jnp.zeros(position.shape[1:], FLOAT)
        for freedom, block in zip(self.freedoms, (position[:size], position[size:]), strict=True):
            square = jnp.sum((self.whiten @ block) ** 2, axis=0)
            value = value - (freedom + size) / 2 * jnp.log1p(square / freedom)
        return value

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        keys = jax.random.split(key, 2)
        half = np.array(self.freedoms) / 2
        noise = gaussian(keys[0], self.dim, num).reshape(2, self.dim // 2, num)
        mixing = jnp.exp(-log_gamma(keys[1], half, num) / 2) * jnp.sqrt(half)[:, None]
        return jnp.concatenate([self.factor @ block for block in noise * mixing[:, None]])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """``freedom / (freedom - 2)`` times the scale; NaN below 5 degrees of freedom."""
        scale = np.sum(np.asarray(self.factor) ** 2, axis=1)
        times = [f / (f - 2) if f > 4 else np.nan for f in self.freedoms]
        return np.concatenate([factor * scale for factor in times])


def students() -> TwoStudents:
    """Student's t with 3 and with 8 degrees of freedom, five correlated variables each."""
    index, scales = np.arange(5), np.geomspace(0.3, 3.0, 5)
    correlation = 0.8 ** np.abs(index[:, None] - index)
    return TwoStudents((3.0, 8.0), scales[:, None] * correlation * scales, spread=1.0)


class LaplaceAndShoulders(AbstractUnseen):
    """Independent Laplace variables, and as many that are a narrow and a wide Gaussian at once.

    The second half is ``0.6 N(0, s^2) + 0.4 N(0, (6 s)^2)``; ``scales`` are those of both halves.
    """

    scales: tuple[float, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)
    share: float = eqx.field(static=True, default=0.4)
    ratio: float = eqx.field(static=True, default=6.0)

    def __post_init__(self) -> None:
        self.dim = 2 * len(self.scales)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant."""
        scaled = position / column(jnp.asarray(self.scales * 2, FLOAT), position)
        laplace, other = scaled[: len(self.scales)], scaled[len(self.scales) :]
        narrow = math.log(1 - self.share) - other**2 / 2
        wide = math.log(self.share / self.ratio) - (other / self.ratio) ** 2 / 2
        return jnp.sum(jnp.logaddexp(narrow, wide), axis=0) - jnp.sum(jnp.abs(laplace), axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        keys, half = jax.random.split(key, 3), len(self.scales)
        laplace = jax.random.laplace(keys[0], (num, half), FLOAT).T
        wide = jax.random.bernoulli(keys[1], self.share, (num, half)).T
        other = gaussian(keys[2], half, num) * jnp.where(wide, self.ratio, 1.0)
        return jnp.concatenate([laplace, other]) * jnp.asarray(self.scales * 2, FLOAT)[:, None]

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """``2 s^2`` and the weighted mean of the two variances."""
        shoulders = 1 - self.share + self.share * self.ratio**2
        return np.array(self.scales * 2) ** 2 * np.repeat([2.0, shoulders], len(self.scales))


def laplace_and_shoulders() -> LaplaceAndShoulders:
    """Ten variables of each kind, with scales from 0.1 to 10."""
    return LaplaceAndShoulders(scales=tuple(np.geomspace(0.1, 10.0, 10).tolist()), spread=1.0)


class LogitBetas(AbstractUnseen):
    """Logits of independent beta variables, with shapes ``a`` and ``b``."""

    a: tuple[float, ...] = eqx.field(static=True)
    b: tuple[float, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = len(self.a)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant, with the log derivative of the logit."""
        a, b = (column(jnp.asarray(shape, FLOAT), position) for shape in (self.a, self.b))
        log_sigmoid = jax.nn.log_sigmoid
        return jnp.sum(a * log_sigmoid(position) + b * log_sigmoid(-position), axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws, from gamma variables."""
        keys = jax.random.split(key, 2)
        first, second = (
            log_gamma(k, np.array(shape), num)
            for k, shape in zip(keys, (self.a, self.b), strict=True)
        )
        return first - second

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """``digamma(a) - digamma(b)``."""
        return special.digamma(np.array(self.a)) - special.digamma(np.array(self.b))

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """``trigamma(a) + trigamma(b)``."""
        return special.polygamma(1, np.array(self.a)) + special.polygamma(1, np.array(self.b))


def logit_betas() -> LogitBetas:
    """Eight proportions: near an end, spread out, uniform, and well known."""
    a = (0.4, 0.5, 1.0, 2.0, 20.0, 3.0, 200.0, 1.0)
    b = (6.0, 0.5, 1.0, 2.0, 5.0, 0.6, 300.0, 30.0)
    return LogitBetas(a=a, b=b, spread=2.0)


class StickDirichlet(AbstractUnseen):
    """A Dirichlet of dim + 1 proportions in Stan's unbounded variables of stick-breaking."""

    concentration: tuple[float, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True, init=False)
    spread: float = eqx.field(static=True)

    def __post_init__(self) -> None:
        self.dim = len(self.concentration) - 1

    @property
    def _offset(self) -> np.ndarray:
        """Position of equal proportions."""
        return np.log(np.arange(self.dim, 0, -1.0))

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant, from the logs of the proportions and the Jacobian."""
        logit = position - column(jnp.asarray(self._offset, FLOAT), position)
        log_break, log_keep = jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit)
        left = jnp.concatenate([jnp.zeros_like(log_keep[:1]), jnp.cumsum(log_keep, axis=0)])
        log_share = left + jnp.concatenate([log_break, jnp.zeros_like(log_break[:1])])
        power = column(jnp.asarray(self.concentration, FLOAT) - 1, log_share)
        jacobian = left[:-1] + log_break + log_keep
        return jnp.sum(power * log_share, axis=0) + jnp.sum(jacobian, axis=0)

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws, from gamma variables."""
        gammas = log_gamma(key, np.array(self.concentration), num)
        rows = [jax.nn.logsumexp(gammas[i:], axis=0) for i in range(1, self.dim + 1)]
        return gammas[:-1] - jnp.stack(rows) + jnp.asarray(self._offset, FLOAT)[:, None]

    @property
    def _shapes(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes of the independent beta variables of the breaks."""
        alpha = np.array(self.concentration)
        return alpha[:-1], np.cumsum(alpha[::-1])[::-1][1:]

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Of the logits of the breaks, plus the offset."""
        a, b = self._shapes
        return special.digamma(a) - special.digamma(b) + self._offset

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """Of the logits of the breaks."""
        a, b = self._shapes
        return special.polygamma(1, a) + special.polygamma(1, b)


def stick_dirichlet() -> StickDirichlet:
    """Seven proportions with concentrations from 0.3 to 8."""
    return StickDirichlet(concentration=(8.0, 0.3, 2.0, 0.5, 1.0, 4.0, 0.4), spread=1.0)


class WarpedUniform(AbstractUnseen):
    """Uniform variables on (0, 1), their logits shifted by the sine of the one before::

    z_i = logit(u_i),   x_i = z_i + strength * sin(z_{i-1})
    """

    dim: int = eqx.field(static=True)
    strength: float = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __call__(self, position: Vector) -> Scalar:
        """Log density up to a constant; the shifts have Jacobian 1."""
        before = position[0]
        value = jax.nn.log_sigmoid(before) + jax.nn.log_sigmoid(-before)
        for i in range(1, self.dim):
            before = position[i] - self.strength * jnp.sin(before)
            value = value + jax.nn.log_sigmoid(before) + jax.nn.log_sigmoid(-before)
        return value

    def sample(self, key: Key, num: int) -> Vector:
        """Exact draws."""
        logit = jax.random.logistic(key, (num, self.dim), FLOAT).T
        shift = self.strength * jnp.sin(logit[:-1])
        return logit + jnp.concatenate([jnp.zeros_like(logit[:1]), shift])

    @property
    def mean(self) -> Float[np.ndarray, " dim"]:
        """Zero, by symmetry."""
        return np.zeros(self.dim)

    @property
    def variance(self) -> Float[np.ndarray, " dim"]:
        """``pi^2 / 3``, and more for a shift: E[cos(2 z)] is ``2 pi / sinh(2 pi)``."""
        shift = self.strength**2 * (1 - 2 * math.pi / math.sinh(2 * math.pi)) / 2
        return math.pi**2 / 3 + shift * (np.arange(self.dim) > 0)


def warped_uniform() -> WarpedUniform:
    """Six warped uniform variables."""
    return WarpedUniform(dim=6, strength=3.0, spread=1.0)
