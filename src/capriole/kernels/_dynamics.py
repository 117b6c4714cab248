"""The learned leapfrog of L2HMC: equations 4-6 of the paper, each beside the code that computes it.

Equation numbers are those of Levy, Hoffman and Sohl-Dickstein 2018, "Generalizing Hamiltonian Monte
Carlo with Neural Networks". Equation 2, the leapfrog of plain HMC, is in `_plain_dynamics`;
equation 3, the acceptance probability, in `_transition`; equations 7-8, the loss, in `training`.
The paper writes with the energy U; here ``grad = -dU/dx`` is the gradient of the log density.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ._logdensity import AbstractLogDensity, value_and_grad
from ._networks import LINEAR, MLP, AbstractNetwork, Squashed, column
from ._types import Flag, Key, Phase, Scalar, Vector


class AbstractDynamics(eqx.Module):
    """A bijection F of phase space (position, momentum) with a known log-determinant.

    ``dynamics(logdensity, phase, forward)`` applies F where ``forward`` is true and its inverse
    elsewhere, chain by chain. It must be deterministic. Where the inverse of F would not lead back,
    the log-determinant is ``-inf`` and the proposal is rejected.
    """

    @abstractmethod
    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Apply F, or its inverse.

        Args:
            logdensity: target log density.
            phase: points of phase space, arrays of shape ``(dim, *chains)``.
            forward: direction, shape ``(*chains)``.
            context: features that condition the networks, shape ``(features, *chains)``.

        Returns:
            The image of ``phase``, and the log-determinant of the applied map, shape ``(*chains)``.
        """

    @property
    @abstractmethod
    def num_gradients(self) -> int | Int[Array, ""]:
        """Gradients of the log density that one application evaluates."""


def affine(y: Vector, log_scale: Vector, shift: Vector, forward: Flag) -> tuple[Vector, Scalar]:
    """Apply one affine sub-update, or its inverse::

        forward    y exp(log_scale) + shift,     log-det  sum log_scale
        backward   (y - shift) exp(-log_scale),  log-det -sum log_scale

    Every sub-update of the learned leapfrog calls this function, so forward map and inverse share
    their code.

    Args:
        y: what the sub-update changes, shape ``(dim, *chains)``.
        log_scale: must not depend on the coordinates of ``y`` that change; shape ``(dim,
            *chains)``.
        shift: likewise, shape ``(dim, *chains)``.
        forward: direction, shape ``(*chains)``.

    Returns:
        The new ``y``, and the log-determinant of shape ``(*chains)``.
    """
    scale = jnp.exp(jnp.where(forward, log_scale, -log_scale))
    out = jnp.where(forward, y * scale + shift, (y - shift) * scale)
    total = jnp.sum(log_scale, axis=0)
    return out, jnp.where(forward, total, -total)


class LearnedLeapfrog(AbstractDynamics):
    """The generalised leapfrog of L2HMC, M steps::

        kick    v <- v exp(eps/2 S) + eps/2 (grad exp(eps Q) + T)                   (eq. 4)
                S, Q, T = momentum_network(x, grad, t)
        drift   x <- x exp(eps S) + eps (v exp(eps Q) + T)  on one half of x        (eq. 5)
                x <- the same on the other half                                     (eq. 6)
                S, Q, T = position_network(v, half of x that stays, t)
        step    kick; drift of one half; drift of the other half; new gradient; kick

    The log-determinant is the signed sum of all log-scales: eps/2 S of the kicks, eps S of the
    drifts. Networks that return 0 give plain HMC. The paper's text writes exp(Q); its released code
    and this class use exp(eps Q). Both directions share every line: a backward chain takes the
    steps from M-1 to 0, the halves in the other order, and each `affine` inverted.

    Attributes:
        momentum_network: returns S, Q and T of the kicks.
        position_network: returns S, Q and T of the drifts.
        log_step_size: log eps; or two values, for the kicks and for the drifts (see
            `rotation_step_sizes`).
        masks: shape ``(M, dim)``; ``masks[t]`` is true for the half that stays in the first drift
            of step t.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, equations 4-6 and Appendix A.
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
        """Image of ``phase``, and the log-determinant of shape ``(*chains)``."""
        # Broadcast before the loop: training then sums the gradient over chains only once.
        sizes = jnp.broadcast_to(jnp.exp(self.log_step_size), (2,))
        kick_eps, eps = (jnp.broadcast_to(size, phase.position.shape) for size in sizes)
        kick_context = self.momentum_network.embed(context)
        drift_context = self.position_network.embed(context)

        def kick(v: Vector, x: Vector, grad: Vector, time: Array) -> tuple[Vector, Scalar]:
            # Equation 4; also the second kick of the step.
            s, q, t = self.momentum_network(x, grad, time, kick_context)
            return affine(
                v, kick_eps / 2 * s, kick_eps / 2 * (grad * jnp.exp(kick_eps * q) + t), forward
            )

        def drift(x: Vector, v: Vector, moving: Array, time: Array) -> tuple[Vector, Scalar]:
            # Equation 5 for the first half, equation 6 for the second.
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

        # Training keeps the outputs of linear layers and recomputes everything else.
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


def _clock(num_leapfrogs: int, dtype: jnp.dtype) -> Float[Array, "steps 2"]:
    """Time features ``(cos 2 pi t / M, sin 2 pi t / M)`` of every step, shape ``(M, 2)``."""
    angle = 2 * jnp.pi * jnp.arange(num_leapfrogs, dtype=dtype) / num_leapfrogs
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


def draw_masks(key: Key, *, num_leapfrogs: int, dim: int) -> Bool[Array, "steps dim"]:
    """Draw one random half of the coordinates per leapfrog step, fixed for the life of the kernel.

    Args:
        key: random key.
        num_leapfrogs: M, the number of steps.
        dim: number of coordinates.

    Returns:
        Masks of shape ``(M, dim)`` with ``floor(dim / 2)`` true entries per row.
    """
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
    """Build an untrained learned leapfrog with the paper's networks, close to HMC.

    Args:
        key: random key of the initial weights and the masks.
        dim: number of coordinates.
        num_leapfrogs: M, the number of leapfrog steps.
        step_size: eps; a pair, for kicks and drifts, is trained as two numbers (see
            `rotation_step_sizes`).
        width: hidden units of each network.
        context_dim: number of context features; 0 for none.
        squashed: whether the networks see ``arcsinh`` of their inputs (`Squashed`), for heavy tails
            and scales far from 1.
        dtype: floating type of all parameters; by default JAX's.

    Returns:
        The dynamics.

    Raises:
        ValueError: if a dimension, length, width or step size is not positive.
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
