"""Kernels whose chains are divided over several devices."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Int

from ..runtime import Devices, copied, divided, divided_map
from ._dynamics import AbstractDynamics
from ._logdensity import AbstractLogDensity
from ._transition import AbstractTransition, Transition
from ._types import Flag, Phase, Scalar, Vector


class Divided(AbstractDynamics):
    """A dynamics whose chains are divided over devices.

    When training differentiates it, each device sums the gradient of the parameters over its own
    chains, and the devices add their sums once. Without this class the compiler adds them in every
    leapfrog step, which costs more than the arithmetic of a small kernel.

    Attributes:
        dynamics: the dynamics that each device applies.
        devices: the devices; they divide the number of chains evenly.
    """

    dynamics: AbstractDynamics
    devices: tuple[jax.Device, ...] = eqx.field(static=True)

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase``, and the log-determinant of shape ``(*chains)``."""
        arrays, static = eqx.partition((self.dynamics, logdensity), eqx.is_array)

        def apply(arrays: Any, chains: tuple[Phase, Flag, Vector | None]) -> tuple[Phase, Scalar]:
            dynamics, logdensity = eqx.combine(arrays, static)
            return dynamics(logdensity, *chains)

        mapped = divided_map(apply, self.devices, like=(phase, phase.logdensity))
        return mapped(arrays, (phase, forward, context))

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """Gradients that the inner dynamics evaluates."""
        return self.dynamics.num_gradients


def on_devices[T: AbstractTransition](transition: T, devices: Devices) -> T:
    """Place a kernel for chains that are divided over devices.

    Args:
        transition: the kernel.
        devices: the devices; they divide the number of chains evenly.

    Returns:
        The kernel with contexts divided like the chains, and everything else copied to each device.
    """

    def place(part: AbstractTransition | Array) -> AbstractTransition | Array:
        if not isinstance(part, Transition) or part.context is None:
            return copied(part, devices)
        bare = eqx.tree_at(lambda t: t.context, part, None)
        context = divided(part.context, devices)
        return eqx.tree_at(
            lambda t: t.context, copied(bare, devices), context, is_leaf=lambda leaf: leaf is None
        )

    return jax.tree.map(place, transition, is_leaf=lambda part: isinstance(part, Transition))
