"""Draws as an ArviZ DataTree."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..coordinates import drawn_to_user, users
from ..diagnostics import health
from ..kernels import AbstractLogDensity
from ..models import named_arrays, versions
from ._draw import Draws, health_arrays

if TYPE_CHECKING:
    import xarray


def to_datatree(
    draws: Draws, logdensity: AbstractLogDensity, **attributes: Any
) -> "xarray.DataTree":
    """Draws as an ArviZ DataTree, positions and log densities in the user's coordinates; imports
    ArviZ on first use.
    """
    record = draws.record
    position, lp = drawn_to_user(logdensity, record.position, record.lp)
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
            map(str, health(*health_arrays(record), thin=draws.thin, logdensity=record.lp))
        ),
    }
    return to_tree(users(logdensity), position, stats, attributes)


def to_tree(
    logdensity: AbstractLogDensity,
    position: np.ndarray,
    stats: dict[str, np.ndarray],
    attributes: dict[str, Any],
) -> "xarray.DataTree":
    """Positions (chains, draws, dim) of the user's ``logdensity`` and their statistics as an ArviZ
    DataTree.
    """
    import arviz_base as az

    attrs = {f"{name}_version": version for name, version in versions().items()} | attributes
    attrs["inference_library"] = "capriole"
    groups = {"posterior": named_arrays(logdensity, position)} | (
        {"sample_stats": stats} if stats else {}
    )
    tree = az.from_dict(groups)
    for group in groups:
        tree[group].attrs.update(attrs)
    return tree
