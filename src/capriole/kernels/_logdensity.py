"""Log densities: the batched form the core works with, and the adapters that produce it."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ._types import Scalar, Vector


class AbstractLogDensity(eqx.Module):
    """An unnormalised log density in the library's layout: ``(dim, *chains) -> (*chains)``."""

    @abstractmethod
    def __call__(self, position: Vector) -> Scalar: ...


class PerChain(AbstractLogDensity):
    """Lifts a function of one position ``(dim,) -> ()`` to many chains: vmap over the *last* axis."""

    function: Callable

    def __call__(self, position: Vector) -> Scalar:
        if position.ndim == 1:
            return self.function(position)
        return jax.vmap(self.function, in_axes=-1, out_axes=-1)(position)


class Tempered(AbstractLogDensity):
    """``logdensity / temperature``: flatter for temperature above 1."""

    logdensity: AbstractLogDensity
    temperature: Scalar

    def __call__(self, position: Vector) -> Scalar:
        return self.logdensity(position) / self.temperature


class StoppedForce(AbstractLogDensity):
    """The same density and force, but the force counts as constant when training differentiates
    through it.

    For log densities without second derivatives (``lax.while_loop``, host callbacks, Stan): the
    kernel stays exact, only the training signal is approximate. The value keeps its exact first
    derivative.
    """

    logdensity: AbstractLogDensity

    def __call__(self, position: Vector) -> Scalar:
        anchor = jax.lax.stop_gradient(position)
        value, grad = value_and_grad(self.logdensity, anchor)
        value, grad = jax.lax.stop_gradient((value, grad))
        return value + jnp.sum(grad * (position - anchor), axis=0)


def value_and_grad(logdensity: AbstractLogDensity, position: Vector) -> tuple[Scalar, Vector]:
    """Log density and its gradient for one chain or all chains at once: one vector-Jacobian
    product.
    """
    value, pullback = jax.vjp(logdensity, position)
    (grad,) = pullback(jnp.ones_like(value))
    return value, grad
