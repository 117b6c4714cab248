"""The arrays and records that pass through a kernel: phase points, chain states, step records.

Layout of the whole library: features first, chains last. A position has shape ``(dim,)`` for one
chain and ``(dim, chains)`` for many. A log density has shape ``()`` or ``(chains,)``. A formula is
written once, for one chain (``W @ x``, sums over axis 0), and serves both.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

type Key = PRNGKeyArray
"""A typed JAX random key."""
type Vector = Float[Array, "dim *chains"]
"""One value per dimension and chain, shape ``(dim, *chains)``."""
type Scalar = Float[Array, "*chains"]
"""One real number per chain, shape ``(*chains)``."""
type Flag = Bool[Array, "*chains"]
"""One boolean per chain, shape ``(*chains)``."""
type Count = Int[Array, "*chains"]
"""One whole number per chain, shape ``(*chains)``."""


class Phase(NamedTuple):
    """A point of phase space, with the values that the next leapfrog step reuses.

    Attributes:
        position: x, shape ``(dim, *chains)``.
        momentum: v, shape ``(dim, *chains)``.
        logdensity: log density at x, shape ``(*chains)``.
        logdensity_grad: its gradient at x, shape ``(dim, *chains)``.
    """

    position: Vector
    momentum: Vector
    logdensity: Scalar
    logdensity_grad: Vector


class State(NamedTuple):
    """What a chain carries from step to step, in the field order of BlackJAX's ``HMCState``.

    Attributes:
        position: x, shape ``(dim, *chains)``.
        logdensity: log density at x, shape ``(*chains)``.
        logdensity_grad: its gradient at x, shape ``(dim, *chains)``.
    """

    position: Vector
    logdensity: Scalar
    logdensity_grad: Vector


type ChainState = Any
"""`State`, or a kernel's own tuple with these fields and more, such as a momentum that is kept."""


class Info(NamedTuple):
    """What one Metropolis-Hastings step did; arrays over chains.

    Attributes:
        acceptance_rate: acceptance probability, ``min(1, exp(log_ratio))``.
        is_accepted: whether the proposal was accepted.
        is_divergent: whether the log ratio is below ``-DIVERGENCE`` although there was a proposal.
        energy: ``|v|^2 / 2 - logdensity`` at the start of the step.
        log_ratio: log of the Metropolis-Hastings ratio before clipping; ``-inf`` where the proposal
            is not finite.
        log_det: log-determinant of the map. ``-inf`` says that the dynamics has no proposal here:
            the step is rejected, and this is no error.
        forward: direction of the step.
        proposal: the proposed state.
        num_gradients: gradients of the log density that the step evaluated.
    """

    acceptance_rate: Scalar
    is_accepted: Flag
    is_divergent: Flag
    energy: Scalar
    log_ratio: Scalar
    log_det: Scalar
    forward: Flag
    proposal: State
    num_gradients: Count
