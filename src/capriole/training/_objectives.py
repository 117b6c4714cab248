"""What training minimises: functions of a start, its proposal and the acceptance probability."""

import math
from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import Scalar, Vector, column

JUMP_FLOOR = 1e-4
"""Added to the expected squared jump in `PaperLoss`, as in the paper's code, so that 1 / d stays
finite.
"""
LOG_FLOOR = 1e-6
"""Added to a standardised squared jump before its log: far below any jump worth having."""
SMALL_CHANCE = 0.01
"""Added to acceptances and jumps of single chains in `LogESJD`, to bound its gradient."""


class AbstractObjective(eqx.Module):
    """A loss ``objective(start, proposal, acceptance)``; lower is better."""

    @abstractmethod
    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals.

        Args:
            start: positions before the step, shape (dim, chains).
            proposal: proposed positions, shape (dim, chains).
            acceptance: probability of acceptance, not its outcome, shape (chains,).

        Returns:
            A scalar.
        """


class PaperLoss(AbstractObjective):
    """The paper's loss: expected squared jump and its reciprocal::

        d = |x - x'|^2 A + 1e-4
        loss = mean over chains of (lambda^2 / d - d / lambda^2)

    It prefers the longest jump, so the trained kernel may be antithetic: then means mix well and
    variances do not.

    Attributes:
        scale: lambda, the length scale of the target.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, equations 7 and 8.
    """

    scale: float = 1.0

    def __call__(self, start: Vector, proposal: Vector, acceptance: Scalar) -> Float[Array, ""]:
        """The loss of one batch of proposals."""
        jump = acceptance * jnp.sum((proposal - start) ** 2, axis=0) + JUMP_FLOOR
        return jnp.mean(self.scale**2 / jump - jump / self.scale**2)


class LogESJD(AbstractObjective):
    """Log expected squared jump of every coordinate of x and of x^2, in units of their variances::

        J    = mean over coordinates of A (x_i - x'_i)^2 / var_i           of each chain
        D_i  = mean over chains of A (x_i - x'_i)^2 / var_i
        D2_i = mean over chains of A (y_i - y'_i)^2 / 2
        f(D) = log(D + 1e-6) - fold max(0, log((D + 1e-6) / ceiling))
        loss = - sum_i f(D_i) - squares sum_i f(D2_i)
               - acceptance mean over chains of log(A + 0.01)
               + reciprocal mean over chains of 1 / (J + 0.01)

    with y_i = (x_i - mean_i)^2 / var_i. D_i is 2 (1 - lag-one autocorrelation): 2 for independent
    draws, more for antithetic ones, which mix means well and variances badly. With ``fold`` above 1
    the reward falls where D exceeds ``ceiling``. Gradients are bounded, and the loss does not
    depend on the coordinates' scales. The term with the acceptance keeps training from settling in
    kernels that jump far and are often rejected; the reciprocal term makes every chain move.

    Attributes:
        mean: means of the target, or of ``feature`` of it, shape (dim,).
        variance: variances, likewise.
        squares: weight of the terms in x^2.
        reciprocal: weight of the reciprocal term.
        acceptance: weight of the term with the acceptance.
        ceiling: D from which on larger jumps are rewarded less.
        fold: the slope of f in log D is 1 - fold beyond ``ceiling``.
        feature: applied to x first, coordinate by coordinate; ``jnp.arcsinh`` for heavy tails.
        sharpness: beta. Above 0 the sum over the n terms f becomes n times their soft minimum,
            ``-log(mean exp(-beta f)) / beta``, in which the worst coordinate weighs most.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, equation 7: the reciprocal term.
        Hirt, Titsias and Dellaportas 2021: the log of the acceptance.
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
            loss -= self.acceptance * jnp.mean(jnp.log(acceptance + SMALL_CHANCE))
        if self.reciprocal:
            loss += self.reciprocal * jnp.mean(1 / (jnp.mean(jump, axis=0) + SMALL_CHANCE))
        return loss

    def _reward(self, jump: Float[Array, " dim"]) -> Float[Array, " dim"]:
        """The formula's f."""
        value = jnp.log(jump + LOG_FLOOR)
        return value - self.fold * jnp.maximum(value - math.log(self.ceiling), 0)


class LogJump(AbstractObjective):
    """Log of each chain's expected squared jump, for targets with separated modes::

        J = |x - x'|^2 + squares |x^2 - x'^2|^2 / 2
        loss = - mean over chains of log(A J / scale^2 + floor)

    Every chain has the same weight, so a narrow mode counts as much as a wide one. For a target
    near N(0, I), a flip x' = -x is worth twice as much as an independent draw with ``squares`` = 0,
    and no more with ``squares`` = 1.

    Attributes:
        scale: length scale of the target.
        floor: bounds the loss of a chain that does not move.
        squares: weight of the jump of x^2.
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
    """A weighted sum of objectives, for example `LogESJD` for mixing and `LogJump` to leave modes.

    Attributes:
        objectives: the objectives.
        weights: their weights.

    Raises:
        ValueError: there are not as many weights as objectives.
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
