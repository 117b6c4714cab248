"""The edge between users' pytrees and the core's flat vectors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..kernels import AbstractLogDensity, Scalar, Vector

_TAKEN = {"chain", "draw"}


class Fresh:
    """A user's function as an object of its own, so that nothing compiled for it before is used
    again.

    JAX finds compiled programs by the function, and has built into them what the function closes
    over: for new data in the same function, which a notebook or a loop has, they would be those of
    the old. Modules of Equinox, and ``jax.tree_util.Partial``, carry their arrays where JAX sees
    them.
    """

    def __init__(self, function: Callable):
        self.function = self.__wrapped__ = function  # the latter for whoever asks for its signature

    def __call__(self, position: Any) -> Any:
        return self.function(position)

    def __repr__(self) -> str:
        return repr(self.function)


class Raveled(AbstractLogDensity):
    """A user's log density of one pytree, as a function of flat vectors, vmapped over the last
    axis.
    """

    function: Callable
    unravel: Callable = eqx.field(static=True)

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` for positions of shape ``(dim, *chains)``."""
        if position.ndim == 1:
            return self.function(self.unravel(position))
        return jax.vmap(lambda flat: self.function(self.unravel(flat)), in_axes=-1, out_axes=-1)(
            position
        )


def as_logdensity(function: Any, init: Any) -> tuple[AbstractLogDensity, jax.Array]:
    """The log density on flat vectors, and ``init`` as one; of a plain function, a `Fresh` one.

    Raises ValueError for a ``function`` that is none and an ``init`` that is empty or holds values
    that are not real, floating (integers are read as floats) and finite.
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
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(init)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"two variables of init are both called {twice[0]!r}; give one of them another name"
        )
    if taken := sorted(set(names) & _TAKEN):
        raise ValueError(
            f"a variable of init is called {taken[0]!r}, as an axis of ArviZ's is; give it another "
            "name"
        )
    if not isinstance(function, eqx.Module | jax.tree_util.Partial):
        function = Fresh(function)
    return Raveled(function, unravel), flat


def _float_dtype(leaf: Any) -> jnp.dtype:
    dtype = jnp.result_type(leaf)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jax.dtypes.canonicalize_dtype(float)


def named_arrays(logdensity: AbstractLogDensity, position: np.ndarray) -> dict[str, np.ndarray]:
    """Draws (chains, draws, dim) as one array per variable: (chains, draws, *shape).

    Variables are the leaves of the user's pytree, named by their path (``beta``, ``group.mu``); a
    bare vector is ``x``.
    """
    if not isinstance(logdensity, Raveled):
        return {"x": position}
    tree = jax.eval_shape(
        logdensity.unravel, jax.ShapeDtypeStruct(position.shape[-1:], position.dtype)
    )
    names, start, out = jax.tree_util.tree_leaves_with_path(tree), 0, {}
    for path, leaf in names:
        values = position[..., start : start + leaf.size]
        out[_name(path)] = values.reshape(*position.shape[:-1], *leaf.shape)
        start += leaf.size
    return out


def _name(path: tuple) -> str:
    """``group.mu``; a slash, as NumPyro's scopes have, would be a group of the DataTree, and is a
    dot as well.
    """
    return (
        ".".join(jax.tree_util.keystr((key,), simple=True) for key in path).replace("/", ".") or "x"
    )
