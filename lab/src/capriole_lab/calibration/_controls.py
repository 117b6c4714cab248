"""Planted bugs: kernels that are wrong in one way, which a test must notice."""

import zlib
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from capriole.kernels import (
    AbstractDynamics,
    AbstractLogDensity,
    AbstractTransition,
    Flag,
    Info,
    Jittered,
    Key,
    LearnedLeapfrog,
    Mixture,
    Phase,
    Proposal,
    Scalar,
    State,
    Transition,
    Vector,
)


class Bug(NamedTuple):
    """What is added to the log ratio: multiples of its parts; whether every chain goes forward."""

    ratio: float = 0.0
    log_det: float = 0.0
    kinetic: float = 0.0
    one_way: bool = False


BUGS = {
    "none": Bug(),
    "no Jacobian": Bug(log_det=-1.0),
    "inverted ratio": Bug(ratio=-2.0),
    "no kinetic energy": Bug(kinetic=1.0),
    "always forward": Bug(one_way=True),
}
"""Planted bugs by name; ``none`` is the kernel itself, in the clothes of the others."""


class _Steered(AbstractDynamics):
    """A dynamics, or its forward map alone where ``one_way`` is true."""

    dynamics: AbstractDynamics
    one_way: Bool[Array, ""]

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        return self.dynamics(logdensity, phase, forward | self.one_way, context)

    @property
    def num_gradients(self) -> int | Array:
        return self.dynamics.num_gradients


class _Spoiled(AbstractTransition):
    """A `Transition` whose log ratio is off by ``weights`` times (itself, log-det, kinetic gain).

    They are data, so that all bugs share one compilation.
    """

    logdensity: AbstractLogDensity
    dynamics: AbstractDynamics
    context: Array | None
    weights: Float[Array, " 3"]

    @property
    def target(self) -> AbstractLogDensity:
        return self.logdensity

    def init(self, position: Vector, rng_key: Key | None = None) -> State:
        return self._sound().init(position)

    def move(self, rng_key: Key, state: State) -> tuple[State, Info]:
        propose_key, decide_key = jax.random.split(rng_key)
        proposal = self._sound().propose(propose_key, state)
        return self._sound().decide(
            decide_key, state, proposal._replace(log_ratio=self._wrong(proposal))
        )

    def _sound(self) -> Transition:
        return Transition(self.logdensity, self.dynamics, self.context)

    def _wrong(self, proposal: Proposal) -> Scalar:
        after, before = (
            jnp.sum(end.momentum**2, axis=0) / 2 for end in (proposal.end, proposal.start)
        )
        right, (ratio, log_det, kinetic) = proposal.log_ratio, self.weights
        wrong = right + ratio * right + log_det * proposal.log_det + kinetic * (after - before)
        return jnp.where(jnp.isfinite(right) & jnp.isfinite(wrong), wrong, -jnp.inf)


def spoiled(kernel: AbstractTransition, bug: Bug) -> AbstractTransition:
    """``kernel`` with a bug in every Metropolis-Hastings step of it, plain HMC moves included.

    Raises TypeError for kernels of other kinds than Transition, Jittered and Mixture.
    """
    match kernel:
        case Mixture():
            return Mixture(
                tuple(spoiled(part, bug) for part in kernel.transitions), kernel.probabilities
            )
        case Jittered():
            return eqx.tree_at(lambda k: k.transition, kernel, spoiled(kernel.transition, bug))
        case Transition(dynamics=dynamics):
            if isinstance(dynamics, LearnedLeapfrog):
                dynamics = _Steered(dynamics, jnp.asarray(bug.one_way))
            weights = jnp.asarray([bug.ratio, bug.log_det, bug.kinetic], jnp.zeros(()).dtype)
            return _Spoiled(kernel.logdensity, dynamics, kernel.context, weights)
    raise TypeError(
        f"cannot spoil {type(kernel).__name__}; known are Transition, Jittered and Mixture"
    )


def stirred(key: Key, kernel: AbstractTransition, *, scale: float = 0.5) -> AbstractTransition:
    """``kernel`` with noise in the last layers of its networks: as exact, with large log-dets."""

    def stir(path: tuple, leaf: Array) -> Array:
        name = jax.tree_util.keystr(path)
        if not name.endswith((".heads", ".heads_bias")):
            return leaf
        noise = jax.random.normal(
            jax.random.fold_in(key, zlib.crc32(name.encode())), leaf.shape, leaf.dtype
        )
        return leaf + scale * noise / leaf.shape[-1] ** (0.5 * (leaf.ndim - 1))

    return jax.tree_util.tree_map_with_path(stir, kernel)


def bugs_of(kernel: AbstractTransition) -> list[str]:
    """Names of the `BUGS` that make this kernel wrong.

    Without a learned part there is no Jacobian to forget, and going forward alone is no bug: the
    momentum's sign is a fair coin already.
    """
    match kernel:
        case Mixture():
            return max((bugs_of(part) for part in kernel.transitions), key=len)
        case Transition(dynamics=LearnedLeapfrog()):
            return [name for name in BUGS if name != "none"]
    return ["inverted ratio", "no kinetic energy"]
