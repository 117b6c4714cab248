"""Checks of a user's log density and starting points, before time is spent. Every error names value and remedy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ._logdensity import AbstractLogDensity, StoppedForce, value_and_grad
from ._types import State


def check_logdensity(function: Callable, position: jax.Array) -> None:
    """Raise ValueError unless ``function`` is a differentiable, finite scalar of the dtype of ``position`` there."""
    where = f"at the test position {_short(position)}"
    try:
        value = function(position)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"the log density failed {where} of shape {position.shape}: {error}; does its dimension agree with init?"
        ) from error
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != ():
        raise ValueError(
            f"the log density must return a scalar, got shape {shape} {where}; sum over data and dimensions"
        )
    if dtype != position.dtype:
        raise ValueError(
            f"the log density returned {dtype} for a position of {position.dtype}; compute in the position's dtype "
            "(cast the data, e.g. jnp.asarray(data, position.dtype))"
        )
    if jnp.isnan(value):
        raise ValueError(f"the log density is NaN {where}; guard logs, square roots and 0/0 there")
    if not jnp.isfinite(value):
        raise ValueError(f"the log density is {value} {where}: outside the support; pass an init inside it")
    try:
        gradient = jax.grad(function)(position)
    except Exception as error:
        raise ValueError(
            f"the log density is not differentiable by jax.grad {where}: {_first_line(error)}; write it in jax.numpy"
        ) from error
    bad = np.flatnonzero(~np.isfinite(np.asarray(gradient)))
    if bad.size:
        raise ValueError(f"the gradient of the log density is not finite in coordinates {bad.tolist()} {where}")


def has_second_derivative(function: Callable, position: jax.Array) -> bool:
    """Whether training can differentiate through the force: reverse over reverse at ``position``."""

    def directional(x: jax.Array) -> jax.Array:
        return jnp.sum(jax.grad(function)(x) * jnp.arange(1.0, x.size + 1, dtype=x.dtype))

    try:
        second = jax.jit(jax.grad(directional))(position)
    except Exception:  # whatever a foreign log density raises when differentiated twice, the remedy is the same
        return False
    return bool(jnp.all(jnp.isfinite(second)))


def trainable(logdensity: AbstractLogDensity, position: jax.Array) -> tuple[AbstractLogDensity, bool]:
    """The log density to train on: itself, or with its force held constant if it has no second derivative."""
    if has_second_derivative(logdensity, position):
        return logdensity, True
    return StoppedForce(logdensity), False


def check_starts(state: State) -> None:
    """Raise ValueError naming the first chain that starts where log density or gradient is not finite."""
    value, grad = np.atleast_1d(state.logdensity), np.asarray(state.logdensity_grad)
    grad = grad[:, None] if grad.ndim == 1 else grad
    bad = np.flatnonzero(~np.isfinite(value) | ~np.isfinite(grad).all(axis=0))
    if not bad.size:
        return
    chain = int(bad[0])
    position = np.asarray(state.position).reshape(len(grad), -1)[:, chain]
    coordinates = np.flatnonzero(~np.isfinite(grad[:, chain])).tolist()
    detail = f"log density {value[chain]}" + (
        f", gradient not finite in coordinates {coordinates}" if coordinates else ""
    )
    raise ValueError(
        f"{bad.size} of {value.size} chains start outside the support, the first is chain {chain}: {detail} at "
        f"position {_short(position)}; start the chains inside the support"
    )


def check_dtype(logdensity: AbstractLogDensity, position: jax.Array) -> None:
    """Raise ValueError unless value and gradient keep the shape and dtype of a batch of positions."""
    value, _ = jax.eval_shape(lambda x: value_and_grad(logdensity, x), position)
    if value.shape != position.shape[1:] or value.dtype != position.dtype:
        raise ValueError(
            f"for positions of shape {position.shape} and {position.dtype} the log density must return shape "
            f"{position.shape[1:]} and the same dtype, got {value.shape} and {value.dtype}; does its dimension agree?"
        )


def _short(position: np.ndarray | jax.Array) -> str:
    return np.array2string(np.asarray(position), precision=4, threshold=6)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
