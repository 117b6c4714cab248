"""Checks of a user's log density, starts and numbers before time is spent on them.

Every error names the wrong value and the remedy.
"""

import inspect
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import (
    AbstractLogDensity,
    ChainState,
    StoppedForce,
    has_second_derivative,
    value_and_grad,
)
from ..runtime import line_of, precision_context, primitives, sees, shortened
from ._model import named
from ._pytrees import Raveled, labels

_LOOP, _CALLBACKS = "while", {"pure_callback", "io_callback"}
_CUSTOM = {"custom_vjp_call", "custom_vjp_call_jaxpr"}
"""Names of JAX's primitives that explain why there is no gradient."""


def check_count(name: str, value: Any, low: int, high: int = 10**9) -> int:
    """Check a whole number.

    Args:
        name: name of the argument, for the message.
        value: an int of Python or NumPy.
        low: smallest value allowed.
        high: largest value allowed.

    Returns:
        The value as an int.

    Raises:
        ValueError: for anything else.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | np.integer)
        or not low <= value <= high
    ):
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r:.80}")
    return int(value)


def check_spread(value: Any) -> float:
    """Check the standard deviation of the starts around ``init``.

    Args:
        value: a number of Python, NumPy or JAX.

    Returns:
        The value as a float.

    Raises:
        ValueError: unless it is one positive finite number.
    """
    number = np.asarray(value)
    if number.shape or number.dtype.kind not in "iuf" or not 0 < float(number) < 1e300:
        raise ValueError(
            f"spread must be one positive finite number, got {value!r:.80}: chains start at init + "
            "spread * N(0, I); "
            "give a small one, e.g. 1e-3, to start them close to init"
        )
    return float(number)


def check_logdensity(function: Callable, position: jax.Array) -> None:
    """Check that a log density is a differentiable, finite scalar at one position.

    Args:
        function: log density of one position, ``(dim,) -> ()``.
        position: test position, shape ``(dim,)``.

    Raises:
        ValueError: if it fails there, or has another shape or dtype, or value or gradient is not
            finite.
    """
    where = f"at the test position {_short(position)}"
    try:
        value = function(position)
    except Exception as error:
        what = f"the log density failed {where} of shape {position.shape}"
        why = f"{type(error).__name__}: {shortened(error)}"
        raise ValueError(f"{what}: {why}; {_remedy(error, function, position)}") from error
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            "the log density reads a number that JAX is tracing, so this call is inside jax.jit, "
            "vmap or grad; make the call outside, for many data sets in a Python loop"
        )
    if not isinstance(value, jax.Array | np.ndarray | np.number | int | float):
        remedy = NUMPYRO_REMEDY if is_numpyro_model(function) else "does it return the sum?"
        raise ValueError(
            f"the log density must return one number, got {value!r:.80} {where}; {remedy}"
        )
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != ():
        raise ValueError(
            f"the log density must return a scalar, got shape {shape} {where}; sum over data and "
            "dimensions"
        )
    if dtype != position.dtype:
        raise ValueError(
            f"the log density returned {dtype} for a position of {position.dtype}; compute in the "
            "position's dtype "
            f"(cast the data, e.g. jnp.asarray(data, position.dtype)){_or_float32(dtype)}"
        )
    if jnp.isnan(value):
        raise ValueError(f"the log density is NaN {where}; guard logs, square roots and 0/0 there")
    if not jnp.isfinite(value):
        raise ValueError(
            f"the log density is {value} {where}: outside the support; pass an init inside it"
        )
    try:
        gradient = jax.grad(function)(position)
    except Exception as error:
        raise ValueError(
            f"the log density is not differentiable by jax.grad {where}: {first_line(error)}; "
            f"{_gradient_remedy(function, position)}"
        ) from error
    bad = np.flatnonzero(~np.isfinite(np.asarray(gradient)))
    if bad.size:
        raise ValueError(
            f"the gradient of the log density is not finite in "
            f"{named(labels(function, position.size), bad)} {where}"
        )


def trainable(
    logdensity: AbstractLogDensity, position: jax.Array
) -> tuple[AbstractLogDensity, bool]:
    """The log density to train on.

    Args:
        logdensity: the log density.
        position: test position, shape ``(dim,)``.

    Returns:
        The log density and True; or, if it has no second derivative, `StoppedForce` of it and
        False.
    """
    if has_second_derivative(logdensity, position):
        return logdensity, True
    return StoppedForce(logdensity), False


def check_starts(state: ChainState, logdensity: AbstractLogDensity | None = None) -> None:
    """Check that all chains start where log density and gradient are finite.

    Args:
        state: the states of all chains.
        logdensity: the log density whose coordinates the states are in, to name them.

    Raises:
        ValueError: naming the first chain that does not.
    """
    value, grad = np.atleast_1d(state.logdensity), np.asarray(state.logdensity_grad)
    grad = grad[:, None] if grad.ndim == 1 else grad
    bad = np.flatnonzero(~np.isfinite(value) | ~np.isfinite(grad).all(axis=0))
    if not bad.size:
        return
    chain = int(bad[0])
    position = np.asarray(state.position).reshape(len(grad), -1)[:, chain]
    coordinates = np.flatnonzero(~np.isfinite(grad[:, chain]))
    detail = f"log density {value[chain]}"
    if coordinates.size:
        where = "" if logdensity is None else named(labels(logdensity, len(grad)), coordinates)
        detail += f", gradient not finite{' in ' * bool(where)}{where}"
    raise ValueError(
        f"{bad.size} of {value.size} chains start outside the support, the first is chain {chain}: "
        f"{detail} at "
        f"position {_short(position)}; start the chains inside the support (closer to init by a "
        "smaller spread=, if "
        "they start around one), or map it smoothly to the whole space: for x > 0, x = exp(z) and "
        "z added to the log "
        "density"
    )


def check_dtype(logdensity: AbstractLogDensity, position: jax.Array) -> None:
    """Check that value and gradient keep the shape and dtype of a batch of positions.

    Args:
        logdensity: the log density.
        position: shape ``(dim, chains)``.

    Raises:
        ValueError: if they do not, or if the log density fails under vmap and jit.
    """
    try:
        value, _ = jax.eval_shape(lambda x: value_and_grad(logdensity, x), position)
    except Exception as error:
        what = "the log density failed for many positions at once, under jax.vmap and jax.jit"
        remedy = _remedy(error, logdensity, position[:, 0])
        raise ValueError(f"{what}: {first_line(error)}; {remedy}") from error
    if value.shape != position.shape[1:] or value.dtype != position.dtype:
        raise ValueError(
            f"for positions of shape {position.shape} and {position.dtype} the log density must "
            "return shape "
            f"{position.shape[1:]} and the same dtype, got {value.shape} and {value.dtype}; does "
            "its dimension agree?"
        )


def _remedy(error: Exception, function: Callable, position: jax.Array) -> str:
    """What to do about an exception of the user's log density."""
    if isinstance(
        error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError
    ):
        return (
            "write it in jax.numpy, with jnp.where in place of an if that depends on the position"
        )
    if is_numpyro_model(function) or _lacks_numpyro_seed(error):
        return NUMPYRO_REMEDY
    if isinstance(error, NotImplementedError) and primitives(function, position) & _CALLBACKS:
        return 'give the callback vmap_method="sequential", or "expand_dims" if it takes batches'
    if not isinstance(error, TypeError | ValueError | LookupError | AttributeError):
        return f"the error is of the log density's own code{line_of(error)}, not of init"
    if isinstance(function, Raveled):
        if not _takes_one(function.function):
            return "it is called with one argument, the whole pytree that init is"
        if any(map(_is_scalars, jax.tree.leaves(function.unravel(position), is_leaf=_is_scalars))):
            return (
                "init, or a part of it, is a list or tuple, to JAX a pytree of scalars: "
                "pass np.array of it instead"
            )
    agrees = f"does it agree with init, in dimension and names? It was raised{line_of(error)}"
    if isinstance(error, TypeError) and sees(error, jax.custom_vjp | eqx.filter_custom_vjp):
        return (
            "a jax.custom_vjp has no forward mode (jvp, jacfwd, hessian): inside the log density "
            f"use jax.grad or jacrev of it, or write a jax.custom_jvp; or else, {agrees}"
        )
    if _works_in_float32(function, position):
        return (
            "it works in float32 only: make the arrays that it closes over in the dtype of the "
            "position, or pass precision='float32'"
        )
    return agrees


def _gradient_remedy(function: Callable, position: jax.Array) -> str:
    """What to do about a log density that has a value and no gradient."""
    found = primitives(function, position)
    if _LOOP in found:
        return "replace a while loop by jax.lax.scan, or give it a derivative by jax.custom_vjp"
    if found & _CALLBACKS:
        return "give the callback a derivative by jax.custom_vjp"
    if found & _CUSTOM:
        return "the backward function of jax.custom_vjp must return a tuple, one part per argument"
    return "write it in jax.numpy"


def _or_float32(dtype: Any) -> str:
    """The other remedy for a log density in float32."""
    return ", or pass precision='float32'" if dtype == np.float32 else ""


def _works_in_float32(function: Callable, position: jax.Array) -> bool:
    """Whether a function that fails in float64 has a value in float32."""
    if position.dtype != np.float64:
        return False
    init: Any = position
    if isinstance(function, Raveled):
        init, function = function.unravel(position), function.function
    with precision_context("float32"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's, of the function's own float64 arrays
        single = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), init)
        try:
            return jax.eval_shape(function, single).dtype == np.float32
        except Exception:  # it does not work there either
            return False


NUMPYRO_REMEDY = (
    "it is a NumPyro model: hand over capriole.from_numpyro(model, *args, **kwargs), without init"
)


def is_numpyro_model(function: Any) -> bool:
    """Whether a function samples sites of NumPyro, as its code says; NumPyro is not imported.

    Args:
        function: what was handed over for a log density.

    Returns:
        True for NumPyro's own handlers, and for functions that call ``numpyro.sample``.
    """
    while isinstance(function, Raveled) or hasattr(function, "__wrapped__"):
        function = getattr(function, "function", None) or function.__wrapped__
    if type(function).__module__.split(".")[0] == "numpyro":
        return True
    if not inspect.isfunction(function):
        return False
    known = inspect.getclosurevars(function)
    there = [*known.globals.values(), *known.nonlocals.values()]
    has_module = any(getattr(thing, "__name__", "") == "numpyro" for thing in there)
    has_sample = any(getattr(thing, "__module__", "") == "numpyro.primitives" for thing in there)
    return has_sample or (has_module and "sample" in function.__code__.co_names)


def _lacks_numpyro_seed(error: Exception) -> bool:
    """Whether a site of NumPyro was drawn without a key, which ends in a bare assertion."""
    if not isinstance(error, AssertionError):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any(f.f_globals.get("__name__", "") == "numpyro.primitives" for f, _ in frames)


def _takes_one(function: Callable) -> bool:
    """Whether a function can be called with one argument; True if Python cannot tell."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # built-in functions may have no signature
        return True
    return True


def _is_scalars(node: Any) -> bool:
    """Whether a node is a list or tuple of scalars, which JAX reads as a pytree."""
    return type(node) in (list, tuple) and all(
        isinstance(part, jax.Array) and part.ndim == 0 for part in node
    )


def _short(position: np.ndarray | jax.Array) -> str:
    """A position as text, shortened."""
    return np.array2string(np.asarray(position), precision=4, threshold=6)


def first_line(error: Exception) -> str:
    """Type and first line of an exception."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
