"""Errors inside of a user's log density: the remedy is that of their cause."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.kernels import PerChain
from capriole.models import as_logdensity, check_dtype, check_logdensity


def normal(x):
    return -jnp.sum(x**2) / 2


@jax.custom_vjp
def reverse_only(x):
    return normal(x)


reverse_only.defvjp(lambda x: (reverse_only(x), x), lambda x, g: (-g * x,))


@jax.custom_vjp
def no_tuple(x):
    return normal(x)


no_tuple.defvjp(lambda x: (no_tuple(x), x), lambda x, g: -g * x)


def called_back(function, **options):
    return lambda x: jax.pure_callback(function, jax.ShapeDtypeStruct((), x.dtype), x, **options)


def fails(x):
    raise RuntimeError("the solver failed")


def loops(x):
    return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] - x[0] ** 2, s[1] + 1), (0.0, 0))[
        0
    ]


def looped_deep(x):
    return jax.jit(lambda x: jax.lax.cond(x[0] > 1, normal, loops, x))(x)


def local(x):
    """A function whose custom derivative only it sees."""
    inner = jax.custom_vjp(normal)
    inner.defvjp(lambda x: (inner(x), x), lambda x, g: (-g * x,))
    return jnp.sum(jax.jacfwd(inner)(x))


OWN = "the error is of the log density's own code in line [0-9]+ of test_remedies.py, not of init"
FORWARD = "a jax.custom_vjp has no forward mode.*use jax.grad or jacrev of it, or .*jax.custom_jvp"
INIT = r"does it agree with init, in dimension and names\? It was raised in line [0-9]+ of test_rem"
CASES = {
    "name": (lambda x: normal(x) + undefined, "NameError.*" + OWN),  # noqa: F821
    "division": (lambda x: normal(x) * (1 / len([])), "ZeroDivisionError.*" + OWN),
    "own error": (fails, "RuntimeError: the solver failed; " + OWN),
    "callback": (called_back(fails), r"Traceback.* \.\.\. RuntimeError: the solver failed; " + OWN),
    "hessian": (lambda x: normal(x) + jnp.sum(jax.hessian(reverse_only)(x)), FORWARD),
    "jvp": (lambda x: jax.jvp(reverse_only, (x,), (x,))[1], FORWARD),
    "jacfwd": (local, FORWARD),
    "dimension": (lambda x: x @ jnp.eye(2) @ x, INIT),
    "key": (lambda x: x["beta"], INIT),
    "while loop": (
        loops,
        "not differentiable.*replace a while loop by jax.lax.scan, or .*custom_vjp",
    ),
    "deep loop": (looped_deep, "replace a while loop by jax.lax.scan"),
    "no derivative": (
        called_back(lambda x: np.sum(x)),
        "not differentiable.*give the callback a derivative by jax.custom_vjp",
    ),
    "backward": (no_tuple, "backward function of jax.custom_vjp must return a tuple"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(CASES))
def test_the_remedy_is_that_of_the_cause(name):
    function, words = CASES[name]
    target, position = as_logdensity(function, np.zeros(3))
    with pytest.raises(ValueError, match=f"(?s){words}"):
        check_logdensity(target, position)


def test_a_callback_for_many_chains_needs_a_method():
    one_chain = jax.custom_vjp(called_back(lambda x: -np.sum(x**2)))
    one_chain.defvjp(lambda x: (one_chain(x), x), lambda x, g: (-2 * g * x,))
    with pytest.raises(ValueError, match=r'many positions.*vmap_method="sequential"'):
        check_dtype(PerChain(one_chain), jnp.zeros((3, 4)))


@pytest.mark.parametrize("init", [3, np.int64(3), np.array(3)])
def test_a_number_of_dimensions_is_no_init(init):
    with pytest.raises(ValueError, match=r"one position, not the number of dimensions.*zeros\(3\)"):
        as_logdensity(normal, init)


@pytest.mark.parametrize("init", [3.0, np.array(3.0), np.array([3]), [3], {"a": 3}])
def test_one_number_and_whole_numbers_inside_are_positions(init):
    assert as_logdensity(normal, init)[1].shape == (1,)
