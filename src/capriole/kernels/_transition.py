"""Transitions: Markov kernels that leave the target invariant. Metropolis-Hastings is written here,
once.
"""

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..runtime import Devices, copied, divided
from ._dynamics import AbstractDynamics, CrankNicolson, Leapfrog, Rotation
from ._logdensity import AbstractLogDensity, value_and_grad
from ._types import ChainState, Flag, Info, Key, Phase, Scalar, State, Vector

DIVERGENCE = 1000.0
"""A proposal whose log ratio is below minus this counts as divergent (the convention of Stan and
BlackJAX).
"""


class AbstractTransition(eqx.Module):
    """A kernel: ``init(position)`` makes a state, ``step(rng_key, state)`` moves it (BlackJAX's two
    functions).

    Works on one chain, position ``(dim,)``, or on many, ``(dim, chains)``, with independent
    randomness per chain.
    """

    @property
    @abstractmethod
    def target(self) -> AbstractLogDensity:
        """The log density that the kernel leaves invariant."""

    @abstractmethod
    def init(self, position: Vector, rng_key: Key | None = None) -> ChainState:
        """State at ``position``."""

    @abstractmethod
    def step(self, rng_key: Key, state: ChainState) -> tuple[ChainState, Info]:
        """One step of every chain."""


@eqx.filter_jit
def state_at(logdensity: AbstractLogDensity, position: Vector) -> State:
    """A chain's state at ``position``: log density and gradient evaluated there, in one compiled
    program.
    """
    return State(position, *value_and_grad(logdensity, position))


class Proposal(NamedTuple):
    """A proposed move: both ends in phase space, its direction, log-determinant and log MH ratio."""

    start: Phase
    end: Phase
    forward: Flag
    log_det: Scalar
    log_ratio: Scalar

    @property
    def acceptance(self) -> Scalar:
        """``min(1, exp(log_ratio))`` (paper, equation 3)."""
        return jnp.exp(jnp.minimum(self.log_ratio, 0))


class Transition(AbstractTransition):
    """Metropolis-Hastings around a bijection of phase space (paper, section 3)::

        v ~ N(0, I);  direction ~ {forward, backward};  (x', v') = dynamics or its inverse
        accept with min(1, exp(logdensity(x') - |v'|^2/2 - logdensity(x) + |v|^2/2 + log_det))

    Momentum and direction are drawn anew each step, per chain, independently of everything. A
    proposal that is not finite, in position or ratio, is rejected. ``context``, of shape
    ``(features, *chains)``, conditions the networks and is constant.
    """

    logdensity: AbstractLogDensity
    dynamics: AbstractDynamics
    context: Array | None = None

    @property
    def target(self) -> AbstractLogDensity:
        """The log density."""
        return self.logdensity

    def init(self, position: Vector, rng_key: Key | None = None) -> State:
        """State at ``position`` of shape ``(dim, *chains)``."""
        return state_at(self.logdensity, position)

    def propose(self, rng_key: Key, state: State) -> Proposal:
        """Draw momentum and direction and follow the dynamics; no decision yet (differentiable)."""
        # One draw for both: a second would be one more program to compile. Chains lead in it, so
        # that the first k of
        # them get the same numbers whatever their number.
        dim, *columns = state.position.shape
        normal = jax.random.normal(rng_key, (*columns[::-1], dim + 1), state.position.dtype).T
        momentum, forward = normal[:-1], normal[-1] > 0
        start = Phase(state.position, momentum, state.logdensity, state.logdensity_grad)
        end, log_det = self.dynamics(self.logdensity, start, forward, self.context)
        log_ratio = _log_joint(end) - _log_joint(start) + log_det
        finite = jnp.isfinite(log_ratio) & jnp.all(jnp.isfinite(end.position), axis=0)
        return Proposal(start, end, forward, log_det, jnp.where(finite, log_ratio, -jnp.inf))

    def decide(self, rng_key: Key, state: State, proposal: Proposal) -> tuple[State, Info]:
        """Accept or reject, per chain."""
        uniform = jax.random.uniform(rng_key, proposal.log_ratio.shape, proposal.log_ratio.dtype)
        least = (
            jnp.finfo(uniform.dtype).eps / 2
        )  # it may be 0, whose log would accept whatever is finite
        accepted = jnp.log(jnp.maximum(uniform, least)) < proposal.log_ratio
        end = proposal.end
        proposed = State(end.position, end.logdensity, end.logdensity_grad)
        chosen = State(
            *(jnp.where(accepted, new, old) for new, old in zip(proposed, state, strict=True))
        )
        info = Info(
            acceptance_rate=proposal.acceptance,
            is_accepted=accepted,
            is_divergent=(proposal.log_ratio < -DIVERGENCE) & ~jnp.isneginf(proposal.log_det),
            energy=-_log_joint(proposal.start),
            log_ratio=proposal.log_ratio,
            log_det=proposal.log_det,
            forward=proposal.forward,
            proposal=proposed,
            num_gradients=jnp.full(accepted.shape, self.dynamics.num_gradients, jnp.int32),
        )
        return chosen, info

    def step(self, rng_key: Key, state: State) -> tuple[State, Info]:
        """Propose, then decide, with two independent keys."""
        propose_key, decide_key = jax.random.split(rng_key)
        return self.decide(decide_key, state, self.propose(propose_key, state))


def _log_joint(phase: Phase) -> Scalar:
    return phase.logdensity - jnp.sum(phase.momentum**2, axis=0) / 2


class Jittered(AbstractTransition):
    """HMC whose step size (or angle) is multiplied by a factor drawn anew per chain and step::

        log factor ~ U(log low, log high)

    Breaks the resonances of a fixed trajectory length; a wide range serves a target whose scales
    differ from place to place. Exact, since the factor does not depend on the state.
    """

    transition: Transition
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(
                f"the factor's range must satisfy 0 < low < high, got {self.low} and {self.high}"
            )
        if not isinstance(self.transition.dynamics, Leapfrog | Rotation | CrankNicolson):
            kind = type(self.transition.dynamics).__name__
            raise TypeError(f"only plain dynamics can be jittered, got {kind}")

    @property
    def target(self) -> AbstractLogDensity:
        """The log density of the HMC kernel."""
        return self.transition.logdensity

    def init(self, position: Vector, rng_key: Key | None = None) -> State:
        """State at ``position``."""
        return self.transition.init(position, rng_key)

    def step(self, rng_key: Key, state: State) -> tuple[State, Info]:
        """One HMC step with a freshly drawn step size."""
        jitter_key, step_key = jax.random.split(rng_key)
        shape, dtype = state.logdensity.shape, state.logdensity.dtype
        exponent = jax.random.uniform(
            jitter_key, shape, dtype, math.log(self.low), math.log(self.high)
        )
        dynamics = self.transition.dynamics.scaled(jnp.exp(exponent))  # type: ignore[attr-defined]
        return eqx.tree_at(lambda t: t.dynamics, self.transition, dynamics).step(step_key, state)


class Repeated(AbstractTransition):
    """``num_steps`` steps of a kernel counted as one: for training's companions. For draws use
    ``thin``.

    The record is that of the last step, but for gradients, which are summed, acceptance, which is a
    mean, and whether anything was accepted or divergent.
    """

    transition: AbstractTransition
    num_steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    @property
    def target(self) -> AbstractLogDensity:
        """The log density of the repeated kernel."""
        return self.transition.target

    def init(self, position: Vector, rng_key: Key | None = None) -> ChainState:
        """State at ``position``."""
        return self.transition.init(position, rng_key)

    def step(self, rng_key: Key, state: ChainState) -> tuple[ChainState, Info]:
        """``num_steps`` steps with independent keys; gradients are summed."""
        first, *rest = jax.random.split(rng_key, self.num_steps)
        state, info = self.transition.step(first, state)
        infos = [info]
        for key in rest:
            state, info = self.transition.step(key, state)
            infos.append(info)
        every = jax.tree.map(lambda *values: jnp.stack(values), *infos)
        return state, info._replace(
            num_gradients=every.num_gradients.sum(axis=0),
            acceptance_rate=every.acceptance_rate.mean(axis=0),
            is_accepted=every.is_accepted.any(axis=0),
            is_divergent=every.is_divergent.any(axis=0),
        )


class Mixture(AbstractTransition):
    """Each step picks one of several kernels with fixed probabilities; exact if every one of them
    is.

    The choice is shared by all chains of a step (so only one kernel runs): given the choices,
    chains stay independent, and at stationarity they stay uncorrelated.
    """

    transitions: tuple[AbstractTransition, ...]
    probabilities: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self) -> None:
        if len(self.transitions) != len(self.probabilities):
            raise ValueError(
                f"{len(self.transitions)} transitions but {len(self.probabilities)} probabilities"
            )
        if min(self.probabilities) <= 0 or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(
                f"probabilities must be positive and sum to 1, got {self.probabilities}"
            )
        others = [
            i for i, part in enumerate(self.transitions) if not _same(part.target, self.target)
        ]
        if others:
            raise ValueError(
                f"parts {others} of the mixture are for another target, or in other coordinates, "
                "than the first, so it "
                "would be for neither: make them for the first one's, e.g. hmc(kernel.target, ...)"
            )

    @property
    def target(self) -> AbstractLogDensity:
        """The log density of the first part; all parts share it."""
        return self.transitions[0].target

    def init(self, position: Vector, rng_key: Key | None = None) -> ChainState:
        """State at ``position``; the same for all parts."""
        return self.transitions[0].init(position, rng_key)

    def step(self, rng_key: Key, state: ChainState) -> tuple[ChainState, Info]:
        """One step of a randomly chosen part."""
        choice_key, step_key = jax.random.split(rng_key)
        edges = jnp.cumsum(jnp.asarray(self.probabilities[:-1], state.logdensity.dtype))
        choice = jnp.sum(jax.random.uniform(choice_key, (), edges.dtype) >= edges)
        # Closures, not bound methods: lax.switch hashes its branches, and a module that holds
        # tracers has no hash.
        branches = [
            lambda key, state, part=part: part.step(key, state) for part in self.transitions
        ]
        return jax.lax.switch(choice, branches, step_key, state)


def _same(one: AbstractLogDensity, other: AbstractLogDensity) -> bool:
    """Whether two log densities are one, parts and numbers; those that are being traced count as
    equal.
    """
    if one is other:
        return True
    trees: list[Any] = [jax.tree.structure(one), jax.tree.structure(other)]
    return trees[0] == trees[1] and all(map(_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def _equal(one: Any, other: Any) -> bool:
    if one is other or isinstance(one, jax.core.Tracer) or isinstance(other, jax.core.Tracer):
        return True
    arrays = eqx.is_array_like(one) and eqx.is_array_like(other)
    return bool(np.array_equal(one, other)) if arrays else one == other


def hmc(
    logdensity: AbstractLogDensity,
    *,
    step_size: Array | float,
    num_leapfrogs: int,
    jitter: float = 0.0,
) -> AbstractTransition:
    """Plain HMC with unit mass, the step size jittered by a factor from 1 - jitter to 1 + jitter if
    jitter > 0.
    """
    if num_leapfrogs < 1:
        raise ValueError(f"num_leapfrogs must be at least 1, got {num_leapfrogs}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be 0 or lie strictly between 0 and 1, got {jitter}")
    transition = Transition(logdensity, Leapfrog(jnp.asarray(step_size), num_leapfrogs))
    return Jittered(transition, 1 - jitter, 1 + jitter) if jitter else transition


def per_chain[T: AbstractTransition](transition: T, num_chains: int) -> T:
    """The same kernel with the step sizes and angles of plain dynamics as arrays over chains.

    Kernels that differ in those numbers alone then share one compiled program, with one number for
    all chains or not.
    """

    def spread(part: Any) -> Any:
        match part:
            case Leapfrog():
                return Leapfrog(jnp.broadcast_to(part.step_size, num_chains), part.num_leapfrogs)
            case Rotation():
                return Rotation(jnp.broadcast_to(part.angle, num_chains), part.num_leapfrogs)
            case CrankNicolson():
                return CrankNicolson(jnp.broadcast_to(part.angle, num_chains))
        return part

    return jax.tree.map(spread, transition, is_leaf=lambda part: isinstance(part, AbstractDynamics))


def on_devices[T: AbstractTransition](transition: T, devices: Devices) -> T:
    """A kernel whose chains are divided over ``devices``: contexts divided as they are, all else
    copied.
    """

    def place(part: AbstractTransition | Array) -> AbstractTransition | Array:
        if not isinstance(part, Transition) or part.context is None:
            return copied(part, devices)
        bare = eqx.tree_at(lambda t: t.context, part, None)
        context = divided(part.context, devices)
        return eqx.tree_at(
            lambda t: t.context, copied(bare, devices), context, is_leaf=lambda leaf: leaf is None
        )

    return jax.tree.map(place, transition, is_leaf=lambda part: isinstance(part, Transition))
