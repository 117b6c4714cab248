"""Jumps between modes: a dynamics that carries a point of one mode into the next, with the Jacobian
of their shapes.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._dynamics import AbstractDynamics
from ._logdensity import AbstractLogDensity, value_and_grad
from ._types import Flag, Phase, Scalar, Vector


class ModeJump(AbstractDynamics):
    """From the mode a that x is in to the next one, b = a + 1, in cyclic order; the inverse goes to
    a - 1::

        u = L_a^-1 (x - c_a);   u <- u cos(angle) + v sin(angle),   v <- v cos(angle) - u sin(angle);   x <- c_b + L_b u
        log-det = log det L_b - log det L_a

    x is in the mode k of the greatest ``log share_k - log det L_k - |L_k^-1 (x - c_k)|^2 / 2``, as
    of a mixture of Gaussians. Where the image is not in b there is no way back, so no proposal:
    log-det is -inf, and the step is rejected. Exact on such a mixture of equal shares, but for
    overlap. At ``angle`` pi/2 the new place in the mode is drawn afresh, at small ones it is that
    of the old. It moves between modes only as far as it knows them: mix it with a kernel that moves
    everywhere. Jumps between modes: Tjelmeland and Hegstad 2001; here with hard boundaries.

    ``centre`` has shape (modes, dim), ``factor`` (modes, dim, dim), lower triangular, ``log_share``
    (modes,).
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
        """Image of ``phase`` and log-determinant of shape ``(*chains)``, -inf where there is no
        proposal.
        """
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
        """Places within their modes, and which those are."""
        every = jax.vmap(lambda factor, centre: _solve(factor, position - centre[:, None]))(
            self.factor, self.centre
        )
        score = (self.log_share - self._log_det())[:, None] - jnp.sum(every**2, axis=1) / 2
        mode = jnp.argmax(score, axis=0)
        return _pick(every, mode), mode

    def _log_det(self) -> Float[Array, " modes"]:
        return jnp.sum(jnp.log(jnp.diagonal(self.factor, axis1=1, axis2=2)), axis=1)

    @property
    def num_gradients(self) -> int:
        """One."""
        return 1


def _solve(factor: Float[Array, "dim dim"], values: Float[Array, "dim n"]) -> Any:
    return jax.scipy.linalg.solve_triangular(factor, values, lower=True)


def _pick(every: Float[Array, "modes dim n"], mode: Int[Array, " n"]) -> Float[Array, "dim n"]:
    """Of every column the one of its mode."""
    return jnp.take_along_axis(every, mode[None, None, :], axis=0)[0]
