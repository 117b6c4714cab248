"""Dynamics: bijections of phase space. The leapfrog of HMC and the learned leapfrog of L2HMC."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..runtime import divided_map
from ._logdensity import AbstractLogDensity, value_and_grad
from ._networks import LINEAR, MLP, AbstractNetwork, Squashed, column
from ._types import Flag, Key, Phase, Scalar, Vector


class AbstractDynamics(eqx.Module):
    """A bijection F of phase space (position, momentum) with a tractable log-determinant.

    ``dynamics(logdensity, phase, forward)`` applies F where ``forward`` is true and its inverse
    elsewhere, chain by chain, and returns the new phase with the log-determinant of the map that
    was applied. It must not depend on chance. Where F has no way back, the log-determinant is -inf,
    and the proposal is rejected.
    """

    @abstractmethod
    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase`` and log-determinant of shape ``(*chains)``."""

    @property
    @abstractmethod
    def num_gradients(self) -> int | Int[Array, ""]:
        """Gradients of the log density that one application costs."""


def affine(y: Vector, log_scale: Vector, shift: Vector, forward: Flag) -> tuple[Vector, Scalar]:
    """``y exp(log_scale) + shift`` where forward, its inverse elsewhere; log-det ``+-sum
    log_scale``.

    Every sub-update of every learned dynamics goes through here, so the inverse cannot drift away
    from the forward map. ``log_scale`` and ``shift`` must not depend on the coordinates of ``y``
    that they change.
    """
    scale = jnp.exp(jnp.where(forward, log_scale, -log_scale))
    out = jnp.where(forward, y * scale + shift, (y - shift) * scale)
    total = jnp.sum(log_scale, axis=0)
    return out, jnp.where(forward, total, -total)


def _leapfrogs(
    logdensity: AbstractLogDensity,
    phase: Phase,
    half_kick: Array,
    drift: Array,
    num_leapfrogs: int | Array,
) -> tuple[Phase, Scalar]:
    """``num_leapfrogs`` times kick, drift, kick; shears only, so the log-det is 0."""

    def leapfrog(_: Array, phase: Phase) -> Phase:
        momentum = phase.momentum + half_kick * phase.logdensity_grad
        position = phase.position + drift * momentum
        value, grad = value_and_grad(logdensity, position)
        return Phase(position, momentum + half_kick * grad, value, grad)

    end = jax.lax.fori_loop(0, num_leapfrogs, leapfrog, phase)
    return end, jnp.zeros_like(phase.logdensity)


class Leapfrog(AbstractDynamics):
    """Hamiltonian dynamics with unit mass: M leapfrog steps of size eps; log-det 0 (Neal 2011,
    section 2.3)::

        v <- v + eps/2 grad;   x <- x + eps v;   v <- v + eps/2 grad

    The inverse is the same with -eps. ``step_size`` may be one number or one per chain. M may be an
    array: then another length compiles nothing.
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
        """Image of ``phase`` and log-det 0."""
        eps = jnp.where(forward, self.step_size, -self.step_size)
        return _leapfrogs(logdensity, phase, eps / 2, eps, self.num_leapfrogs)

    def scaled(self, factor: Array) -> "Leapfrog":
        """The same with the step size times ``factor``, one number or one per chain."""
        return Leapfrog(self.step_size * factor, self.num_leapfrogs)

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """M: the gradient at the end of a step is reused at the start of the next."""
        return self.num_leapfrogs


class Rotation(AbstractDynamics):
    """M leapfrogs whose kicks and drifts turn the phase space of N(0, I) by exactly theta / M each;
    log-det 0::

        v <- v + tan(theta/2M) grad;   x <- x + sin(theta/M) v;   v <- v + tan(theta/2M) grad

    In whitened coordinates of a Gaussian target, theta = pi / 2 gives an independent draw for M
    gradients, M = 1 included; the leapfrog of HMC is the limit of small angles. The inverse is the
    same with -theta. ``angle`` is theta, one number or one per chain, below M pi. M may be an
    array: then another length compiles nothing.
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
        """Image of ``phase`` and log-det 0."""
        turn = jnp.where(forward, self.angle, -self.angle) / jnp.asarray(
            self.num_leapfrogs, self.angle.dtype
        )
        return _leapfrogs(logdensity, phase, jnp.tan(turn / 2), jnp.sin(turn), self.num_leapfrogs)

    def scaled(self, factor: Array) -> "Rotation":
        """The same with the angle times ``factor``, one number or one per chain."""
        return Rotation(self.angle * factor, self.num_leapfrogs)

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """M: the gradient at the end of a step is reused at the start of the next."""
        return self.num_leapfrogs


class CrankNicolson(AbstractDynamics):
    """The exact rotation of N(0, I), by ``angle``, that no gradient steers; log-det 0 (pCN: Cotter
    et al. 2013)::

        x <- x cos(angle) + v sin(angle);   v <- v cos(angle) - x sin(angle)

    For targets that are nearly N(0, I) in whitened coordinates but whose gradient is noise. The
    inverse is the same with -angle. One gradient is evaluated and counted, for the next state,
    though the map itself needs none.
    """

    angle: Float[Array, "*chains"]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase`` and log-det 0."""
        angle = jnp.where(forward, self.angle, -self.angle)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        position = phase.position * cosine + phase.momentum * sine
        momentum = phase.momentum * cosine - phase.position * sine
        value, grad = value_and_grad(logdensity, position)
        return Phase(position, momentum, value, grad), jnp.zeros_like(value)

    def scaled(self, factor: Array) -> "CrankNicolson":
        """The same with the angle times ``factor``, one number or one per chain."""
        return CrankNicolson(self.angle * factor)

    @property
    def num_gradients(self) -> int:
        """One."""
        return 1


def rotation_step_sizes(angle: float, num_leapfrogs: int) -> tuple[float, float]:
    """Kick and drift sizes with which an untrained learned leapfrog is `Rotation` by ``angle``."""
    turn = angle / num_leapfrogs
    return 2 * math.tan(turn / 2), math.sin(turn)


class LearnedLeapfrog(AbstractDynamics):
    """The generalised leapfrog of L2HMC (Levy et al. 2018, equations 4-6 and Appendix A)::

        kick    v <- v exp(eps/2 S) + eps/2 (grad exp(eps Q) + T)          S, Q, T = momentum_network(x, grad, t)
        drift   x <- x exp(eps S)   + eps   (v exp(eps Q) + T)  on one half, S, Q, T = position_network(v, rest of x, t)
        step    kick; drift of one half; drift of the other half; new gradient; kick

    Zero networks give exactly HMC. The paper's text writes exp(Q) where its released code and this
    one have exp(eps Q). ``log_step_size`` holds log eps, or one logarithm for the kicks and one for
    the drifts, which can then start at an exact `Rotation`. ``masks[t]`` marks the half (floor(dim
    / 2) coordinates) that keeps still in the first drift of step t. Direction is data: both
    directions share every line, a backward chain walks the steps from M-1 to 0, its halves in the
    other order, with `affine` inverted.
    """

    momentum_network: AbstractNetwork
    position_network: AbstractNetwork
    log_step_size: Float[Array, "*kinds"]
    masks: Bool[Array, "steps dim"]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase`` and its log-det, the signed sum of all log-scales."""
        # Spread over all chains here and not in the loop: training then sums its gradient once, not
        # 20 M times.
        sizes = jnp.broadcast_to(jnp.exp(self.log_step_size), (2,))
        kick_eps, eps = (jnp.broadcast_to(size, phase.position.shape) for size in sizes)
        kick_context = self.momentum_network.embed(context)
        drift_context = self.position_network.embed(context)

        def kick(v: Vector, x: Vector, grad: Vector, time: Array) -> tuple[Vector, Scalar]:
            s, q, t = self.momentum_network(x, grad, time, kick_context)
            return affine(
                v, kick_eps / 2 * s, kick_eps / 2 * (grad * jnp.exp(kick_eps * q) + t), forward
            )

        def drift(x: Vector, v: Vector, moving: Array, time: Array) -> tuple[Vector, Scalar]:
            s, q, t = self.position_network(v, jnp.where(moving, 0, x), time, drift_context)
            shift = eps * (v * jnp.exp(eps * q) + t)
            return affine(x, jnp.where(moving, eps * s, 0), jnp.where(moving, shift, 0), forward)

        def step(carry: tuple[Phase, Scalar], rows: tuple) -> tuple[tuple[Phase, Scalar], None]:
            (x, v, _, grad), log_det = carry
            mask, time = (
                jnp.where(forward, column(a, x), column(b, x)) for a, b in zip(*rows, strict=True)
            )
            moving = mask != forward
            v, first_kick = kick(v, x, grad, time)
            x, first_drift = drift(x, v, moving, time)
            x, second_drift = drift(x, v, ~moving, time)
            value, grad = value_and_grad(logdensity, x)
            v, second_kick = kick(v, x, grad, time)
            return (
                Phase(x, v, value, grad),
                log_det + first_kick + first_drift + second_drift + second_kick,
            ), None

        step = jax.checkpoint(
            step, policy=jax.checkpoint_policies.save_only_these_names(LINEAR), prevent_cse=False
        )
        tables = (self.masks, _clock(self.num_gradients, phase.position.dtype))
        start = (phase, jnp.zeros_like(phase.logdensity))
        (end, log_det), _ = jax.lax.scan(
            step, start, (tables, tuple(table[::-1] for table in tables))
        )
        return end, log_det

    @property
    def num_gradients(self) -> int:
        """M, one per step: the gradient at the end of a step is reused at the start of the next."""
        return self.masks.shape[0]


class Divided(AbstractDynamics):
    """A dynamics whose chains are divided over devices, which sum the gradient of its parameters
    once.

    Left to itself the compiler sums in every step of the backward loop, and then M meetings of the
    devices cost more than all arithmetic of a small kernel.
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
        """Image of ``phase`` and log-det, of the dynamics."""
        arrays, static = eqx.partition((self.dynamics, logdensity), eqx.is_array)

        def apply(arrays: Any, chains: tuple[Phase, Flag, Vector | None]) -> tuple[Phase, Scalar]:
            dynamics, logdensity = eqx.combine(arrays, static)
            return dynamics(logdensity, *chains)

        mapped = divided_map(apply, self.devices, like=(phase, phase.logdensity))
        return mapped(arrays, (phase, forward, context))

    @property
    def num_gradients(self) -> int | Int[Array, ""]:
        """Those of the dynamics."""
        return self.dynamics.num_gradients


def _clock(num_leapfrogs: int, dtype: jnp.dtype) -> Float[Array, "steps 2"]:
    angle = 2 * jnp.pi * jnp.arange(num_leapfrogs, dtype=dtype) / num_leapfrogs
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


def draw_masks(key: Key, *, num_leapfrogs: int, dim: int) -> Bool[Array, "steps dim"]:
    """One random half per step: ``floor(dim / 2)`` true entries, fixed for the life of the kernel."""
    half = jnp.arange(dim) < dim // 2
    return jax.vmap(lambda k: jax.random.permutation(k, half))(jax.random.split(key, num_leapfrogs))


def learned_leapfrog(
    key: Key,
    *,
    dim: int,
    num_leapfrogs: int = 10,
    step_size: float | tuple[float, float] = 0.1,
    width: int = 10,
    context_dim: int = 0,
    squashed: bool = False,
    dtype: jnp.dtype | None = None,
) -> LearnedLeapfrog:
    """An untrained learned leapfrog with the paper's networks, close to HMC with the same step
    size.

    A pair of step sizes, for kicks and drifts, is trained as two (see `rotation_step_sizes`); one
    number as one. ``squashed`` networks see arcsinh of their inputs (`Squashed`), for tails and
    scales far from 1. Raises ValueError for a dimension, length, width or step size that is not
    positive.
    """
    for name, value in (
        ("dim", dim),
        ("num_leapfrogs", num_leapfrogs),
        ("width", width),
        ("step_size", step_size),
    ):
        if not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name} must be positive, got {value}")
    dtype = jnp.dtype(dtype or jax.dtypes.canonicalize_dtype(float))
    momentum_key, position_key, mask_key = jax.random.split(key, 3)

    def network(key: Key, second_scale: float) -> AbstractNetwork:
        made = MLP(
            key,
            dim=dim,
            width=width,
            context_dim=context_dim,
            second_scale=second_scale,
            dtype=dtype,
        )
        return Squashed(made) if squashed else made

    return LearnedLeapfrog(
        momentum_network=network(momentum_key, 1.0),
        position_network=network(position_key, 2.0),
        log_step_size=jnp.log(jnp.asarray(step_size, dtype)),
        masks=draw_masks(mask_key, num_leapfrogs=num_leapfrogs, dim=dim),
    )
