"""The frame of an image's posterior from the decoder itself: the curvature of log p(x, z) at its
mode.

A network that has seen other images puts its Gaussian several deviations beside a new image's
posterior. The decoder knows better: the curvature of Gauss and Newton, I + J' W J with J the
Jacobian of the logits and W the pixels' variances, is the posterior's precision where that is
Gaussian. It depends on the image alone, so a kernel in its coordinates is as exact as any.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from capriole.kernels import (
    AbstractDynamics,
    AbstractLogDensity,
    Flag,
    Phase,
    Scalar,
    Vector,
    value_and_grad,
)

from ._guide import Frame
from ._model import Decoder, Diagonal, ImageLikelihood, Images, LatentPosterior

NEWTON_STEPS = 4
"""Steps to the mode where a frame is made for good, from q's mean."""

type Square = Float[Array, "latent latent images"]


class Curved(AbstractDynamics):
    """``dynamics`` in the frame of each image's curvature; see `posterior_kernel`."""

    dynamics: AbstractDynamics

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Raises ValueError: without the frame it would be another kernel."""
        raise ValueError(
            "this kernel moves in the frame of each image's curvature; make it with "
            "`posterior_kernel`"
        )

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """Those of the inner dynamics; the frame, made once per image, costs `fresh_cost`."""
        return self.dynamics.num_gradients


def quick_cost(sizes: tuple[int, int, int, int], num_pixels: int) -> int:
    """What `quick_frame` costs, in gradients of log p(x | z) by z that have as many
    multiplications, rounded up.

    ``sizes`` of the decoder: latents, hidden units of two layers, pixels.
    """
    latent, first, second, pixels = sizes
    rows = min(num_pixels, pixels)
    forward = latent * first + first * second + second * pixels
    curvature = latent * (first * second + rows * second) + rows * latent**2
    return math.ceil((forward + curvature) / (2 * forward))


def fresh_cost(sizes: tuple[int, int, int, int]) -> int:
    """Gradients that `fresh_frame` costs: one, and the curvature, at every step and at its end."""
    return (NEWTON_STEPS + 1) * (1 + quick_cost(sizes, sizes[3]))


@eqx.filter_jit
def fresh_frame(decoder: Decoder, images: Images, q: Diagonal, units: Diagonal) -> Frame:
    """Mode and curvature of every posterior, in ``units``, by damped Newton steps."""
    mode, precision = newton(decoder, images, q.mean, NEWTON_STEPS)
    return jax.lax.stop_gradient(_frame(units.standardise(mode), precision, units))


@eqx.filter_jit
def quick_frame(decoder: Decoder, q: Diagonal, units: Diagonal, num_pixels: int) -> Frame:
    """The frame at q's mean, with the curvature of the ``num_pixels`` least certain pixels."""
    precision = precision_at(decoder, q.mean, num_pixels)
    return jax.lax.stop_gradient(_frame(units.standardise(q.mean), precision, units))


def newton(
    decoder: Decoder, images: Images, start: Vector, num_steps: int
) -> tuple[Vector, Square]:
    """The best point that damped Newton steps find for each image, and the precision there.

    A step that would not raise log p(x, z) is not taken, and the next is half as long.
    """
    target = LatentPosterior(ImageLikelihood(decoder, images))

    def body(_: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        point, value, grad, length = carry
        square = jnp.moveaxis(precision_at(decoder, point), -1, 0)
        step = jnp.linalg.solve(square, grad.T[..., None])[..., 0].T
        further = point + length * step
        there, slope = value_and_grad(target, further)
        better = there > value
        kept = (
            jnp.where(better, new, old)
            for new, old in ((further, point), (there, value), (slope, grad))
        )
        return (*kept, jnp.where(better, length, length / 2))

    first = (start, *value_and_grad(target, start), jnp.ones_like(start[0]))
    point = jax.lax.fori_loop(0, num_steps, body, first)[0]
    return point, precision_at(decoder, point)


def precision_at(decoder: Decoder, latents: Vector, num_pixels: int | None = None) -> Square:
    """``I + J' W J``: the curvature of -log p(x, z) but for the logits' own, whose weight x - p has
    mean 0.

    From the ``num_pixels`` pixels with the largest variances alone, if given: most pixels of a
    digit are certain.
    """
    (first, second, last), (offset, shift, _) = decoder.network.weights, decoder.network.biases
    inner = first @ latents + offset[:, None]
    outer = second @ jax.nn.softplus(inner) + shift[:, None]
    share = jax.nn.sigmoid(decoder(latents))
    weight = (share * (1 - share)).T
    jacobian = (
        jnp.einsum("hj,jn,jk->nhk", second, jax.nn.sigmoid(inner), first)
        * jax.nn.sigmoid(outer).T[..., None]
    )
    if num_pixels is not None and num_pixels < len(last):
        weight, chosen = jax.lax.top_k(weight, num_pixels)
        jacobian = last[chosen] @ jacobian
    else:
        jacobian = jnp.einsum("ph,nhk->npk", last, jacobian)
    square = jnp.moveaxis(jnp.swapaxes(jacobian * weight[..., None], 1, 2) @ jacobian, 0, -1)
    return square + jnp.eye(latents.shape[0], dtype=latents.dtype)[:, :, None]


def factor_of(precision: Square) -> Square:
    """R, lower triangular, with ``R' R = precision``."""
    lower = jnp.linalg.cholesky(jnp.moveaxis(precision[::-1, ::-1], -1, 0))
    return jnp.swapaxes(jnp.moveaxis(lower, 0, -1)[::-1, ::-1], 0, 1)


def _frame(centre: Vector, precision: Square, units: Diagonal) -> Frame:
    """The frame in ``units`` of a precision of latents."""
    factor = factor_of(precision) * jnp.exp(units.log_sd)
    square = jnp.moveaxis(factor, -1, 0)
    unit = jnp.broadcast_to(jnp.eye(len(centre), dtype=factor.dtype), square.shape)
    inverse = jax.scipy.linalg.solve_triangular(square, unit, lower=True)
    return Frame(centre, factor, jnp.moveaxis(inverse, 0, -1))
