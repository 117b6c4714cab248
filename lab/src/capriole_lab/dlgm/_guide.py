"""A learned Gaussian guess at every image's posterior, and dynamics in its coordinates.

Posteriors of a decoder that learned from a sampler are correlated, unlike the encoder's q. A second
network, the guide, gives every image a Gaussian with a full covariance, fitted by maximum
likelihood to the sampler's own draws, in which the posterior is near N(0, I). It depends on the
image alone, so a kernel in its coordinates is exact, too.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from capriole.kernels import AbstractDynamics, AbstractLogDensity, Flag, Key, Phase, Scalar, Vector

from ._model import Feedforward


class Frame(eqx.Module):
    """Affine coordinates ``y = R (u - centre)`` per column, R lower triangular."""

    centre: Vector
    factor: Float[Array, "dim dim *columns"]
    inverse: Float[Array, "dim dim *columns"]

    def inner(self, point: Vector) -> Vector:
        """``R (u - centre)``."""
        return _times(self.factor, point - self.centre)

    def outer(self, point: Vector) -> Vector:
        """``centre + R^-1 y``; `inner` undone."""
        return self.centre + _times(self.inverse, point)


class InFrame(AbstractLogDensity):
    """``y -> logdensity(centre + R^-1 y)``, without the constant log |R|."""

    logdensity: AbstractLogDensity
    frame: Frame

    def __call__(self, position: Vector) -> Scalar:
        """Shape ``(*columns)``."""
        return self.logdensity(self.frame.outer(position))


class Guide(eqx.Module):
    """Image to centre and R of a Gaussian with precision ``R^T R``; N(0, I) before training."""

    network: Feedforward
    latent: int = eqx.field(static=True)

    def __init__(
        self, key: Key, *, latent: int, pixels: int, hidden: int, dtype: Any = jnp.float32
    ):
        self.latent = latent
        outputs = latent + latent * (latent + 1) // 2
        self.network = Feedforward(
            key, (pixels, hidden, hidden, outputs), last_scale=0.01, dtype=dtype
        )

    def __call__(self, images: Vector) -> tuple[Vector, Vector, Array]:
        """Centre, log of R's diagonal, and R, the columns last."""
        out, n = self.network(images), self.latent
        centre, log_diagonal, below = out[:n], out[n : 2 * n], out[2 * n :]
        rows, columns = np.tril_indices(n, -1)
        on = np.arange(n)
        factor = jnp.zeros((n, n, *out.shape[1:]), out.dtype).at[rows, columns].set(below)
        return centre, log_diagonal, factor.at[on, on].set(jnp.exp(log_diagonal))

    def misfit(self, images: Vector, draws: Vector) -> Float[Array, ""]:
        """Minus the mean log density of ``draws``, one per image, up to a constant."""
        centre, log_diagonal, factor = self(images)
        return jnp.mean(jnp.sum(_times(factor, draws - centre) ** 2 / 2 - log_diagonal, axis=0))

    def frame(self, images: Vector | None) -> Frame:
        """The Gaussian's coordinates, constant for whoever differentiates: the guide learns by
        `misfit` alone.

        Raises ValueError without images.
        """
        if images is None:
            raise ValueError(
                "this kernel is conditional on images; give its Transition context=images"
            )
        centre, _, factor = jax.lax.stop_gradient(self(images))
        square = jnp.moveaxis(factor, (0, 1), (-2, -1))
        unit = jnp.broadcast_to(jnp.eye(self.latent, dtype=factor.dtype), square.shape)
        inverse = jax.scipy.linalg.solve_triangular(square, unit, lower=True)
        return Frame(centre, factor, jnp.moveaxis(inverse, (-2, -1), (0, 1)))


class Framed(AbstractDynamics):
    """``dynamics`` in the coordinates of a frame: into them, along, and back; the two
    log-determinants cancel.

    Momenta are those of the frame, N(0, I). The frame is a constant; whoever trains leaves it
    alone.
    """

    frame: Frame
    dynamics: AbstractDynamics

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase`` and the inner log-det."""
        grad = _transposed(self.frame.inverse, phase.logdensity_grad)
        start = Phase(self.frame.inner(phase.position), phase.momentum, phase.logdensity, grad)
        end, log_det = self.dynamics(InFrame(logdensity, self.frame), start, forward, context)
        back = _transposed(self.frame.factor, end.logdensity_grad)
        return Phase(self.frame.outer(end.position), end.momentum, end.logdensity, back), log_det

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """Those of the inner dynamics."""
        return self.dynamics.num_gradients


class Guided(AbstractDynamics):
    """``dynamics`` in the frame of a guide; ``context`` is the images."""

    guide: Guide
    dynamics: AbstractDynamics

    def at(self, images: Vector | None) -> Framed:
        """The same on these images alone, the guide's network run once for any number of steps.

        Raises ValueError without images.
        """
        return Framed(self.guide.frame(images), self.dynamics)

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase`` and the inner log-det."""
        return self.at(context)(logdensity, phase, forward, context)

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """Those of the inner dynamics."""
        return self.dynamics.num_gradients


@jax.custom_vjp
def _times(matrix: Array, vector: Array) -> Array:
    """A small matrix per column times a vector per column.

    Written out: XLA on CPUs takes 20 times as long over the same sum as a reduction, and turns a
    batched product with the batch last into transposes. Behind a barrier, lest it be done again for
    everyone who uses it.
    """
    return _added([matrix[:, k] * vector[k] for k in range(vector.shape[0])])


@jax.custom_vjp
def _transposed(matrix: Array, vector: Array) -> Array:
    return _added([matrix[k] * vector[k] for k in range(vector.shape[0])])


def _added(terms: list[Array]) -> Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return jax.lax.optimization_barrier(total)


def _times_backward(residual: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    matrix, vector = residual
    return grad[:, None] * vector[None], _transposed(matrix, grad)


def _transposed_backward(residual: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    matrix, vector = residual
    return vector[:, None] * grad[None], _times(matrix, grad)


_times.defvjp(lambda matrix, vector: (_times(matrix, vector), (matrix, vector)), _times_backward)
_transposed.defvjp(
    lambda matrix, vector: (_transposed(matrix, vector), (matrix, vector)), _transposed_backward
)
