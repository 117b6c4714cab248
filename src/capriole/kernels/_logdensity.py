"""Log densities in the library's layout, and adapters that produce this layout."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._types import Scalar, Vector


class AbstractLogDensity(eqx.Module):
    """An unnormalised log density in the library's layout."""

    @abstractmethod
    def __call__(self, position: Vector) -> Scalar:
        """Evaluate the log density.

        Args:
            position: shape ``(dim, *chains)``.

        Returns:
            Log density of shape ``(*chains)``.
        """


class PerChain(AbstractLogDensity):
    """A function of one position, applied to many chains by ``vmap`` over the last axis.

    Attributes:
        function: log density ``(dim,) -> ()``.
    """

    function: Callable

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at ``position``."""
        if position.ndim == 1:
            return self.function(position)
        return jax.vmap(self.function, in_axes=-1, out_axes=-1)(position)


class Prepared(AbstractLogDensity):
    """A user's log density with a memory of what it was when it was prepared.

    A function may read data that change afterwards. Values at a few points show that. Two prepared
    log densities share compiled programs only if their ``program`` is the same.

    Attributes:
        logdensity: the log density in the user's coordinates.
        points: where it was evaluated, shape ``(dim, points)``.
        values: its values there, shape ``(points,)``.
        program: digest of what JAX compiles, data that it closes over included.
        x64: whether JAX computed in double precision by default.
    """

    logdensity: AbstractLogDensity
    points: Float[Array, "dim points"]
    values: Float[Array, " points"]
    program: str = eqx.field(static=True)
    x64: bool = eqx.field(static=True)

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at ``position``."""
        return self.logdensity(position)


class Tempered(AbstractLogDensity):
    """A log density divided by a temperature; a temperature above 1 flattens the target.

    Attributes:
        logdensity: the log density to flatten.
        temperature: positive; one number, or one per chain.
    """

    logdensity: AbstractLogDensity
    temperature: Scalar

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at ``position``."""
        return self.logdensity(position) / self.temperature


class StoppedForce(AbstractLogDensity):
    """The same log density, with a gradient that counts as constant in training.

    For log densities without second derivatives (``lax.while_loop``, host callbacks, Stan). The
    kernel stays exact; only the gradient that training follows is approximate. The value and its
    first derivative do not change::

        logdensity(a) + grad logdensity(a) . (x - a),   a = stop_gradient(x)

    Attributes:
        logdensity: the log density.
    """

    logdensity: AbstractLogDensity

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at ``position``."""
        anchor = jax.lax.stop_gradient(position)
        value, grad = value_and_grad(self.logdensity, anchor)
        value, grad = jax.lax.stop_gradient((value, grad))
        return value + jnp.sum(grad * (position - anchor), axis=0)


def value_and_grad(logdensity: AbstractLogDensity, position: Vector) -> tuple[Scalar, Vector]:
    """Log density and its gradient, for one chain or many, by one vector-Jacobian product.

    Args:
        logdensity: the log density.
        position: shape ``(dim, *chains)``.

    Returns:
        Log density of shape ``(*chains)``, and its gradient of shape ``(dim, *chains)``.
    """
    value, pullback = jax.vjp(logdensity, position)
    (grad,) = pullback(jnp.ones_like(value))
    return value, grad
