"""Jumps between modes: a dynamics that maps a point of one mode into the next."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._dynamics import AbstractDynamics
from ._logdensity import AbstractLogDensity, value_and_grad
from ._types import Flag, Phase, Scalar, Vector


class ModeJump(AbstractDynamics):
    """A jump from the mode a that contains x to the next mode b = a + 1, in cyclic order::

        u  = L_a^-1 (x - c_a)
        u' = u cos(angle) + v sin(angle);   v' = v cos(angle) - u sin(angle)
        x' = c_b + L_b u';                  log-det = log det L_b - log det L_a

    The inverse goes to a - 1. As for a mixture of Gaussians, x is in the mode k with the greatest
    ``log_share_k - log det L_k - |L_k^-1 (x - c_k)|^2 / 2``. If the image is not in b, there is no
    way back: the log-det is ``-inf`` and the step is rejected. For a mixture of equal shares nearly
    all jumps are accepted, except where modes overlap. At an angle of pi/2 the place within the new
    mode is independent of the old one. Small angles keep it. The jump only knows the given modes,
    so mix it with a kernel that moves everywhere.

    Attributes:
        centre: c, shape ``(modes, dim)``.
        factor: L, lower triangular, shape ``(modes, dim, dim)``.
        log_share: log probability of each mode, shape ``(modes,)``.
        angle: in radians.

    References:
        Tjelmeland and Hegstad 2001; here each point belongs to exactly one mode.
    """

    centre: Float[Array, "modes dim"]
    factor: Float[Array, "modes dim dim"]
    log_share: Float[Array, " modes"]
    angle: Float[Array, ""]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase``, and the log-det; ``-inf`` where there is no proposal."""
        shape = phase.position.shape
        start, momentum = (part.reshape(shape[0], -1) for part in (phase.position, phase.momentum))
        inside, mode = self._place(start)
        there = (mode + jnp.where(forward, 1, -1).reshape(-1)) % len(self.centre)
        angle = jnp.where(forward.reshape(-1), self.angle, -self.angle)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        turned = inside * cosine + momentum * sine
        every = self.centre[..., None] + jnp.einsum("kij,jn->kin", self.factor, turned)
        position = _pick(every, there)
        reached = self._place(position)[1] == there
        volume = self._log_det()
        log_det = jnp.where(reached, volume[there] - volume[mode], -jnp.inf).reshape(shape[1:])
        position = position.reshape(shape)
        value, grad = value_and_grad(logdensity, position)
        return Phase(
            position, (momentum * cosine - inside * sine).reshape(shape), value, grad
        ), log_det

    def _place(
        self, position: Float[Array, "dim n"]
    ) -> tuple[Float[Array, "dim n"], Int[Array, " n"]]:
        """Whitened position within its mode for every column, and the index of the mode."""
        every = jax.vmap(lambda factor, centre: _solve(factor, position - centre[:, None]))(
            self.factor, self.centre
        )
        score = (self.log_share - self._log_det())[:, None] - jnp.sum(every**2, axis=1) / 2
        mode = jnp.argmax(score, axis=0)
        return _pick(every, mode), mode

    def _log_det(self) -> Float[Array, " modes"]:
        """``log det L`` of every mode."""
        return jnp.sum(jnp.log(jnp.diagonal(self.factor, axis1=1, axis2=2)), axis=1)

    @property
    def num_gradients(self) -> int:
        """One."""
        return 1


def _solve(factor: Float[Array, "dim dim"], values: Float[Array, "dim n"]) -> Any:
    """``factor^-1 values`` for a lower triangular factor."""
    return jax.scipy.linalg.solve_triangular(factor, values, lower=True)


def _pick(every: Float[Array, "modes dim n"], mode: Int[Array, " n"]) -> Float[Array, "dim n"]:
    """For every column, the values of its mode."""
    return jnp.take_along_axis(every, mode[None, None, :], axis=0)[0]
