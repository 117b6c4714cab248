"""The data that flows through a kernel: phase-space points, chain states, step records.

Convention of the whole library: *features first, chains last*. A position has shape ``(dim,)`` for
one chain or ``(dim, chains)`` for many; a log density has shape ``()`` or ``(chains,)``. Every
formula is written once, reads like one chain (``W @ x``, sums over axis 0) and serves both.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

type Key = PRNGKeyArray
type Vector = Float[Array, "dim *chains"]
type Scalar = Float[Array, "*chains"]
type Flag = Bool[Array, "*chains"]
type Count = Int[Array, "*chains"]


class Phase(NamedTuple):
    """A point of phase space, with the log density and gradient that the next leapfrog step reuses."""

    position: Vector
    momentum: Vector
    logdensity: Scalar
    logdensity_grad: Vector


class State(NamedTuple):
    """What a chain carries from step to step (field order of BlackJAX's ``HMCState``)."""

    position: Vector
    logdensity: Scalar
    logdensity_grad: Vector


type ChainState = Any
"""`State`, or a kernel's own tuple that has its fields and more (a momentum kept from step to
step).
"""


class Info(NamedTuple):
    """What one Metropolis-Hastings step did, per chain.

    ``energy`` is ``|v|^2 / 2 - logdensity`` at the start of the step; ``log_ratio`` is the log of
    the Metropolis-Hastings ratio before clipping, ``-inf`` where the proposal was not finite. Where
    ``log_det`` is ``-inf`` as well the dynamics had no proposal: the step is rejected, but nothing
    is wrong.
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
