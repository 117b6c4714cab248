"""`Model`: a log density that knows the user's variables."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..kernels import Key, Scalar

type PyTree = Any
type Arrays = dict[str, Any]


class ModelError(ValueError):
    """A model that cannot be sampled as it is; the message names the site and the remedy."""


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A log density of unconstrained positions, with the way back to the user's variables.

    Whatever takes a log density takes a model, and then needs no ``init``. Functions are of one
    position and can be traced by JAX; `capriole` maps them over draws.

    Attributes:
        logdensity: log density of one unconstrained position, log Jacobians included.
        init: one unconstrained position, a dict of arrays.
        constrain: the user's variables at one unconstrained position, deterministic ones included,
            by name. None: the position itself.
        dims: names of the axes of a variable, by its name.
        coords: labels along an axis, by its name.
        observed_data: data that the model is conditioned on, by name.
        constant_data: data that the model only reads, by name.
        log_likelihood: log likelihood of each observation at one unconstrained position, by name.
        posterior_predictive: new data drawn with a key at one unconstrained position, by name.
        double: whether the model needs float64. Then everything runs inside
            ``jax.enable_x64(True)``.
        notes: what a user should know of how the model was read.
        library: what the model was written in, with its version.
        starts: initial values of several chains: from a key and a number of chains, positions with
            a leading axis of chains. None: starts are spread around ``init``.
        rebuild: the same model of other data, called by `with_data`. None: there is none.
    """

    logdensity: Callable[[PyTree], Scalar]
    init: PyTree
    constrain: Callable[[PyTree], Arrays] | None = None
    dims: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    coords: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    observed_data: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    constant_data: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    log_likelihood: Callable[[PyTree], Arrays] | None = None
    posterior_predictive: Callable[[Key, PyTree], Arrays] | None = None
    double: bool = False
    notes: tuple[str, ...] = ()
    library: str = "capriole"
    starts: Callable[[Key, int], PyTree] | None = None
    rebuild: Callable[..., "Model"] | None = None

    def __post_init__(self) -> None:
        """Check what a maker or a user handed over."""
        if isinstance(self.logdensity, Model):
            raise ModelError("logdensity is a model already: hand that over as it is")
        if not callable(self.logdensity):
            raise ModelError(f"logdensity must be a function, got {self.logdensity!r:.80}")

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for every coordinate of the flat position: ``theta[3]`` or ``theta[Choate]``."""
        return tree_labels(self.init, self.dims, self.coords)

    def with_data(self, *args: Any, **kwargs: Any) -> "Model":
        """The same model of other data; of data of the same shapes nothing is compiled anew.

        Args:
            *args: the model's arguments, as its maker took them.
            **kwargs: its keyword arguments, likewise.

        Returns:
            A new model.

        Raises:
            ModelError: the model was not made for other data.
        """
        if self.rebuild is None:
            raise ModelError(
                "this model holds its data in its compiled program; make it by "
                "from_numpyro(..., jit_model_args=True), or make another one of the new data"
            )
        return self.rebuild(*args, **kwargs)


def leaf_name(path: tuple) -> str:
    """The name of a leaf, ``group.mu``; slashes become dots, because they make groups in ArviZ."""
    return (
        ".".join(jax.tree_util.keystr((key,), simple=True) for key in path).replace("/", ".") or "x"
    )


def labels_of(
    name: str,
    shape: tuple[int, ...],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Sequence[Any]],
) -> list[str]:
    """Names of a variable's entries, by their coordinates where these fit its shape.

    Args:
        name: the variable's name.
        shape: its shape; ``()``: the name alone.
        dims: names of axes, by variable.
        coords: labels along axes, by axis.

    Returns:
        Names in the order of the flattened array.
    """
    if not shape:
        return [name]
    axes = list(dims.get(name, ()))
    fits = len(axes) == len(shape)
    ticks: list[Sequence[Any]] = []
    for i, size in enumerate(shape):
        labels = coords.get(axes[i]) if fits else None
        ticks.append(range(size) if labels is None or len(labels) != size else list(labels))
    return [
        f"{name}[{','.join(str(ticks[i][j]) for i, j in enumerate(index))}]"
        for index in np.ndindex(*shape)
    ]


def leaf_names(tree: Any) -> list[str]:
    """Names of a pytree's leaves, as trees of draws have them.

    Args:
        tree: a pytree.

    Returns:
        Paths such as ``group.mu``, in the order of the leaves.
    """
    return [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def tree_labels(
    tree: Any,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[str, ...]:
    """Names of all entries of a pytree's leaves, in the order of the flat vector.

    Args:
        tree: a pytree of arrays, or of their shapes.
        dims: names of axes, by variable.
        coords: labels along axes, by axis.

    Returns:
        ``theta[Choate]``, ``beta[2]``.
    """
    return tuple(
        label
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        for label in labels_of(leaf_name(path), np.shape(leaf), dims or {}, coords or {})
    )


def named(names: Sequence[str], which: Sequence[int] | np.ndarray, most: int = 5) -> str:
    """Some coordinates by their names, for a message.

    Args:
        names: a name for every coordinate.
        which: indices of those to name.
        most: how many are named at most.

    Returns:
        ``theta[0], theta[3] and 4 more``.
    """
    text = ", ".join(names[i] for i in which[:most])
    return text if len(which) <= most else f"{text} and {len(which) - most} more"
