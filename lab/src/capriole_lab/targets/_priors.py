"""Prior densities up to constants; of a scale they are the half densities."""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractPrior(eqx.Module):
    """The log density of one number, up to a constant."""

    @abstractmethod
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]: ...


class Flat(AbstractPrior):
    """The improper uniform density."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Zero."""
        return jnp.zeros_like(x)


class Normal(AbstractPrior):
    """``-((x - loc) / scale)^2 / 2``."""

    loc: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Log density."""
        return -(((x - self.loc) / self.scale) ** 2) / 2


class StudentT(AbstractPrior):
    """``-(df + 1) / 2 log(1 + ((x - loc) / scale)^2 / df)``; Cauchy for df = 1."""

    df: float = eqx.field(static=True)
    loc: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Log density."""
        return -(self.df + 1) / 2 * jnp.log1p(((x - self.loc) / self.scale) ** 2 / self.df)
