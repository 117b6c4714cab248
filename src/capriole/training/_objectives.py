"""What training minimises: functions of a start, its proposal and the acceptance probability, one
signature.
"""

import math
from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import Scalar, Vector, column


class AbstractObjective(eqx.Module):
    """``objective(start, proposal, acceptance) -> scalar``, lower is better.

    ``start`` and ``proposal`` have shape ``(dim, chains)``; ``acceptance`` is the probability of
    acceptance (not its outcome), shape ``(chains,)``.
    """

    @abstractmethod
    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals."""


class PaperLoss(AbstractObjective):
    """Expected squared jump with its reciprocal (Levy et al. 2018, equations 7 and 8)::

        d = |x - x'|^2 A + 1e-4;    loss = mean( lambda^2 / d - d / lambda^2 )

    ``scale`` is lambda, the length scale of the target. The constant is the released code's; it
    keeps the first term finite. Prefers the longest jump, so an antithetic kernel may result: means
    mix, squares do not.
    """

    scale: float = 1.0

    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals."""
        jump = acceptance * jnp.sum((proposal - start) ** 2, axis=0) + 1e-4
        return jnp.mean(self.scale**2 / jump - jump / self.scale**2)


class LogESJD(AbstractObjective):
    """Every coordinate of x, and of x^2, must move; proposals must be accepted; no chain may stay
    behind::

        D_i  = mean_chains A (x_i - x'_i)^2 / var_i            (D2_i likewise for (x_i - mean_i)^2 / sqrt(2))
        loss = - sum_i f(D_i) - squares sum_i f(D2_i)
               - acceptance mean_chains log(A + 0.01) + reciprocal mean_chains 1 / (J + 0.01)

    with J = A mean_i (x_i - x'_i)^2 / var_i and f(D) = log(D + 1e-6) - fold max(0, log(D /
    ceiling)): with fold above 1 the reward falls again where D exceeds the ceiling. D_i is 2 (1 -
    lag-one autocorrelation), so a ceiling of 2 asks for independent draws and anything above for
    antithetic ones, which means like and squares do not.

    Bounded gradients, free of scale, aligned with the worst coordinate's effective sample size. The
    acceptance term (the ``log a`` of Hirt et al. 2021) keeps training from settling in kernels that
    jump far and are rejected half of the time; the reciprocal term (Levy et al. 2018, equation 7)
    guards the worst state. ``feature`` is applied to x first, coordinate by coordinate
    (``jnp.arcsinh`` for heavy tails); mean and variance are then those of the feature. With
    ``sharpness`` beta > 0 the sums over f become n times a soft minimum, ``-log(mean exp(-beta f))
    / beta``: the worst coordinate, of x or of x^2, weighs most.
    """

    mean: Float[Array, " dim"]
    variance: Float[Array, " dim"]
    squares: float = 1.0
    reciprocal: float = 0.1
    acceptance: float = 0.0
    ceiling: float = 4.0
    fold: float = 2.0
    feature: Callable[[Vector], Vector] | None = eqx.field(static=True, default=None)
    sharpness: float = 0.0

    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals."""
        if self.feature is not None:
            start, proposal = self.feature(start), self.feature(proposal)
        centre, scale = column(self.mean, start), column(jnp.sqrt(self.variance), start)
        a, b = (start - centre) / scale, (proposal - centre) / scale
        jump = acceptance * (b - a) ** 2
        rewards = self._reward(jnp.mean(jump, axis=1))
        if self.squares:
            squared = self._reward(jnp.mean(acceptance * (b**2 - a**2) ** 2 / 2, axis=1))
            rewards = jnp.concatenate([rewards, self.squares * squared])
        loss = -jnp.sum(rewards)
        if self.sharpness:
            worst = jax.scipy.special.logsumexp(-self.sharpness * rewards) / self.sharpness
            loss = rewards.size * (worst - math.log(rewards.size) / self.sharpness)
        if self.acceptance:
            loss -= self.acceptance * jnp.mean(jnp.log(acceptance + 0.01))
        if self.reciprocal:
            loss += self.reciprocal * jnp.mean(1 / (jnp.mean(jump, axis=0) + 0.01))
        return loss

    def _reward(self, jump: Float[Array, " dim"]) -> Float[Array, " dim"]:
        value = jnp.log(jump + 1e-6)
        return value - self.fold * jnp.maximum(value - math.log(self.ceiling), 0)


class LogJump(AbstractObjective):
    """Log of each chain's whole expected jump, for targets with separated modes::

        loss = - mean_chains log( A (|x - x'|^2 + squares |x^2 - x'^2|^2 / 2) / scale^2 + floor )

    Every chain counts alike, so a narrow mode is not outvoted by a wide one. With ``squares`` = 1,
    for a target near N(0, I), a flip x' = -x is worth no more than an independent draw, where it is
    worth twice as much with 0.
    """

    scale: float = 1.0
    floor: float = 0.01
    squares: float = 0.0

    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals."""
        moved = jnp.sum((proposal - start) ** 2, axis=0)
        if self.squares:
            moved += self.squares / 2 * jnp.sum((proposal**2 - start**2) ** 2, axis=0)
        return -jnp.mean(jnp.log(acceptance * moved / self.scale**2 + self.floor))


class WeightedSum(AbstractObjective):
    """``sum_i weights_i objectives_i``; e.g. `LogESJD` for every coordinate plus `LogJump` to leave
    modes.
    """

    objectives: tuple[AbstractObjective, ...]
    weights: tuple[float, ...]

    def __check_init__(self) -> None:
        if len(self.objectives) != len(self.weights):
            raise ValueError(f"{len(self.objectives)} objectives but {len(self.weights)} weights")

    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals."""
        losses = [objective(start, proposal, acceptance) for objective in self.objectives]
        return sum(
            (w * loss for w, loss in zip(self.weights, losses, strict=True)),
            jnp.zeros((), acceptance.dtype),
        )
