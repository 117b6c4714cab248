"""Which second derivatives a log density has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import Whitened, identity
from capriole.kernels import PerChain, SecondDerivatives, second_derivatives

NONE, REVERSE, FULL = SecondDerivatives


def normal(x):
    return -jnp.sum(x**2) / 2


def custom(value, gradient):
    """A function whose first derivative is written out; its forward pass calls itself."""
    made = jax.custom_vjp(value)
    made.defvjp(lambda x: (made(x), x), lambda x, g: (g * gradient(x),))
    return made


def on_host(function):
    """A function by callback."""

    def called(x):
        shape = jax.eval_shape(function, x)
        return jax.pure_callback(lambda x: np.asarray(function(x)), shape, x)

    return called


CASES = {
    "plain": (normal, FULL),
    "linear": (jnp.sum, FULL),
    "loop apart": (lambda x: normal(x) + jax.lax.fori_loop(0, 3, lambda i, s: s + 1.0, 0.0), FULL),
    "custom_jvp": (lambda x: -jnp.sum(jax.nn.softplus(x) ** 2), FULL),
    "custom_vjp": (custom(normal, lambda x: -x), REVERSE),
    "custom_vjp inside": (lambda x: custom(normal, lambda x: -x)(2 * x) + normal(x), REVERSE),
    "callback": (custom(on_host(normal), on_host(lambda x: -x)), NONE),
    "callback inside": (lambda x: custom(on_host(normal), on_host(lambda x: -x))(x - 1), NONE),
    "gradient by a loop": (
        custom(normal, lambda x: jax.lax.while_loop(lambda s: s[0] > 0, lambda s: -s, -x)),
        NONE,
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_second_derivatives_are_known_without_trying(name):
    function, expected = CASES[name]
    target, position = PerChain(function), jnp.ones(3)
    assert second_derivatives(target, position) is expected
    white = Whitened(target, identity(3, jnp.dtype("float64")))
    assert second_derivatives(white, position) is expected


@pytest.mark.parametrize("name", list(CASES))
def test_what_is_said_to_be_there_can_be_taken(name):
    function, expected = CASES[name]
    hessian = {FULL: jax.hessian, REVERSE: lambda f: jax.jacrev(jax.grad(f))}
    if expected is NONE:
        with pytest.raises((ValueError, TypeError)):
            jax.grad(lambda x: jnp.sum(jax.grad(function)(x)))(jnp.ones(3))
    else:
        assert hessian[expected](function)(jnp.ones(3)).shape == (3, 3)
    if expected is REVERSE:
        with pytest.raises(TypeError, match="forward-mode"):
            jax.hessian(function)(jnp.ones(3))
