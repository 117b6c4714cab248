"""From a kernel's coordinates to the user's and back, through any chain of maps."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Prepared, Scalar, Vector
from ._transport_map import Transported, TransportMap
from ._whitening import Whitened, Whitening, on_host


def to_user(logdensity: AbstractLogDensity, position: Any) -> Any:
    """Map positions to the user's coordinates.

    Args:
        logdensity: log density that the kernel samples, in the kernel's coordinates.
        position: in the kernel's coordinates, shape ``(dim, *chains)``; JAX or NumPy.

    Returns:
        Positions of the same shape, NumPy for NumPy.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # callers check for finite positions
        for step in maps(logdensity):
            position = (on_host(step) if isinstance(position, np.ndarray) else step).forward(
                position
            )
    return position


def from_user(logdensity: AbstractLogDensity, position: Any) -> Any:
    """Map positions to the kernel's coordinates.

    Args:
        logdensity: log density that the kernel samples, in the kernel's coordinates.
        position: in the user's coordinates, shape ``(dim, *chains)``; JAX or NumPy.

    Returns:
        Positions of the same shape, NumPy for NumPy.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        for step in reversed(maps(logdensity)):
            position = (on_host(step) if isinstance(position, np.ndarray) else step).inverse(
                position
            )
    return position


def draws_to_user(
    logdensity: AbstractLogDensity, position: Float[np.ndarray, "chains draws dim"]
) -> Float[np.ndarray, "chains draws dim"]:
    """Draws in the user's coordinates.

    Args:
        logdensity: log density that the kernel samples, in the kernel's coordinates.
        position: draws in the kernel's coordinates.

    Returns:
        Draws of the same shape. Each draw is mapped on its own, so its digits do not depend on how
        many are mapped together.
    """
    return draws_and_lp_to_user(logdensity, position, np.zeros(position.shape[:2], position.dtype))[
        0
    ]


def draws_and_lp_to_user(
    logdensity: AbstractLogDensity,
    position: Float[np.ndarray, "chains draws dim"],
    lp: Float[np.ndarray, "chains draws"],
) -> tuple[Float[np.ndarray, "chains draws dim"], Float[np.ndarray, "chains draws"]]:
    """Draws and their log densities in the user's coordinates::

        log p(x) = log p(z) - log |dx / dz|

    Only transport maps have this term: `Whitened` leaves out its constant log-determinant.

    Args:
        logdensity: log density that the kernel samples, in the kernel's coordinates.
        position: draws in the kernel's coordinates.
        lp: log densities of the draws in the kernel's coordinates.

    Returns:
        Draws and log densities, of the same shapes.
    """
    steps = maps(logdensity)
    if not steps:
        return position, lp
    moved, log_det = _forward_one_by_one(steps, jnp.asarray(position.transpose(1, 2, 0)))
    return np.ascontiguousarray(np.asarray(moved).transpose(2, 0, 1)), lp - np.asarray(log_det).T


@eqx.filter_jit
def _forward_one_by_one(
    steps: list[Whitening | TransportMap], draws: Float[Array, "draws dim chains"]
) -> tuple[Float[Array, "draws dim chains"], Float[Array, "draws chains"]]:
    """Map draws one at a time, and sum the log-determinants of the transport maps."""
    return jax.lax.map(lambda position: _forward(steps, position), draws)


def _forward(steps: list[Whitening | TransportMap], position: Vector) -> tuple[Vector, Scalar]:
    log_det = jnp.zeros(position.shape[1:], position.dtype)
    for step in steps:
        if isinstance(step, TransportMap):
            log_det = log_det + step.log_det(position)
        position = step.forward(position)
    return position, log_det


def state_to_user(
    logdensity: AbstractLogDensity, position: Vector, lp: Scalar
) -> tuple[Vector, Scalar]:
    """Positions and their log densities in the user's coordinates, as JAX can trace it.

    Args:
        logdensity: log density that the kernel samples, in the kernel's coordinates.
        position: in the kernel's coordinates, shape ``(dim, *chains)``.
        lp: log densities there, in the kernel's coordinates, shape ``(*chains)``.

    Returns:
        Positions and log densities, of the same shapes.
    """
    position, log_det = _forward(maps(logdensity), position)
    return position, lp - log_det


def maps(logdensity: AbstractLogDensity) -> list[Whitening | TransportMap]:
    """The maps between a log density's coordinates and the user's.

    Args:
        logdensity: any log density.

    Returns:
        The maps to the user's coordinates, in the order of application.
    """
    found: list[Whitening | TransportMap] = []
    while isinstance(logdensity, Whitened | Transported):
        found.append(
            logdensity.whitening if isinstance(logdensity, Whitened) else logdensity.transport
        )
        logdensity = logdensity.logdensity
    return found


def without_maps(logdensity: AbstractLogDensity) -> AbstractLogDensity:
    """The log density without its changes of coordinates, `Prepared` if it was.

    Args:
        logdensity: any log density.

    Returns:
        The log density in the user's own coordinates.
    """
    while isinstance(logdensity, Whitened | Transported):
        logdensity = logdensity.logdensity
    return logdensity


def users(logdensity: AbstractLogDensity) -> AbstractLogDensity:
    """The log density that the user gave: without changes of coordinates, and not `Prepared`.

    Args:
        logdensity: any log density.

    Returns:
        The log density in the user's own coordinates.
    """
    logdensity = without_maps(logdensity)
    return logdensity.logdensity if isinstance(logdensity, Prepared) else logdensity


def in_coordinates_of(
    coordinates: AbstractLogDensity, logdensity: AbstractLogDensity
) -> AbstractLogDensity:
    """Another log density in the coordinates of the first.

    Args:
        coordinates: log density whose maps are applied.
        logdensity: log density in the user's coordinates.

    Returns:
        The second log density, under the maps of the first.
    """
    for step in reversed(maps(coordinates)):
        logdensity = (
            Whitened(logdensity, step)
            if isinstance(step, Whitening)
            else Transported(logdensity, step)
        )
    return logdensity
