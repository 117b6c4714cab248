"""What a posterior is: a target in unconstrained coordinates that knows its parameters."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array
from numpy.typing import ArrayLike

from capriole.kernels import Scalar, Vector

from ._base import AbstractTarget


class AbstractPosterior(AbstractTarget):
    """A posterior over all of R^dim, with the map to and from the parameters of its model.

    Its log density counts the Jacobian of `constrain`; priors and likelihood lose constants only.
    ``parameters`` are the names of the constrained parameters, elements of vectors counted from 1
    as in Stan: ``beta[1]``.
    """

    parameters: eqx.AbstractVar[tuple[str, ...]]

    @abstractmethod
    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """Parameters by name, each of shape ``(*chains)``."""

    @abstractmethod
    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """Position of shape ``(dim, *shape)`` for parameters of one shape each, such as (chains,
        draws).

        Raises ValueError if a parameter is missing.
        """


def indexed(name: str, num: int) -> tuple[str, ...]:
    """Names of the elements of a vector: ``name[1]`` to ``name[num]``."""
    return tuple(f"{name}[{i}]" for i in range(1, num + 1))


def gathered(parameters: Mapping[str, ArrayLike], names: tuple[str, ...], dtype: Any) -> Array:
    """The named parameters, stacked ahead of their shape. Raises ValueError for missing names."""
    missing = [name for name in names if name not in parameters]
    if missing:
        raise ValueError(f"parameters {missing} are missing; got {list(parameters)}")
    return jnp.stack([jnp.asarray(parameters[name], dtype) for name in names])


def named(names: tuple[str, ...], values: Array) -> dict[str, Scalar]:
    """Rows of ``values`` by name."""
    return dict(zip(names, values, strict=True))
