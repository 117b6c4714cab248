"""Which second derivatives a log density has: asked once, before anything needs them."""

from collections.abc import Callable
from enum import Enum

import equinox as eqx
import jax
import jax.numpy as jnp

from ._logdensity import AbstractLogDensity
from ._types import Scalar, Vector


class SecondDerivatives(Enum):
    """Which second derivatives JAX can take of a log density.

    A function with ``jax.custom_vjp`` (adjoints of differential equations, callbacks, Stan) has a
    first derivative, and often no more.
    """

    NONE = "none"
    REVERSE = "reverse mode only"
    FULL = "forward mode too"


def second_derivatives(logdensity: AbstractLogDensity, position: Vector) -> SecondDerivatives:
    """Which second derivatives there are, found by tracing: nothing is compiled or evaluated.

    Args:
        logdensity: the log density.
        position: any position, shape ``(dim,)``.

    Returns:
        REVERSE if ``jax.grad`` can be applied twice. FULL if, moreover, ``jax.jvp`` can be applied
        twice to the gradient, as Hessians and the curvature along a direction need it.
    """
    if not _traces(jax.grad(_weighted(logdensity)), position):
        return SecondDerivatives.NONE

    def slope(x: Vector) -> Vector:
        return jax.jvp(jax.grad(logdensity), (x,), (x,))[1]

    if not _traces(lambda x: jax.jvp(slope, (x,), (x,))[1], position):
        return SecondDerivatives.REVERSE
    return SecondDerivatives.FULL


def has_second_derivative(function: Callable, position: Vector) -> bool:
    """Whether reverse mode applied twice is finite at a position; training needs it.

    Args:
        function: log density.
        position: shape ``(dim,)``.
    """
    try:
        second = _second(function, position)
    except Exception:  # a user's function may raise anything, with the same remedy
        return False
    return bool(jnp.all(jnp.isfinite(second)))


@eqx.filter_jit
def _second(function: Callable, position: Vector) -> Vector:
    """Gradient of one weighted sum of the gradient's entries."""
    return jax.grad(_weighted(function))(position)


def _weighted(function: Callable) -> Callable[[Vector], Scalar]:
    def directional(x: Vector) -> Scalar:
        return jnp.sum(jax.grad(function)(x) * jnp.arange(1.0, x.size + 1, dtype=x.dtype))

    return directional


def _traces(function: Callable, position: Vector) -> bool:
    try:
        jax.eval_shape(function, position)
    except Exception:  # JAX's own errors have no type of their own, a user's rule may raise any
        return False
    return True
