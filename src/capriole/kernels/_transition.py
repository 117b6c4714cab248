"""Metropolis-Hastings around a dynamics; the acceptance step is written only here."""

from abc import abstractmethod
from typing import Any, NamedTuple, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._dynamics import AbstractDynamics
from ._logdensity import AbstractLogDensity, value_and_grad
from ._types import ChainState, Flag, Info, Key, Phase, Scalar, State, Vector

DIVERGENCE = 1000.0
"""Nats; a log ratio below minus this is divergent, as in Stan and BlackJAX."""


class AbstractTransition(eqx.Module):
    """A Markov kernel: ``init`` makes a state, and ``move`` goes one step on.

    Both take one chain, position ``(dim,)``, or many, ``(dim, chains)``. Randomness is independent
    between chains. Positions are in the coordinates of ``target``, which are white ones in a kernel
    that `fit` found. `capriole.coordinates.to_user` maps them back, and so do `capriole.sample` and
    `capriole.as_blackjax`.
    """

    @property
    @abstractmethod
    def target(self) -> AbstractLogDensity:
        """The log density that the kernel leaves invariant."""

    @abstractmethod
    def init(self, position: Vector, rng_key: Key | None = None) -> ChainState:
        """Make the state of a chain.

        Args:
            position: shape ``(dim, *chains)``.
            rng_key: random key, for kernels whose state holds random parts.

        Returns:
            The state at ``position``.
        """

    @abstractmethod
    def move(self, rng_key: Key, state: ChainState) -> tuple[ChainState, Info]:
        """Move every chain by one step.

        Args:
            rng_key: random key.
            state: current state.

        Returns:
            The next state, and the record of the step.
        """

    def step(self, *_: Any) -> NoReturn:
        """Refuse BlackJAX's loops, which would return the kernel's own coordinates unseen.

        Raises:
            TypeError: always; it names what to use instead.
        """
        raise TypeError(
            "a kernel's positions are in its own coordinates: use capriole.as_blackjax(kernel, "
            "init) in a loop of BlackJAX, or kernel.move and capriole.coordinates.to_user"
        )


@eqx.filter_jit
def state_at(logdensity: AbstractLogDensity, position: Vector) -> State:
    """A chain's state at a position, evaluated in one compiled program.

    Args:
        logdensity: the log density.
        position: shape ``(dim, *chains)``.

    Returns:
        The state, with log density and gradient.
    """
    return State(position, *value_and_grad(logdensity, position))


class Proposal(NamedTuple):
    """A proposed move.

    Attributes:
        start: phase point before the move.
        end: phase point after the move.
        forward: direction, shape ``(*chains)``.
        log_det: log-determinant of the map, shape ``(*chains)``.
        log_ratio: log of the Metropolis-Hastings ratio, shape ``(*chains)``.
    """

    start: Phase
    end: Phase
    forward: Flag
    log_det: Scalar
    log_ratio: Scalar

    @property
    def acceptance(self) -> Scalar:
        """Acceptance probability ``min(1, exp(log_ratio))`` (Levy et al. 2018, equation 3)."""
        return jnp.exp(jnp.minimum(self.log_ratio, 0))


class Transition(AbstractTransition):
    """Metropolis-Hastings around a bijection of phase space::

        v ~ N(0, I);  direction ~ {forward, backward};  (x', v') = dynamics or its inverse
        A = min(1, exp(logdensity(x') - |v'|^2/2 - logdensity(x) + |v|^2/2 + log_det))

    Momentum and direction are drawn at each step, independently for each chain. A proposal whose
    position or ratio is not finite is rejected.

    Attributes:
        logdensity: target log density.
        dynamics: the bijection.
        context: constant features that condition the networks, shape ``(features, *chains)``.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, section 3 and equation 3.
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
        """Draw momentum and direction, and apply the dynamics; differentiable.

        Args:
            rng_key: random key.
            state: current state.

        Returns:
            The proposal, not yet accepted or rejected.
        """
        # One draw for momentum and direction, because each draw is a program to compile.
        # Chains come first in it, so chain k gets the same numbers however many chains there are.
        dim, *columns = state.position.shape
        normal = jax.random.normal(rng_key, (*columns[::-1], dim + 1), state.position.dtype).T
        momentum, forward = normal[:-1], normal[-1] > 0
        start = Phase(state.position, momentum, state.logdensity, state.logdensity_grad)
        end, log_det = self.dynamics(self.logdensity, start, forward, self.context)
        log_ratio = _log_joint(end) - _log_joint(start) + log_det
        finite = jnp.isfinite(log_ratio) & jnp.all(jnp.isfinite(end.position), axis=0)
        return Proposal(start, end, forward, log_det, jnp.where(finite, log_ratio, -jnp.inf))

    def decide(self, rng_key: Key, state: State, proposal: Proposal) -> tuple[State, Info]:
        """Accept or reject a proposal, per chain.

        Args:
            rng_key: random key, independent of the one that made the proposal.
            state: current state.
            proposal: result of `propose` for this state.

        Returns:
            The next state, and the record of the step.
        """
        uniform = jax.random.uniform(rng_key, proposal.log_ratio.shape, proposal.log_ratio.dtype)
        # The uniform may be 0, and log 0 would accept every finite proposal.
        least = jnp.finfo(uniform.dtype).eps / 2
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

    def move(self, rng_key: Key, state: State) -> tuple[State, Info]:
        """Propose, then decide, with two independent keys."""
        propose_key, decide_key = jax.random.split(rng_key)
        return self.decide(decide_key, state, self.propose(propose_key, state))


def _log_joint(phase: Phase) -> Scalar:
    """Log density of position and momentum, up to a constant: ``logdensity(x) - |v|^2 / 2``."""
    return phase.logdensity - jnp.sum(phase.momentum**2, axis=0) / 2
