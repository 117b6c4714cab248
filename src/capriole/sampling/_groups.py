"""Groups of a tree of draws that a model knows how to make: its variables, its data, new data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import Key
from ..models import Model, ModelError, dimension_names, leaf_names, model_precision
from ..runtime import Arrays
from ._initial import as_key

if TYPE_CHECKING:
    import xarray

UNCONSTRAINED = "unconstrained_posterior"
"""The group of positions, by the name that ArviZ looks for."""
GROUPS = ("log_likelihood", "posterior_predictive")
"""Groups that cost time, and are made on request."""
_PREDICTIVE = 0x70726564
"""Folded into the seed, so that predictions share no random number with the draws."""
_BLOCK_NUMBERS = 4e6
"""Numbers that one block of draws makes, 32 MB in float64."""
_BATCH = 64
"""Draws that are computed side by side: what lies between may be larger than the result."""


def complete(
    tree: "xarray.DataTree",
    model: Model,
    *,
    groups: Sequence[str] = GROUPS,
    seed: int | Key = 0,
) -> "xarray.DataTree":
    """A tree of draws with further groups.

    Args:
        tree: draws of capriole, by `capriole.fit`, `capriole.sample` or from a run folder.
        model: the model that they are of.
        groups: "log_likelihood" of each observation, "posterior_predictive" draws of the data.
        seed: a whole number or a random key, of the predictive draws.

    Returns:
        A tree with the groups of ``tree`` and these.

    Raises:
        ModelError: the model does not know such a group, or the draws are not its own.
    """
    import xarray

    check_groups(model, groups)
    with model_precision(model):
        position = _positions(tree, model)
        key = jax.random.fold_in(as_key(seed), _PREDICTIVE)
        made = {group: _made(model, group, position, key) for group in groups}
    out = {name: child.to_dataset() for name, child in tree.children.items()}
    attrs = dict(tree["posterior"].attrs)
    for group, arrays in made.items():
        out[group] = dataset(arrays).assign_attrs(attrs)
    return with_names(xarray.DataTree.from_dict(out), model)


def check_groups(model: Model | None, groups: Iterable[str]) -> None:
    """Refuse groups that cannot be made, before time is spent.

    Args:
        model: the model; None: a bare log density.
        groups: what was asked for.

    Raises:
        ModelError: a group that is not known, that the model does not have, or that fails.
    """
    if isinstance(groups, str):
        raise ModelError(f"groups must be a list of names, got {groups!r}: write ({groups!r},)")
    for group in groups:
        if group not in GROUPS:
            raise ModelError(f"groups may be {' and '.join(GROUPS)}, got {group!r:.80}")
        if model is None or getattr(model, group) is None:
            what = "a bare log density" if model is None else f"this model of {model.library}"
            raise ModelError(
                f"{what} has no {group}: leave it out of groups, or give the model the function"
            )
        try:
            with model_precision(model):
                _shapes(model, group)
        except Exception as error:  # a user's function may raise anything, better now than later
            raise ModelError(
                f"the model's {group} failed at its init: {type(error).__name__}: {error}"
            ) from error


def _shapes(model: Model, group: str) -> Any:
    """Shapes of a group at one position, without computing it."""
    function, init = getattr(model, group), jax.tree.map(jnp.asarray, model.init)
    arguments = (jax.random.key(0), init) if group == "posterior_predictive" else (init,)
    return eqx.filter_eval_shape(function, *arguments)


def _positions(tree: "xarray.DataTree", model: Model) -> Any:
    """The unconstrained positions of a tree, a pytree like the model's ``init``."""
    names = leaf_names(model.init)
    found = tree.children.get(UNCONSTRAINED)
    if found is None or any(name not in found for name in names):
        raise ModelError(
            f"the draws have no group {UNCONSTRAINED} with {names}; are they draws of this model?"
        )
    leaves = [np.asarray(found[name].values) for name in names]
    for name, values, leaf in zip(names, leaves, jax.tree.leaves(model.init), strict=True):
        if values.shape[2:] != np.shape(leaf):
            raise ModelError(
                f"{name!r} has shape {values.shape[2:]} in the draws, but {np.shape(leaf)} in the "
                "model; are they draws of other data?"
            )
    return jax.tree.unflatten(jax.tree.structure(model.init), leaves)


def _made(model: Model, group: str, position: Any, key: Key) -> Arrays:
    if group == "posterior_predictive":
        assert model.posterior_predictive is not None
        count = jax.tree.leaves(position)[0].shape[:2]
        index = np.arange(count[0] * count[1]).reshape(count)
        return over_draws(_Predictive(model.posterior_predictive, key), (index, position))
    assert model.log_likelihood is not None
    return over_draws(model.log_likelihood, position)


class _Predictive(eqx.Module):
    """New data at a numbered position, each with a key of its own."""

    function: Callable
    key: Key

    def __call__(self, numbered: tuple[Any, Any]) -> Any:
        """New data."""
        index, position = numbered
        return self.function(jax.random.fold_in(self.key, index), position)


def constrained_draws(model: Model, position: Any) -> Arrays:
    """The user's variables of many draws.

    Args:
        model: the model.
        position: unconstrained positions like its ``init``, leaves (chains, draws, ...).

    Returns:
        Arrays (chains, draws, ...) by name.
    """
    if model.constrain is None:
        return dict(zip(leaf_names(model.init), jax.tree.leaves(position), strict=True))
    return over_draws(model.constrain, position)


def over_draws(function: Callable[[Any], Mapping[str, Any]], position: Any) -> Arrays:
    """A function of one position at many, in blocks that fit into memory.

    Args:
        function: from one position to arrays by name.
        position: positions, leaves (chains, draws, ...).

    Returns:
        Arrays (chains, draws, ...) by name.
    """
    leaves, structure = jax.tree.flatten(position)
    chains, draws = leaves[0].shape[:2]
    total = chains * draws
    flat = [np.asarray(leaf).reshape(total, *leaf.shape[2:]) for leaf in leaves]
    one = jax.tree.unflatten(
        structure,
        [jax.ShapeDtypeStruct(leaf.shape[1:], jnp.asarray(leaf[:1]).dtype) for leaf in flat],
    )
    shapes = eqx.filter_eval_shape(function, one)
    size = max(1, sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)))
    block = max(1, min(-(-total // _BATCH), int(_BLOCK_NUMBERS / size / _BATCH))) * _BATCH
    out = {n: np.empty((total, *leaf.shape), leaf.dtype) for n, leaf in shapes.items()}
    for first in range(0, total, block):
        last = min(first + block, total)
        # The last block is filled up, so that one program serves all.
        rows = np.minimum(np.arange(first, first + block), last - 1)
        part = jax.tree.unflatten(structure, [jnp.asarray(leaf[rows]) for leaf in flat])
        for name, values in _mapped(function, part).items():
            out[name][first:last] = np.asarray(values)[: last - first]
    return {name: values.reshape(chains, draws, *values.shape[1:]) for name, values in out.items()}


@eqx.filter_jit
def _mapped(function: Callable, positions: Any) -> dict[str, Any]:
    return dict(jax.lax.map(function, positions, batch_size=_BATCH))


def dataset(arrays: Mapping[str, np.ndarray]) -> "xarray.Dataset":
    """Draws (chains, draws, ...) by name as a dataset, with ArviZ's names of axes."""
    import arviz_base as az

    dims = dimension_names({name: values.shape[2:] for name, values in arrays.items()})
    # Its conventions are those of long chains: it warns where there are more chains than draws.
    tree = az.from_dict({"posterior": dict(arrays)}, dims=dims, check_conventions=False)
    return tree["posterior"].to_dataset()


def with_names(tree: "xarray.DataTree", model: Model) -> "xarray.DataTree":
    """A tree with the names of a model's axes, labels along them, and its data.

    Args:
        tree: draws, whose axes have ArviZ's names, ``theta_dim_0``.
        model: the model that they are of.

    Returns:
        A tree with dims and coords, and the groups ``observed_data`` and ``constant_data``. Names
        that do not fit an array are left out.
    """
    import xarray

    attrs = dict(tree["posterior"].attrs)
    sizes: dict[str, int] = {}
    groups = {}
    for group in sorted(tree.children, key=lambda name: name != "posterior"):
        groups[group] = _named(tree[group].to_dataset(), model, sizes)
    for group in ("observed_data", "constant_data"):
        data = getattr(model, group)
        if data and group not in groups:
            arrays = {name: _of_data(name, values) for name, values in data.items()}
            groups[group] = _named(xarray.Dataset(arrays, attrs=attrs), model, sizes)
    return xarray.DataTree.from_dict({name: groups[name] for name in groups})


def _of_data(name: str, values: np.ndarray) -> Any:
    values = np.asarray(values)
    return tuple(f"{name}_dim_{i}" for i in range(values.ndim)), values


def _named(data: "xarray.Dataset", model: Model, sizes: dict[str, int]) -> "xarray.Dataset":
    """A dataset with a model's names of axes, where they fit; ``sizes`` remembers their lengths."""
    import xarray

    arrays = {
        name: _with_axes(array, model.dims.get(str(name), ()), model.coords, sizes)
        for name, array in data.data_vars.items()
    }
    return xarray.Dataset(arrays, attrs=data.attrs)


def _with_axes(
    array: "xarray.DataArray",
    axes: Sequence[str],
    coords: Mapping[str, Sequence[Any]],
    sizes: dict[str, int],
) -> "xarray.DataArray":
    """An array with these names of its axes; itself, if they do not fit it."""
    old = [str(dim) for dim in array.dims if dim not in ("chain", "draw")]
    if not old or len(old) != len(axes) or len(set(axes)) != len(axes):
        return array
    labels = {}
    for before, axis in zip(old, axes, strict=True):
        length, given = array.sizes[before], coords.get(axis)
        labels[axis] = np.arange(length) if given is None else np.asarray(given)
        if len(labels[axis]) != length or sizes.get(axis, length) != length:
            return array
    sizes.update({axis: len(values) for axis, values in labels.items()})
    bare = array.drop_vars(old, errors="ignore").rename(dict(zip(old, axes, strict=True)))
    return bare.assign_coords(labels)
