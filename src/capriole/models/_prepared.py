"""What a log density is, remembered: changed data are noticed, and so is noise.

A log density is code that may read anything. `prepared` evaluates it at two points, outside any
compiled program, and keeps the values. `check_unchanged` does that again, before a kernel that was
found for it draws. A digest of what JAX compiles says which log densities may share programs.
"""

import dataclasses
import hashlib
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..coordinates import in_coordinates_of, to_user, without_maps
from ..kernels import AbstractLogDensity, Prepared, State, Vector, state_at
from ._pytrees import Fresh

REPEAT_ULPS = {"cpu": 8}
OTHER_ULPS = 1000
"""Rounding errors by which two evaluations by the same operations may differ, by platform.

On a CPU they are equal bit for bit; on a GPU sums of scattered data are added in any order.
"""
COMPILED_ATOL, COMPILED_RTOL = 0.1, 1e-3
"""Largest difference of a compiled value from one of single operations, in nats and as a share.

Compiled programs add in another order: float32 sums of 1e5 terms differ by 1e-6 of themselves.
"""
_numbers = itertools.count()


def prepared(logdensity: AbstractLogDensity, position: Vector) -> AbstractLogDensity:
    """The log density, `Prepared` for its user's data as they are now.

    Args:
        logdensity: any log density. One that is prepared already must not have changed since.
        position: positions, shape ``(dim, chains)``; the first and the last are remembered.

    Returns:
        The same log density, in the same coordinates.

    Raises:
        ValueError: it changed, has another value when it is asked again, or cannot be compiled.
    """
    bottom = without_maps(logdensity)
    if isinstance(bottom, Prepared):
        check_unchanged(bottom)
        return logdensity
    _check_static(bottom)
    points = jnp.asarray(to_user(logdensity, np.asarray(position)[:, [0, -1]]))
    values = _values(bottom, points)
    again = np.asarray(bottom(points[:, 0]))
    if not _equal(again, values[0]):
        raise ValueError(
            f"the log density is not a function of its position: at {_short(points[:, 0])} it was "
            f"{values[0]:.9g}, and {again:.9g} when it was asked again; leave out random numbers "
            "and state, or draw the numbers once, outside of it"
        )
    made = Prepared(
        bottom,
        points,
        jnp.asarray(values),
        _program(bottom, points[:, 0]),
        bool(jax.config.read("jax_enable_x64")),
    )
    return in_coordinates_of(logdensity, made)


def _check_static(module: Any) -> None:
    """Raise ValueError for a module with an array in a static field, which JAX cannot compare."""
    for field in dataclasses.fields(module):
        value = getattr(module, field.name, None)
        is_static = field.metadata.get("static", False)
        if is_static and any(map(_is_array, jax.tree.leaves(value))):
            raise ValueError(
                f"the static field {field.name!r} of {type(module).__name__} holds an array, which "
                "JAX cannot compare; make it a field without static=True, so that it is data"
            )
        for part in jax.tree.leaves(value, is_leaf=_is_callable_tree):
            if isinstance(part, eqx.Module):
                _check_static(part)
            elif _is_callable_tree(part) and any(map(_is_array, jax.tree.leaves(part.func))):
                raise ValueError(
                    f"jax.tree_util.Partial of {type(part.func).__name__} holds arrays in its "
                    "function, which JAX cannot compare; pass the module itself"
                )
            elif _is_callable_tree(part) and isinstance(part.func, eqx.Module):
                _check_static(part.func)


def _is_callable_tree(value: Any) -> bool:
    return isinstance(value, eqx.Module | jax.tree_util.Partial)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | jax.Array)


def check_unchanged(logdensity: AbstractLogDensity) -> None:
    """Check that a log density still has the values that it had when it was prepared.

    Args:
        logdensity: any log density; one that is not `Prepared` passes.

    Raises:
        ValueError: a value is another one now, or JAX's default precision is.
    """
    bottom = without_maps(logdensity)
    if not isinstance(bottom, Prepared):
        return
    dtype_of(bottom)
    stored = np.asarray(bottom.values)
    try:
        now = _values(bottom.logdensity, bottom.points)
    except Exception as error:  # a user's function may raise anything once its data changed
        raise ValueError(
            f"the log density of this kernel fails now ({type(error).__name__}: {error}) where it "
            f"was {stored.tolist()} when the kernel was found; {_REMEDY}"
        ) from error
    if not _equal(now, stored):
        raise ValueError(
            "the log density of this kernel is not the one that the kernel was found for: at two "
            f"stored positions it was {stored.tolist()}, now it is {now.tolist()}; {_REMEDY}"
        )


def dtype_of(logdensity: Any) -> np.dtype | None:
    """The floating type that a log density was prepared in.

    Args:
        logdensity: any log density, or a user's function.

    Returns:
        The type; None if it was not prepared.

    Raises:
        ValueError: the computation has another precision.
    """
    bottom = without_maps(logdensity) if isinstance(logdensity, AbstractLogDensity) else None
    if not isinstance(bottom, Prepared):
        return None
    if bottom.x64 != bool(jax.config.read("jax_enable_x64")):
        raise ValueError(
            f"this log density was prepared in {bottom.points.dtype}, which is not the precision "
            f"of this call; pass precision='{bottom.points.dtype}', or your own log density, to be "
            "prepared anew"
        )
    return np.dtype(bottom.points.dtype)


_REMEDY = (
    "if its data changed, call fit or train again to have a kernel for them, or put the old data "
    "back"
)


def check_compiled(logdensity: AbstractLogDensity, state: State) -> None:
    """Check that a position has one value: alone, compiled, and among whatever other chains.

    Args:
        logdensity: result of `prepared`.
        state: the state of the chains whose positions were given to it.

    Raises:
        ValueError: the values differ by more than rounding.
    """
    position, first = np.array(state.position), np.asarray(state.logdensity)[0]
    position[:, 1:] = position[:, -1:]
    again = np.asarray(state_at(logdensity, jnp.asarray(position)).logdensity)[0]
    alone = first
    if isinstance(logdensity, Prepared) and np.array_equal(logdensity.points[:, 0], position[:, 0]):
        alone = np.asarray(logdensity.values)[0]
    close = COMPILED_ATOL + COMPILED_RTOL * np.abs(alone)
    if _equal(again, first) and (np.abs(first - alone) <= close or not np.isfinite(alone)):
        return
    raise ValueError(
        f"the log density is not a function of its position: at {_short(position[:, 0])} it is "
        f"{alone:.9g} alone, {first:.9g} among other chains in a compiled program, and "
        f"{again:.9g} among yet others; make it depend on one position only (sum over axis 0, not "
        "over chains), without random numbers or state"
    )


def _values(logdensity: AbstractLogDensity, points: Vector) -> np.ndarray:
    """Values at single points, operation by operation: no compiled program can be an old one."""
    return np.stack([np.asarray(logdensity(points[:, i])) for i in range(points.shape[1])])


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether values are equal, but for rounding where sums have no fixed order."""
    ulps = REPEAT_ULPS.get(jax.default_backend(), OTHER_ULPS)
    close = ulps * np.finfo(other.dtype).eps
    return one.dtype == other.dtype and np.allclose(one, other, close, close, equal_nan=True)


def _program(logdensity: AbstractLogDensity, point: Vector) -> str:
    """A digest of what JAX compiles, without the arrays that a module carries in the open."""
    if isinstance(getattr(logdensity, "function", None), Fresh):
        return ""  # a new object, for which JAX has no program
    if jax.config.values.get("jax_use_simplified_jaxpr_constants", False):
        return f"new {next(_numbers)}"  # the text would not show what it closes over
    arrays, rest = eqx.partition(logdensity, eqx.is_array)

    def call(arrays: Any, point: Vector) -> Any:
        return jax.value_and_grad(eqx.combine(arrays, rest))(point)

    text = jax.jit(call).lower(arrays, point).as_text()
    return hashlib.sha256(text.encode()).hexdigest()


def _short(position: Any) -> str:
    return np.array2string(np.asarray(position), precision=4, threshold=6)
