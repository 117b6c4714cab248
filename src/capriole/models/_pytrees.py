"""Between users' pytrees and the flat vectors of the library."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..kernels import AbstractLogDensity, Prepared, Scalar, Vector

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


def as_logdensity(
    function: Any, init: Any, dtype: Any = None
) -> tuple[AbstractLogDensity, jax.Array]:
    """A user's log density in the library's layout, and ``init`` as a flat vector.

    Args:
        function: log density of one pytree, or an `AbstractLogDensity`.
        init: a pytree of numbers, which are read in the precision of the computation. A whole
            number alone is refused, because it looks like a number of dimensions.
        dtype: floating type of the flat vector; None: that of the computation.

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
    is_number = jax.tree_util.treedef_is_leaf(jax.tree.structure(init)) and not leaves[0].ndim
    if is_number and jnp.issubdtype(leaves[0].dtype, jnp.integer):
        raise ValueError(
            f"init is one position, not the number of dimensions, got {init!r}: pass e.g. "
            f"jnp.zeros(3) in three dimensions, or {float(leaves[0])} if the log density takes one "
            "number"
        )
    kinds = {str(leaf.dtype) for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)}
    if any(not jnp.issubdtype(jnp.dtype(kind), jnp.integer) for kind in kinds):
        raise ValueError(f"init must be real numbers, got dtypes {sorted(kinds)}")
    read = in_default_float if dtype is None else functools.partial(jnp.asarray, dtype=dtype)
    floats = jax.tree.map(read, init)
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
    if taken := sorted(set(names) & _RESERVED_NAMES):
        raise ValueError(
            f"a variable of init is called {taken[0]!r}, as an axis of ArviZ's is; give it another "
            "name"
        )
    if not isinstance(function, eqx.Module | jax.tree_util.Partial):
        function = Fresh(function)
    return Raveled(function, unravel), flat


def in_default_float(values: Any) -> jax.Array:
    """Numbers as an array of JAX's default float.

    Args:
        values: an array of any real dtype; float64 from outside a float32 computation, too.

    Returns:
        The array, float64 in a computation in float64, else float32.
    """
    return jnp.asarray(np.asarray(values, jax.dtypes.canonicalize_dtype(float)))


def flat_starts(logdensity: AbstractLogDensity, starts: Any) -> jax.Array:
    """Positions of many chains as flat vectors.

    Args:
        logdensity: the user's log density.
        starts: a pytree like ``init`` whose arrays have a leading axis of chains; for a log density
            of flat vectors an array (chains, dim).

    Returns:
        An array of shape (dim, chains).

    Raises:
        ValueError: the arrays are not numbers, or do not fit the log density or one another.
    """
    wanted = "starts must be positions like init, with a leading axis of chains in every array"
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(starts)]
    if not leaves or any(leaf.ndim < 1 or leaf.dtype.kind not in "iuf" for leaf in leaves):
        raise ValueError(f"{wanted}, got {starts!r:.80}")
    sizes = [len(leaf) for leaf in leaves]
    if len(set(sizes)) > 1:
        raise ValueError(f"{wanted}, got {sizes} chains in its arrays")
    flat = np.concatenate([leaf.reshape(sizes[0], -1) for leaf in leaves], axis=1).T
    position = in_default_float(flat)
    shapes = [leaf.shape[1:] for leaf in leaves], jax.tree.structure(starts)
    try:
        if not isinstance(logdensity, Raveled):
            jax.eval_shape(logdensity, position)
            fit = shapes[0] == [position.shape[:1]]
        else:
            one = jax.eval_shape(logdensity.unravel, position[:, 0])
            fit = shapes == ([leaf.shape for leaf in jax.tree.leaves(one)], jax.tree.structure(one))
    except Exception as error:  # a user's log density may raise anything at the wrong size
        raise ValueError(
            f"{wanted}; {sizes[0]} chains of {len(flat)} numbers do not fit: {error}"
        ) from error
    if not fit:
        raise ValueError(f"{wanted}; {sizes[0]} chains of shapes {shapes[0]} do not fit it")
    return position


def named_arrays(logdensity: AbstractLogDensity, position: np.ndarray) -> dict[str, np.ndarray]:
    """Draws as one array per variable.

    Args:
        logdensity: result of `as_logdensity`, `Prepared` or not.
        position: flat draws, shape ``(chains, draws, dim)``.

    Returns:
        Arrays of shape ``(chains, draws, *shape)``. Names are paths in the pytree (``beta``,
        ``group.mu``); a bare vector is ``x``.
    """
    if isinstance(logdensity, Prepared):
        logdensity = logdensity.logdensity
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


def dimension_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[str]]:
    """Names of the axes of variables, ``beta_dim_0``, none of which is a variable's own name.

    Args:
        shapes: the shape of one draw of every variable, by name.

    Returns:
        One name per axis, by variable. A name that is taken gets underscores: ``beta_dim_0_``.
    """
    taken = {*shapes, *_RESERVED_NAMES}

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    return {
        name: [free(f"{name}_dim_{i}") for i in range(len(shape))] for name, shape in shapes.items()
    }


def _name(path: tuple) -> str:
    """The name of a leaf, ``group.mu``; slashes become dots, because they make groups in ArviZ."""
    return (
        ".".join(jax.tree_util.keystr((key,), simple=True) for key in path).replace("/", ".") or "x"
    )
