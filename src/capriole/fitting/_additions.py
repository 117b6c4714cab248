"""Small HMC steps and finer rotations: they free chains where a candidate's moves are hopeless."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from ..kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Jittered,
    Leapfrog,
    Mixture,
    Rotation,
    Transition,
)
from ._budget import Account
from ._candidate import Addition, Candidate
from ._thresholds import LADDER

_HMC_LEAPFROGS = 5
"""Leapfrog steps of a plain HMC move."""
HMC_SHARE = 0.2
"""Share of all gradients that plain HMC moves have in a mixture."""
_SMALLEST_FACTOR = 0.01
"""Smallest factor of the warm-up's step size."""


def hmc_move(
    step_size: float, logdensity: AbstractLogDensity, *, largest: float = 3.0
) -> AbstractTransition:
    """Plain HMC of five leapfrogs with a step size that varies by orders of magnitude.

    Args:
        step_size: The step size to vary.
        logdensity: The target.
        largest: Largest factor; the smallest is 0.01, and factors are log-uniform.

    Returns:
        The kernel.
    """
    plain = Transition(logdensity, Leapfrog(jnp.asarray(step_size), _HMC_LEAPFROGS))
    return Jittered(plain, _SMALLEST_FACTOR, largest)


def with_small_steps(candidate: Candidate, step_size: float, account: Account) -> Candidate:
    """The candidate with plain HMC moves of small steps mixed in, not measured yet.

    The moves have a fifth of all gradients. A chain that sits where the candidate's own proposals
    are hopeless, as deep in a funnel's neck, is freed by one of them.

    Args:
        candidate: What they are mixed into.
        step_size: The warm-up's step size, the largest of the moves.
        account: Where its costs go.

    Returns:
        The mixture.
    """
    kernel = candidate.kernel
    small = hmc_move(step_size, kernel.target, largest=1.0)
    leapfrogs = candidate.num_leapfrogs or 1
    share = leapfrogs / (leapfrogs + (1 / HMC_SHARE - 1) * _HMC_LEAPFROGS)
    return candidate.with_addition(
        Addition.HMC,
        transition=Mixture((kernel, small), (1 - share, share)),
        account=account,
        shared=(candidate.account, *candidate.shared),
        found=None,
    )


def with_finer_steps(candidate: Candidate, account: Account) -> Candidate | None:
    """The candidate with its rotations one rung up the ladder of lengths, not measured yet.

    Args:
        candidate: What is made finer. One that has finer steps already is replaced.
        account: Where its costs go.

    Returns:
        The finer one; None if it has no rotations, or the longest.
    """

    def is_rotation(node: object) -> bool:
        return isinstance(node, Rotation)

    def finer(node: Any) -> Any:
        if not is_rotation(node):
            return node
        above = _rung_above(int(node.num_leapfrogs)) or int(node.num_leapfrogs)
        return Rotation(node.angle, jnp.asarray(above))

    kernel, length = candidate.kernel, candidate.num_leapfrogs or 1
    rotations = [n for n in jax.tree.leaves(kernel, is_leaf=is_rotation) if is_rotation(n)]
    if all(_rung_above(int(rotation.num_leapfrogs)) is None for rotation in rotations):
        return None
    changes: dict[str, Any] = {
        "transition": jax.tree.map(finer, kernel, is_leaf=is_rotation),
        "num_leapfrogs": _rung_above(length) or length,
        "found": None,
    }
    if candidate.additions[-1:] == (Addition.FINER_STEPS,):
        return replace(candidate, **changes)
    shared = (candidate.account, *candidate.shared)
    return candidate.with_addition(Addition.FINER_STEPS, account=account, shared=shared, **changes)


def _rung_above(num_leapfrogs: int) -> int | None:
    return next((m for m in LADDER if m > num_leapfrogs), None)
