"""The precision of a computation, without a change of JAX's global setting."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np

PRECISIONS = ("float64", "float32")
"""Precisions that draws may have; the first is the default everywhere."""


def precision_context(precision: Any) -> AbstractContextManager:
    """A context in which JAX's default float has one precision, in this thread alone::

        with precision_context("float64"):
            jnp.zeros(3).dtype  # float64

    Args:
        precision: "float64" or "float32", or such a dtype.

    Returns:
        The context; after it JAX's setting is what it was.

    Raises:
        ValueError: ``precision`` is neither.
    """
    try:
        name = np.dtype(precision).name
    except TypeError:
        name = ""
    if precision is None or name not in PRECISIONS:
        raise ValueError(f"precision must be 'float64' or 'float32', got {precision!r:.80}")
    return jax.enable_x64(name == "float64")


def computes_in_precision[**Arguments, Result](
    function: Callable[Arguments, Result],
) -> Callable[Arguments, Result]:
    """Decorate a function so that it computes in the precision of its keyword ``precision``.

    Args:
        function: has a keyword argument ``precision`` with a default.

    Returns:
        The function in a `precision_context`.
    """
    default = inspect.signature(function).parameters["precision"].default

    @functools.wraps(function)
    def computed(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with precision_context(kwargs.get("precision", default)):
            return function(*args, **kwargs)

    return computed


def in_precision[Item](precision: Any, items: Iterator[Item]) -> Iterator[Item]:
    """Draw from an iterator in one precision; whoever takes the items keeps his own.

    Args:
        precision: as for `precision_context`.
        items: an iterator that computes with JAX.

    Yields:
        The items.
    """
    while True:
        with precision_context(precision):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
