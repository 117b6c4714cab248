"""Calls of Python from compiled programs, with numbers of double precision that arrive whole."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

type Array = Any


def host_call(
    function: Callable[..., Any], form: Any, *arguments: Array, vmap_method: str = "sequential"
) -> Any:
    """`jax.pure_callback`, by which float64 numbers keep all their digits.

    JAX converts what goes in and what comes out with the precision of the *thread* that calls.
    Inside ``jax.enable_x64(True)`` the caller has float64, but XLA may call from a thread of its
    own, which has float32: digits are lost, or the call fails. So float64 goes as pairs of uint32.

    Args:
        function: from NumPy arrays to a pytree of them, like ``form``.
        form: shapes and dtypes of the results, a pytree of `jax.ShapeDtypeStruct`.
        *arguments: arrays.
        vmap_method: as in `jax.pure_callback`.

    Returns:
        The results.
    """
    dtypes = [np.dtype(argument.dtype) for argument in arguments]

    def called(*packed: Any) -> Any:
        pairs = zip(packed, dtypes, strict=True)
        out = function(*(_whole(np.asarray(array), dtype) for array, dtype in pairs))
        return jax.tree.map(lambda leaf, like: _halves(np.asarray(leaf, like.dtype)), out, form)

    packed_form = jax.tree.map(_form_of_halves, form)
    packed = [_packed(argument) for argument in arguments]
    out = jax.pure_callback(called, packed_form, *packed, vmap_method=vmap_method)
    return jax.tree.map(_unpacked, out, form)


def _is_double(dtype: Any) -> bool:
    return np.dtype(dtype).itemsize == 8


def _packed(array: Array) -> Array:
    array = jnp.asarray(array)
    return jax.lax.bitcast_convert_type(array, jnp.uint32) if _is_double(array.dtype) else array


def _unpacked(array: Array, like: jax.ShapeDtypeStruct) -> Array:
    return jax.lax.bitcast_convert_type(array, like.dtype) if _is_double(like.dtype) else array


def _form_of_halves(like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*like.shape, 2), np.uint32) if _is_double(like.dtype) else like


def _whole(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not _is_double(dtype):
        return array
    return np.ascontiguousarray(array).view(dtype)[..., 0]


def _halves(array: np.ndarray) -> np.ndarray:
    if not _is_double(array.dtype):
        return array
    return np.ascontiguousarray(array[..., None]).view(np.uint32)
