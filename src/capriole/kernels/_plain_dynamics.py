"""Dynamics without networks: the leapfrog of HMC, the exact rotation of a Gaussian, and pCN."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._dynamics import AbstractDynamics
from ._logdensity import AbstractLogDensity, value_and_grad
from ._types import Flag, Phase, Scalar, Vector


class Leapfrog(AbstractDynamics):
    """Hamiltonian dynamics with unit mass: M leapfrog steps of size eps, log-det 0::

        v <- v + eps/2 grad;   x <- x + eps v;   v <- v + eps/2 grad

    The inverse is the same with -eps.

    Attributes:
        step_size: eps, one number or one per chain.
        num_leapfrogs: M; as an array, another value compiles nothing anew.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, equation 2; Neal 2011, section 2.3.
    """

    step_size: Float[Array, "*chains"]
    num_leapfrogs: int | Int[Array, ""]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase``, and log-det 0 of shape ``(*chains)``."""
        eps = jnp.where(forward, self.step_size, -self.step_size)
        return _leapfrogs(logdensity, phase, eps / 2, eps, self.num_leapfrogs)

    def scaled(self, factor: Array) -> "Leapfrog":
        """The same dynamics with the step size multiplied by ``factor``.

        Args:
            factor: one number or one per chain.
        """
        return Leapfrog(self.step_size * factor, self.num_leapfrogs)

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """M: the gradient at the end of a step is reused at the start of the next."""
        return self.num_leapfrogs


class Rotation(AbstractDynamics):
    """M leapfrog steps that rotate the phase space of N(0, I) by exactly ``angle``, log-det 0::

        v <- v + tan(a/2) grad;   x <- x + sin(a) v;   v <- v + tan(a/2) grad,   a = angle / M

    For a Gaussian target in whitened coordinates an angle of pi/2 gives an independent draw for M
    gradients, even with M = 1. For small angles this is the leapfrog of HMC. The inverse is the
    same with -angle.

    Attributes:
        angle: in radians, below M pi; one number or one per chain.
        num_leapfrogs: M; as an array, another value compiles nothing anew.
    """

    angle: Float[Array, "*chains"]
    num_leapfrogs: int | Int[Array, ""]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase``, and log-det 0 of shape ``(*chains)``."""
        turn = jnp.where(forward, self.angle, -self.angle) / jnp.asarray(
            self.num_leapfrogs, self.angle.dtype
        )
        return _leapfrogs(logdensity, phase, jnp.tan(turn / 2), jnp.sin(turn), self.num_leapfrogs)

    def scaled(self, factor: Array) -> "Rotation":
        """The same dynamics with the angle multiplied by ``factor``.

        Args:
            factor: one number or one per chain.
        """
        return Rotation(self.angle * factor, self.num_leapfrogs)

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """M: the gradient at the end of a step is reused at the start of the next."""
        return self.num_leapfrogs


class CrankNicolson(AbstractDynamics):
    """Preconditioned Crank-Nicolson (pCN): the exact rotation of N(0, I), log-det 0::

        x <- x cos(angle) + v sin(angle);   v <- v cos(angle) - x sin(angle)

    For targets that are nearly N(0, I) in whitened coordinates but have a noisy gradient. The
    inverse is the same with -angle. The map needs no gradient; one is evaluated and counted,
    because the next state holds it.

    Attributes:
        angle: in radians; one number or one per chain.

    References:
        Cotter, Roberts, Stuart and White 2013.
    """

    angle: Float[Array, "*chains"]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase``, and log-det 0 of shape ``(*chains)``."""
        angle = jnp.where(forward, self.angle, -self.angle)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        position = phase.position * cosine + phase.momentum * sine
        momentum = phase.momentum * cosine - phase.position * sine
        value, grad = value_and_grad(logdensity, position)
        return Phase(position, momentum, value, grad), jnp.zeros_like(value)

    def scaled(self, factor: Array) -> "CrankNicolson":
        """The same dynamics with the angle multiplied by ``factor``.

        Args:
            factor: one number or one per chain.
        """
        return CrankNicolson(self.angle * factor)

    @property
    def num_gradients(self) -> int:
        """One."""
        return 1


def rotation_step_sizes(angle: float, num_leapfrogs: int) -> tuple[float, float]:
    """Step sizes with which an untrained learned leapfrog equals `Rotation`::

        kick = 2 tan(angle / 2M),   drift = sin(angle / M)

    Args:
        angle: total angle in radians.
        num_leapfrogs: M.

    Returns:
        Step sizes of the kicks and of the drifts.
    """
    turn = angle / num_leapfrogs
    return 2 * math.tan(turn / 2), math.sin(turn)


def _leapfrogs(
    logdensity: AbstractLogDensity,
    phase: Phase,
    half_kick: Array,
    drift: Array,
    num_leapfrogs: int | Array,
) -> tuple[Phase, Scalar]:
    """``num_leapfrogs`` times kick, drift, kick. Each is a shear, so the log-det is 0."""

    def leapfrog(_: Array, phase: Phase) -> Phase:
        momentum = phase.momentum + half_kick * phase.logdensity_grad
        position = phase.position + drift * momentum
        value, grad = value_and_grad(logdensity, position)
        return Phase(position, momentum + half_kick * grad, value, grad)

    end = jax.lax.fori_loop(0, num_leapfrogs, leapfrog, phase)
    return end, jnp.zeros_like(phase.logdensity)
