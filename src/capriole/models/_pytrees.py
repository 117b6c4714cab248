"""Between users' pytrees and the flat vectors of the library."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..kernels import AbstractLogDensity, Scalar, Vector
from ._model import leaf_name

_RESERVED_NAMES = {"chain", "draw"}
"""Axes of ArviZ's data; a variable cannot have these names."""


class Fresh:
    """A user's function as a new object, so that JAX compiles it anew.

    JAX reuses a compiled program for the same function, and the program holds the data that the
    function closes over. A notebook that changes the data and calls `fit` again would sample the
    old posterior. Equinox modules and ``jax.tree_util.Partial`` do not need this: JAX sees their
    arrays.

    Args:
        function: the user's log density.
    """

    def __init__(self, function: Callable):
        self.function = self.__wrapped__ = function  # inspect.signature reads __wrapped__

    def __call__(self, position: Any) -> Any:
        """The function's value."""
        return self.function(position)

    def __repr__(self) -> str:
        """The function's own text."""
        return repr(self.function)


class Raveled(AbstractLogDensity):
    """A user's log density of one pytree, as a log density of flat vectors.

    Attributes:
        function: log density of one pytree.
        unravel: flat vector to pytree.
    """

    function: Callable
    unravel: Callable = eqx.field(static=True)

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at positions of shape ``(dim, *chains)``."""
        if position.ndim == 1:
            return self.function(self.unravel(position))
        return jax.vmap(lambda flat: self.function(self.unravel(flat)), in_axes=-1, out_axes=-1)(
            position
        )


def as_logdensity(function: Any, init: Any) -> tuple[AbstractLogDensity, jax.Array]:
    """A user's log density in the library's layout, and ``init`` as a flat vector.

    Args:
        function: log density of one pytree, or an `AbstractLogDensity`.
        init: a pytree of numbers; integers are read as floats.

    Returns:
        The log density, and the flat vector of shape ``(dim,)``.

    Raises:
        ValueError: if ``function`` is not callable, or ``init`` is empty, not real, not finite, or
            has unusable names.
    """
    if not callable(function):
        raise ValueError(
            f"logdensity must be a function, got {function!r:.80}; it comes first, then init"
        )
    try:
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(init)]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"init must be an array or a pytree of numbers, got {init!r:.80}"
        ) from error
    if not leaves or not sum(leaf.size for leaf in leaves):
        raise ValueError(
            f"init must hold at least one number, got {init!r}; pass one position, e.g. "
            "jnp.zeros(3)"
        )
    kinds = {str(leaf.dtype) for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)}
    if any(not jnp.issubdtype(jnp.dtype(kind), jnp.integer) for kind in kinds):
        raise ValueError(f"init must be real numbers, got dtypes {sorted(kinds)}")
    floats = jax.tree.map(lambda leaf: jnp.asarray(leaf, _float_dtype(leaf)), init)
    flat, unravel = ravel_pytree(floats)
    bad = np.flatnonzero(~np.isfinite(np.asarray(flat)))
    if bad.size:
        raise ValueError(
            f"init is not finite in coordinates {bad.tolist()} ({flat.dtype}): {init!r:.80}; pass "
            "finite numbers"
        )
    if isinstance(function, AbstractLogDensity):
        return function, flat
    names = [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(init)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"two variables of init are both called {twice[0]!r}; give one of them another name"
        )
    if taken := sorted(set(names) & _RESERVED_NAMES):
        raise ValueError(
            f"a variable of init is called {taken[0]!r}, as an axis of ArviZ's is; give it another "
            "name"
        )
    if not isinstance(function, eqx.Module | jax.tree_util.Partial):
        function = Fresh(function)
    return Raveled(function, unravel), flat


def _float_dtype(leaf: Any) -> jnp.dtype:
    """The dtype of a leaf, or JAX's default float for integers."""
    dtype = jnp.result_type(leaf)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jax.dtypes.canonicalize_dtype(float)


def named_arrays(logdensity: AbstractLogDensity, position: np.ndarray) -> dict[str, np.ndarray]:
    """Draws as one array per variable.

    Args:
        logdensity: result of `as_logdensity`.
        position: flat draws, shape ``(chains, draws, dim)``.

    Returns:
        Arrays of shape ``(chains, draws, *shape)``. Names are paths in the pytree (``beta``,
        ``group.mu``); a bare vector is ``x``.
    """
    if not isinstance(logdensity, Raveled):
        return {"x": position}
    tree = jax.eval_shape(
        logdensity.unravel, jax.ShapeDtypeStruct(position.shape[-1:], position.dtype)
    )
    names, start, out = jax.tree_util.tree_leaves_with_path(tree), 0, {}
    for path, leaf in names:
        values = position[..., start : start + leaf.size]
        out[leaf_name(path)] = values.reshape(*position.shape[:-1], *leaf.shape)
        start += leaf.size
    return out
