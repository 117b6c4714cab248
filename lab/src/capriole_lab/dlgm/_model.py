"""The latent-variable model of the paper's section 5.2: decoder, encoder, and the posterior of one
latent per image.

Features first, columns last: images are ``(pixels, images)``, latents ``(latent, images)``. Where
several chains share an image, the columns of one image lie side by side: column ``i * chains + c``
is chain c of image i.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from capriole.kernels import AbstractLogDensity, Key, Scalar, Vector, linear

type Images = Float[Array, "pixels *images"]


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow, and cheap derivatives of any order."""
    small = jnp.exp(-jnp.abs(x))
    return jnp.maximum(x, 0) + (_log1p(small) if x.dtype == jnp.float32 else jnp.log1p(small))


def _log1p(x: Array) -> Array:
    """``log(1 + x) = 2 artanh(t)``, t = x / (2 + x), for x in [0, 1]: 7 terms are all that float32
    holds.

    A quarter of the time of XLA's own log1p on CPUs, which was a fifth of a training step.
    """
    t = x / (2 + x)
    square, series = t * t, jnp.zeros_like(t)
    for k in (15, 13, 11, 9, 7, 5, 3):
        series = series * square + 1 / k
    return 2 * t + 2 * t * (square * series)


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return softplus(x), jax.nn.sigmoid(x) * tangent


class Feedforward(eqx.Module):
    """Linear layers with softplus between them: ``W_n softplus(... softplus(W_1 x + b_1)) + b_n``.

    ``sizes`` counts inputs, hidden units and outputs. Weights start uniform with variance 1 /
    fan-in, those of the last layer ``last_scale`` times as large; biases start at 0.
    """

    weights: tuple[Float[Array, "_out _inp"], ...]
    biases: tuple[Float[Array, " _out"], ...]

    def __init__(
        self, key: Key, sizes: tuple[int, ...], *, last_scale: float = 1.0, dtype: Any = jnp.float32
    ):
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(
                f"sizes must name at least inputs and outputs, all positive, got {sizes}"
            )
        scales = [1.0] * (len(sizes) - 2) + [last_scale]
        keys = jax.random.split(key, len(scales))
        self.weights = tuple(
            scale
            * jax.random.uniform(k, (out, inp), dtype, -1, 1)
            * jnp.asarray(3 / inp, dtype) ** 0.5
            for k, inp, out, scale in zip(keys, sizes[:-1], sizes[1:], scales, strict=True)
        )
        self.biases = tuple(jnp.zeros(out, dtype) for out in sizes[1:])

    def __call__(self, x: Array) -> Array:
        """Outputs of shape ``(outputs, *columns)``."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = softplus(linear(weight, bias, x))
        return linear(self.weights[-1], self.biases[-1], x)

    @property
    def num_weights(self) -> int:
        """Multiplications of one forward pass of one column."""
        return sum(weight.size for weight in self.weights)


class Decoder(eqx.Module):
    """p(x | z): two hidden layers of softplus units, one Bernoulli logit per pixel."""

    network: Feedforward

    def __init__(
        self, key: Key, *, latent: int, hidden: int, pixels: int, dtype: Any = jnp.float32
    ):
        self.network = Feedforward(
            key, (latent, hidden, hidden, pixels), last_scale=0.01, dtype=dtype
        )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of latents, of hidden units of both layers, of pixels."""
        first, second, last = self.network.weights
        return first.shape[1], first.shape[0], second.shape[0], last.shape[0]

    def __call__(self, latents: Vector) -> Images:
        """Logits of shape ``(pixels, *columns)``."""
        return self.network(latents)


class Diagonal(NamedTuple):
    """A diagonal Gaussian: mean and log standard deviation, each ``(latent, *images)``."""

    mean: Vector
    log_sd: Vector

    def draw(self, noise: Vector) -> Vector:
        """``mean + sd * noise``, the reparametrised draw."""
        return self.mean + jnp.exp(self.log_sd) * noise

    def standardise(self, point: Vector) -> Vector:
        """``(point - mean) / sd``; `draw` undone."""
        return (point - self.mean) * jnp.exp(-self.log_sd)

    def logpdf(self, point: Vector) -> Scalar:
        """Normalised log density, per image."""
        z = self.standardise(point)
        return (
            -jnp.sum(z**2 / 2 + self.log_sd, axis=0)
            - point.shape[0] * jnp.log(2 * jnp.pi).astype(z.dtype) / 2
        )

    def kl(self) -> Scalar:
        """``KL(q || N(0, I))``, per image."""
        return jnp.sum((self.mean**2 + jnp.exp(2 * self.log_sd) - 1) / 2 - self.log_sd, axis=0)


class Encoder(eqx.Module):
    """q(z | x): two hidden layers of softplus units, a diagonal Gaussian."""

    network: Feedforward

    def __init__(
        self, key: Key, *, latent: int, hidden: int, pixels: int, dtype: Any = jnp.float32
    ):
        self.network = Feedforward(
            key, (pixels, hidden, hidden, 2 * latent), last_scale=0.01, dtype=dtype
        )

    def __call__(self, images: Images) -> Diagonal:
        """The approximate posterior of every image."""
        return Diagonal(*jnp.split(self.network(images), 2))


def log_bernoulli(images: Images, logits: Array) -> Scalar:
    """``sum x l - log(1 + exp(l))`` over pixels, for one or several columns of logits per image."""
    if logits.ndim == 1:
        return _log_bernoulli(images[:, None], logits[:, None])[0]
    if images.ndim == 1 or logits.shape[1] % images.shape[1]:
        raise ValueError(
            f"{logits.shape[1:]} columns of latents do not divide among images of shape "
            f"{images.shape}"
        )
    return _log_bernoulli(images, logits)


AT_ONCE = 16
"""Pixels that share a logarithm: 2^16 is far from overflow."""


@jax.custom_vjp
def _log_bernoulli(images: Array, logits: Array) -> Array:
    # sum log(1 + e) = log prod (1 + e), 16 pixels at once: logarithms were most of the cost. The
    # last sum is a product
    # with ones: XLA on CPUs fuses a sum over pixels with what comes before, and then takes several
    # times as long.
    num, rows = logits.shape[0], -(-logits.shape[0] // AT_ONCE)
    starts = list(range(0, num - rows + 1, rows))
    out = _partial(images, logits, [slice(first, first + rows) for first in starts])
    if rest := num - starts[-1] - rows:
        out += _partial(images, logits, [slice(num - rest, num)])
    return out


def _partial(images: Array, logits: Array, parts: list[slice]) -> Array:
    """The sum over pixels in ``parts``, which are of one length."""
    total = jnp.zeros((), logits.dtype)
    product = jnp.ones((), logits.dtype)
    for part in parts:
        logit = logits[part]
        total = total + _by_image(images[part], logit, jnp.multiply) - jnp.maximum(logit, 0)
        product = product * (1 + jnp.exp(-jnp.abs(logit)))
    ones = jnp.ones(logits[parts[0]].shape[0], logits.dtype)
    return ones @ (total - jnp.log(product))


def _log_bernoulli_forward(images: Array, logits: Array) -> tuple[Array, tuple[Array, Array]]:
    return _log_bernoulli(images, logits), (images, logits)


def _log_bernoulli_backward(residual: tuple[Array, Array], grad: Array) -> tuple[None, Array]:
    """``x - sigmoid(l)``."""
    images, logits = residual
    return None, _by_image(images, jax.nn.sigmoid(logits), jnp.subtract) * grad


_log_bernoulli.defvjp(_log_bernoulli_forward, _log_bernoulli_backward)


def _by_image(images: Array, columns: Array, combine: Callable) -> Array:
    """``combine(image, column)`` for every column; those of one image lie side by side."""
    if images.shape == columns.shape:
        return combine(images, columns)
    return combine(images[:, :, None], columns.reshape(*images.shape, -1)).reshape(columns.shape)


CERTAIN = -30.0
"""The logit of a pixel that says nothing about z where the image has 0."""


class KeptPixels(eqx.Module):
    """A decoder of the ``kept`` pixels (pixels, 1) alone: missing ones must be 0."""

    decoder: Decoder
    kept: Bool[Array, "pixels 1"]

    def __call__(self, latents: Vector) -> Images:
        """Logits of shape ``(pixels, *columns)``; where a pixel is missing, 0 is certain."""
        return jnp.where(self.kept, self.decoder(latents), CERTAIN)


class ImageLikelihood(AbstractLogDensity):
    """``log p(x | z)`` of fixed binary images as a function of their latents, normalised."""

    decoder: Decoder | KeptPixels
    images: Images

    def __call__(self, position: Vector) -> Scalar:
        """Shape ``(*columns)``; with several chains per image their columns lie side by side."""
        return log_bernoulli(self.images, self.decoder(position))


class LatentPosterior(AbstractLogDensity):
    """``-|z|^2 / 2 + power * log p(x | z)``: the posterior of the latents; for power below 1, AIS's
    way to it.

    Without the constant of the prior. ``likelihood`` is an `ImageLikelihood` or any log p(x | z) in
    its layout.
    """

    likelihood: AbstractLogDensity
    power: Float[Array, "*columns"] | float = 1.0

    def __call__(self, position: Vector) -> Scalar:
        """Shape ``(*columns)``."""
        return self.power * self.likelihood(position) - jnp.sum(position**2, axis=0) / 2


class InUnits(AbstractLogDensity):
    """``u -> logdensity(mean + sd u)``: a density of latents in units of a diagonal Gaussian, one
    per column.

    The constant log sd is left out. The Gaussian must not depend on the latents; an encoder's q(z |
    x) does not.
    """

    logdensity: AbstractLogDensity
    units: Diagonal

    def __call__(self, position: Vector) -> Scalar:
        """Shape ``(*columns)``."""
        return self.logdensity(self.units.draw(position))
