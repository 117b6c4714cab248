"""From settings to what training needs: dynamics, objective, plain HMC moves."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from capriole.kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Jittered,
    Key,
    Leapfrog,
    LearnedLeapfrog,
    Mixture,
    Repeated,
    Transition,
    Vector,
    learned_leapfrog,
    rotation_step_sizes,
    surrogate_force,
)
from capriole.sampling import HMCWarmup
from capriole.training import AbstractObjective, LogESJD, LogJump, PaperLoss, WeightedSum

from ._settings import Settings


def with_norm(x: Vector) -> Vector:
    """Positions and, as one more coordinate, |x|."""
    return jnp.concatenate([x, jnp.sqrt(jnp.sum(x**2, axis=0, keepdims=True) + 1e-6)])


FEATURES: dict[str, Callable[[Vector], Vector]] = {"arcsinh": jnp.arcsinh, "norm": with_norm}


def hmc_move(
    settings: Settings, pilot: HMCWarmup, logdensity: AbstractLogDensity
) -> AbstractTransition:
    """A plain HMC move whose step size is the pilot's times a log-uniform factor."""
    low, high = settings.companion_range
    return Jittered(
        Transition(logdensity, Leapfrog(pilot.step_size, settings.companion_leapfrogs)), low, high
    )


def make_companion(
    settings: Settings, pilot: HMCWarmup
) -> Callable[[AbstractLogDensity], AbstractTransition] | None:
    """The plain HMC moves that follow each learned one in training."""
    if not settings.companion_moves:
        return None
    return lambda logdensity: Repeated(
        hmc_move(settings, pilot, logdensity), settings.companion_moves
    )


def make_objective(settings: Settings, pilot: HMCWarmup) -> AbstractObjective:
    """The objective a setting names: ``log_esjd``, ``log_jump`` or ``paper``.

    Raises ValueError for any other name.
    """
    scale = float(jnp.sqrt(jnp.mean(pilot.variance)))
    match settings.objective:
        case "log_esjd":
            mean, variance, feature = pilot.mean, pilot.variance, None
            if settings.feature:
                feature = FEATURES[settings.feature]
                values = feature(pilot.state.position)
                mean, variance = jnp.mean(values, axis=1), jnp.var(values, axis=1)
            every = LogESJD(
                mean,
                variance,
                feature=feature,
                acceptance=settings.acceptance_weight,
                ceiling=settings.ceiling,
                fold=settings.fold,
            )
            return (
                WeightedSum((every, LogJump()), (1.0, settings.jump_weight))
                if settings.jump_weight
                else every
            )
        case "log_jump":
            return LogJump()
        case "paper":
            return PaperLoss(scale)
    raise ValueError(
        f"unknown objective {settings.objective!r}; choose log_esjd, log_jump or paper"
    )


def make_dynamics(key: Key, settings: Settings, pilot: HMCWarmup, dim: int) -> LearnedLeapfrog:
    """What training starts from: networks near HMC, or near a rotation."""
    surrogate = settings.start == "surrogate"
    turn = rotation_step_sizes(math.pi / 2, settings.num_leapfrogs)
    made = learned_leapfrog(
        key,
        dim=dim,
        num_leapfrogs=settings.num_leapfrogs,
        width=settings.width,
        step_size=turn if surrogate else settings.step_size or float(pilot.step_size),
        squashed=settings.squashed,
        dtype=pilot.state.position.dtype,
    )
    return surrogate_force(made, mean=pilot.mean, variance=pilot.variance) if surrogate else made


def step_size_of(kernel: Any) -> Any:
    """The step size of a learned leapfrog (a geometric mean); a mixture's first part."""
    learned: Any = kernel.transitions[0] if isinstance(kernel, Mixture) else kernel
    return jnp.exp(jnp.mean(learned.dynamics.log_step_size))
