"""Between users' pytrees and the flat vectors of the library."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..kernels import AbstractLogDensity, Prepared, Scalar, Vector
from ._model import Model, ModelError, labels_of, leaf_name, leaf_names, named, tree_labels

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


class Attached:
    """A model beside its log density, as JAX compares it.

    Models that differ in their data alone share compiled programs, so they are equal here.

    Args:
        model: the model.
    """

    def __init__(self, model: Model):
        self.model = model

    def __eq__(self, other: object) -> bool:
        """Whether both are one program."""
        if not isinstance(other, Attached):
            return NotImplemented
        mine, theirs = self.model.rebuild, other.model.rebuild
        return self.model is other.model or (mine is not None and mine == theirs)

    def __hash__(self) -> int:
        """The same for equal ones."""
        return id(self.model) if self.model.rebuild is None else hash(self.model.rebuild)


class Raveled(AbstractLogDensity):
    """A user's log density of one pytree, as a log density of flat vectors.

    Attributes:
        function: log density of one pytree.
        unravel: flat vector to pytree.
        attached: the model that the log density is of; None: a bare function.
    """

    function: Callable
    unravel: Callable = eqx.field(static=True)
    attached: Attached | None = eqx.field(static=True, default=None)

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at positions of shape ``(dim, *chains)``."""
        if position.ndim == 1:
            return self.function(self.unravel(position))
        return jax.vmap(lambda flat: self.function(self.unravel(flat)), in_axes=-1, out_axes=-1)(
            position
        )


def model_of(logdensity: Any) -> Model | None:
    """The model that a log density is of, with the data that the log density has.

    Args:
        logdensity: result of `as_logdensity`.

    Returns:
        The model; None of a bare function.
    """
    logdensity = _bare(logdensity)
    if not isinstance(logdensity, Raveled) or logdensity.attached is None:
        return None
    model = logdensity.attached.model
    # A compiled program may hand over the model that it was compiled for, of other data.
    arguments = getattr(logdensity.function, "arguments", None)
    if (
        model.rebuild is None
        or arguments is None
        or _are_same(arguments, getattr(model.logdensity, "arguments", None))
    ):
        return model
    args, kwargs = arguments
    return model.with_data(*args, **kwargs)


def _bare(logdensity: Any) -> Any:
    """A log density without its memory."""
    return logdensity.logdensity if isinstance(logdensity, Prepared) else logdensity


def _are_same(arguments: Any, others: Any) -> bool:
    pairs = zip(jax.tree.leaves(arguments), jax.tree.leaves(others), strict=True)
    return all(one is other for one, other in pairs)


_MAKERS = {"pymc": "from_pymc", "bridgestan": "from_stan"}
"""Who makes a `Model` of another library's, by the library's name; none is imported for it."""


def as_model(logdensity: Any) -> Any:
    """A model where another library's was handed over; anything else as it is.

    Args:
        logdensity: what a user handed over for a log density.

    Returns:
        A `Model` of a model of PyMC or BridgeStan.
    """
    libraries = {base.__module__.split(".")[0] for base in type(logdensity).__mro__}
    for library in libraries & set(_MAKERS):
        makers = importlib.import_module(".makers", __package__)
        return getattr(makers, _MAKERS[library])(logdensity)
    return logdensity


def model_precision(model: Any) -> contextlib.AbstractContextManager:
    """A context in which JAX computes with the precision that a model needs, in this thread.

    Args:
        model: a model; anything else needs nothing.

    Returns:
        float64 for a model that needs it; else nothing changes.
    """
    needs = isinstance(model, Model) and model.double
    return jax.enable_x64(True) if needs else contextlib.nullcontext()


def as_logdensity(
    function: Any, init: Any = None, dtype: Any = None
) -> tuple[AbstractLogDensity, jax.Array]:
    """A user's log density in the library's layout, and ``init`` as a flat vector.

    Args:
        function: log density of one pytree, a `Model`, or an `AbstractLogDensity`.
        init: a pytree of numbers, which are read in the precision of the computation. A whole
            number alone is refused, because it looks like a number of dimensions. None: that of
            the model.
        dtype: floating type of the flat vector; None: that of the computation.

    Returns:
        The log density, and the flat vector of shape ``(dim,)``.

    Raises:
        ValueError: if ``function`` is not callable, or ``init`` is empty, not real, not finite, or
            has unusable names.
    """
    model = function if isinstance(function, Model) else None
    if model is not None:
        function, init = model.logdensity, model.init if init is None else init
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
        where = named(tree_labels(floats), bad)
        raise ValueError(
            f"init is not finite in {where} ({flat.dtype}): {init!r:.80}; pass finite numbers"
        )
    if isinstance(function, AbstractLogDensity) and model is None:
        return function, flat
    names = leaf_names(init)
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
    if model is None:
        return Raveled(function, unravel), flat
    _check_model(model, floats)
    return Raveled(function, unravel, Attached(model)), flat


def same_structure(tree: Any, other: Any) -> bool:
    """Whether two pytrees have the same containers and names."""
    structure: Any = jax.tree.structure(tree)
    return structure == jax.tree.structure(other)


def _check_model(model: Model, init: Any) -> None:
    """Refuse a model whose values cannot be stored under their names, before time is spent."""
    if not same_structure(init, model.init):
        raise ModelError(
            f"init must have the names of the model's unconstrained variables, as model.init has: "
            f"{sorted(leaf_names(model.init))}, got {sorted(leaf_names(init))}"
        )
    if model.constrain is None:
        return
    values = jax.eval_shape(model.constrain, init)
    if taken := sorted(set(values) & _RESERVED_NAMES):
        raise ModelError(
            f"a variable of the model is called {taken[0]!r}, as an axis of ArviZ's is; give it "
            "another name"
        )
    for name, value in values.items():
        axes = model.dims.get(name, ())
        if axes and len(axes) != len(value.shape):
            raise ModelError(
                f"dims[{name!r}] names {len(axes)} axes, {list(axes)}, but {name!r} has shape "
                f"{value.shape}"
            )
        for axis, size in zip(axes, value.shape, strict=False):
            labels = model.coords.get(axis)
            if labels is not None and len(labels) != size:
                raise ModelError(
                    f"coords[{axis!r}] has {len(labels)} labels, but that axis of {name!r} has "
                    f"{size} entries"
                )


def labels(logdensity: Any, dim: int) -> tuple[str, ...]:
    """A user's name for every coordinate: ``theta[Choate]``, ``beta[2]``, or ``x[2]``.

    Args:
        logdensity: result of `as_logdensity`; of anything else the names are ``x[2]``.
        dim: number of coordinates.

    Returns:
        The names, in the order of the flat vector.
    """
    logdensity = _bare(logdensity)
    if not isinstance(logdensity, Raveled):
        return tuple(labels_of("x", (dim,), {}, {}))
    tree = jax.eval_shape(logdensity.unravel, jax.ShapeDtypeStruct((dim,), jnp.float32))
    model = None if logdensity.attached is None else logdensity.attached.model
    return tree_labels(tree) if model is None else tree_labels(tree, model.dims, model.coords)


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
        out[leaf_name(path)] = values.reshape(*position.shape[:-1], *leaf.shape)
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
