"""Look-Ahead HMC (Sohl-Dickstein, Mudigonda and DeWeese 2014): momentum persists."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capriole.kernels import (
    DIVERGENCE,
    AbstractLogDensity,
    AbstractTransition,
    Info,
    Key,
    Leapfrog,
    Phase,
    Scalar,
    State,
    Vector,
    value_and_grad,
)


class LookAheadState(NamedTuple):
    """A chain's `State` with the momentum it keeps."""

    position: Vector
    logdensity: Scalar
    logdensity_grad: Vector
    momentum: Vector


def reach(energy: Float[Array, "points *chains"]) -> Float[Array, "looks *chains"]:
    """Probability of having moved by look a = 1..K at the latest, from the energies of zeta, L
    zeta, ..., L^K zeta::

        pi_a(zeta) = min( 1 - sum_{b<a} pi_b(zeta),
                          exp(H(zeta) - H(L^a zeta)) (1 - sum_{b<a} pi_b(F L^a zeta)) )

    The sums seen from F L^a zeta run back over the same points, so all of them are cumulative sums
    between two points of one trajectory. They are filled in by distance: ``there[i]`` is that from
    point i to point i + d, ``back[i]`` the reverse. A point whose energy is not finite is never
    moved to.
    """
    energy = jnp.where(jnp.isfinite(energy), energy, jnp.inf)
    there = back = jnp.zeros_like(energy)
    looks = []
    for distance in range(1, energy.shape[0]):
        near, far = energy[:-distance], energy[distance:]
        there, back = there[:-1], back[1:]
        there, back = there + _move(there, near - far, back), back + _move(back, far - near, there)
        looks.append(there[0])
    return jnp.stack(looks)


def _move(reached: Array, log_ratio: Array, reached_back: Array) -> Array:
    """``min(1 - reached, exp(log_ratio) (1 - reached_back))``; 0 if both energies are infinite."""
    ratio = jnp.exp(jnp.minimum(jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio), 60))
    return jnp.minimum(1 - reached, ratio * (1 - reached_back))


class LookAhead(AbstractTransition):
    """HMC that, where it would reject, looks up to K trajectories ahead before it turns round (K =
    ``num_looks``)::

        move to L^a zeta with probability pi_a, a = 1..K (see `reach`), momentum kept;
        L is M leapfrog steps
        else v <- -v
        then v <- sqrt(1 - refresh) v + sqrt(refresh) n,   n ~ N(0, I)

    Leaves ``exp(logdensity - |v|^2 / 2)`` invariant, without detailed balance. K = 1 is HMC with
    persistent momentum, and with refresh = 1 plain HMC. ``step_size`` and ``refresh`` may be one
    number or one per chain. ``num_gradients`` counts a M for a chain that stops at L^a zeta, K M
    for one that turns: what a single chain needs. Chains that run side by side all compute K M.
    """

    logdensity: AbstractLogDensity
    step_size: Float[Array, "*chains"]
    refresh: Float[Array, "*chains"]
    num_leapfrogs: int = eqx.field(static=True)
    num_looks: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.num_leapfrogs < 1 or self.num_looks < 1:
            raise ValueError(
                f"num_leapfrogs and num_looks must be at least 1, got {self.num_leapfrogs} and "
                f"{self.num_looks}"
            )

    @property
    def target(self) -> AbstractLogDensity:
        """The log density."""
        return self.logdensity

    def init(self, position: Vector, rng_key: Key | None = None) -> LookAheadState:
        """State at ``position`` with momentum from N(0, I). Raises ValueError without a key."""
        if rng_key is None:
            raise ValueError(
                "look-ahead HMC keeps its momentum: pass rng_key, from which the first one is drawn"
            )
        return LookAheadState(
            position, *value_and_grad(self.logdensity, position), momentum=_noise(rng_key, position)
        )

    def move(self, rng_key: Key, state: LookAheadState) -> tuple[LookAheadState, Info]:
        """Look ahead, move or turn, refresh the momentum in part."""
        uniform_key, noise_key = jax.random.split(rng_key)
        start = Phase(state.position, state.momentum, state.logdensity, state.logdensity_grad)
        path = self._path(start)
        energy = jnp.sum(path.momentum**2, axis=1) / 2 - path.logdensity
        energy = jnp.where(jnp.all(jnp.isfinite(path.position), axis=1), energy, jnp.inf)
        reached = reach(energy)
        uniform = jax.random.uniform(uniform_key, state.logdensity.shape, state.logdensity.dtype)
        look = 1 + jnp.sum(uniform >= reached, axis=0)
        moved = look <= self.num_looks
        end = _at(path, jnp.where(moved, look, 0))
        momentum = jnp.where(moved, end.momentum, -end.momentum)
        momentum = jnp.sqrt(1 - self.refresh) * momentum + jnp.sqrt(self.refresh) * _noise(
            noise_key, momentum
        )
        log_ratio = energy[0] - energy[1]
        log_ratio = jnp.where(jnp.isfinite(log_ratio), log_ratio, -jnp.inf)
        proposed = _at(path, jnp.minimum(look, self.num_looks))
        info = Info(
            acceptance_rate=reached[-1],
            is_accepted=moved,
            is_divergent=log_ratio < -DIVERGENCE,
            energy=energy[0],
            log_ratio=log_ratio,
            log_det=jnp.zeros_like(log_ratio),
            forward=jnp.ones_like(moved),
            proposal=State(proposed.position, proposed.logdensity, proposed.logdensity_grad),
            num_gradients=(self.num_leapfrogs * jnp.minimum(look, self.num_looks)).astype(
                jnp.int32
            ),
        )
        return LookAheadState(end.position, end.logdensity, end.logdensity_grad, momentum), info

    def _path(self, start: Phase) -> Phase:
        """zeta, L zeta, ..., L^K zeta: every leaf has K + 1 points along a new first axis."""
        dynamics, forward = (
            Leapfrog(self.step_size, self.num_leapfrogs),
            jnp.ones(start.logdensity.shape, bool),
        )

        def leap(phase: Phase, _: None) -> tuple[Phase, Phase]:
            end = dynamics(self.logdensity, phase, forward)[0]
            return end, end

        _, ends = jax.lax.scan(leap, start, None, length=self.num_looks)
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, ends)


def _noise(key: Key, like: Vector) -> Vector:
    return jax.random.normal(key, like.shape[::-1], like.dtype).T


def _at(path: Phase, point: Array) -> Phase:
    """Each chain's own point of its path."""

    def pick(leaf: Array) -> Array:
        index = point.reshape((1,) * (leaf.ndim - point.ndim) + point.shape)
        return jnp.take_along_axis(leaf, jnp.broadcast_to(index, (1, *leaf.shape[1:])), axis=0)[0]

    return jax.tree.map(pick, path)
