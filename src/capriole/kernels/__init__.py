"""Markov kernels of the library: log densities, networks, dynamics and Metropolis-Hastings.

Read the files in this order: `_types` (arrays and records), `_logdensity`, `_networks` (S, Q and
T), `_dynamics` (the paper's update equations), `_plain_dynamics` (HMC, rotation, pCN),
`_transition` (acceptance), `_composite_transitions` (jitter, repetition, mixture), then the special
cases `_mode_jump`, `_surrogate_force` and `_divided`; and `_second_derivatives`, of a log density.
"""

from ._composite_transitions import Jittered, Mixture, Repeated, hmc, per_chain
from ._divided import Divided, on_devices
from ._dynamics import AbstractDynamics, LearnedLeapfrog, affine, draw_masks, learned_leapfrog
from ._logdensity import (
    AbstractLogDensity,
    PerChain,
    Prepared,
    StoppedForce,
    Tempered,
    value_and_grad,
)
from ._mode_jump import ModeJump
from ._networks import MLP, SQT, AbstractNetwork, Squashed, column, linear
from ._plain_dynamics import CrankNicolson, Leapfrog, Rotation, rotation_step_sizes
from ._second_derivatives import (
    SecondDerivatives,
    has_second_derivative,
    second_derivatives,
)
from ._surrogate_force import surrogate_force
from ._transition import DIVERGENCE, AbstractTransition, Proposal, Transition, state_at
from ._types import ChainState, Flag, Info, Key, Phase, Scalar, State, Vector

__all__ = [
    "DIVERGENCE",
    "MLP",
    "SQT",
    "AbstractDynamics",
    "AbstractLogDensity",
    "AbstractNetwork",
    "AbstractTransition",
    "ChainState",
    "CrankNicolson",
    "Divided",
    "Flag",
    "Info",
    "Jittered",
    "Key",
    "Leapfrog",
    "LearnedLeapfrog",
    "Mixture",
    "ModeJump",
    "PerChain",
    "Phase",
    "Prepared",
    "Proposal",
    "Repeated",
    "Rotation",
    "Scalar",
    "SecondDerivatives",
    "Squashed",
    "State",
    "StoppedForce",
    "Tempered",
    "Transition",
    "Vector",
    "affine",
    "column",
    "draw_masks",
    "has_second_derivative",
    "hmc",
    "learned_leapfrog",
    "linear",
    "on_devices",
    "per_chain",
    "rotation_step_sizes",
    "second_derivatives",
    "state_at",
    "surrogate_force",
    "value_and_grad",
]
