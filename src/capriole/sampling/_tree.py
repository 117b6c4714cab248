"""Draws as an ArviZ DataTree."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..coordinates import draws_and_lp_to_user, users
from ..diagnostics import health
from ..kernels import AbstractLogDensity
from ..models import model_of, model_precision, named_arrays, versions
from ..runtime import Arrays, precision_context
from ._draw import Draws, tally_arguments
from ._groups import UNCONSTRAINED, constrained_draws, dataset, with_names

if TYPE_CHECKING:
    import xarray


def to_datatree(
    draws: Draws, logdensity: AbstractLogDensity, **attributes: Any
) -> "xarray.DataTree":
    """Draws as an ArviZ DataTree, in the user's coordinates.

    Args:
        draws: the draws.
        logdensity: the log density that they were drawn from.
        **attributes: further attributes of both groups.

    Returns:
        A tree with ``posterior`` and ``sample_stats``. Its attributes record versions and costs,
        and ``warnings``: what looks unhealthy, one problem per line.
    """
    record = draws.record
    with precision_context(record.position.dtype):
        position, lp = draws_and_lp_to_user(logdensity, record.position, record.lp)
    stats = {name: value for name, value in record._asdict().items() if name != "position"} | {
        "lp": lp
    }
    for name in ("accepted", "diverging"):
        if stats[name].max(initial=0) <= 1:
            stats[name] = stats[name].astype(bool)
    attributes |= {
        "num_gradients": draws.num_gradients,
        "sampling_time": draws.seconds,
        "compile_seconds": draws.compile_seconds,
        "completed": int(draws.completed),
        "warnings": "\n".join(
            map(str, health(*tally_arguments(record), thin=draws.thin, logdensity=record.lp))
        ),
    }
    return to_tree(users(logdensity), position, stats, attributes)


def to_tree(
    logdensity: AbstractLogDensity,
    position: np.ndarray,
    stats: dict[str, np.ndarray],
    attributes: dict[str, Any],
) -> "xarray.DataTree":
    """Positions and statistics as an ArviZ DataTree.

    Args:
        logdensity: the user's log density, which knows the variables' names and shapes.
        position: positions of that log density, shape (chains, draws, dim).
        stats: statistics of shape (chains, draws), by name; empty: no ``sample_stats``.
        attributes: attributes of all groups.

    Returns:
        A tree with one variable per leaf of the user's pytree. Of a model ``posterior`` has its own
        variables, and ``unconstrained_posterior`` the leaves. Real numbers are float64: NumPy adds
        float32 numbers along outer axes in float32, and a mean over draws would be wrong.
    """
    import xarray

    attrs = {f"{name}_version": version for name, version in versions().items()} | attributes
    attrs["inference_library"] = "capriole"
    model = model_of(logdensity)
    if model is not None:
        attrs["modeling_interface"] = model.library
    groups = user_groups(logdensity, position) | ({"sample_stats": stats} if stats else {})
    tree = xarray.DataTree.from_dict(
        {
            name: dataset({n: _in_float64(values) for n, values in arrays.items()}).assign_attrs(
                attrs
            )
            for name, arrays in groups.items()
        }
    )
    return tree if model is None else with_names(tree, model)


def _in_float64(values: np.ndarray) -> np.ndarray:
    """Real numbers in float64; flags and counts as they are."""
    return values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values


def user_groups(logdensity: AbstractLogDensity, position: np.ndarray) -> dict[str, Arrays]:
    """Draws by the user's variables.

    Args:
        logdensity: the user's log density.
        position: positions of that log density, shape (chains, draws, dim).

    Returns:
        ``posterior``; of a model with variables of its own also ``unconstrained_posterior``. Both
        hold arrays (chains, draws, ...) by name.
    """
    named, model = named_arrays(logdensity, position), model_of(logdensity)
    if model is None:
        return {"posterior": named}
    tree = jax.tree.unflatten(jax.tree.structure(model.init), list(named.values()))
    with model_precision(model):
        return {"posterior": constrained_draws(model, tree), UNCONSTRAINED: named}
