"""From settings to what training needs: the objective, and the plain HMC moves around the learned ones."""

from collections.abc import Callable

import jax.numpy as jnp

from .._dynamics import Leapfrog
from .._logdensity import AbstractLogDensity
from .._objectives import AbstractObjective, LogESJD, LogJump, PaperLoss, WeightedSum
from .._pilot import Pilot
from .._transition import AbstractTransition, Jittered, Repeated, Transition
from .._types import Vector
from ._settings import Settings

FEATURES: dict[str, Callable[[Vector], Vector]] = {"arcsinh": jnp.arcsinh}


def hmc_move(settings: Settings, pilot: Pilot, logdensity: AbstractLogDensity) -> AbstractTransition:
    """A plain HMC move whose step size is the pilot's times a log-uniform factor."""
    low, high = settings.companion_range
    return Jittered(Transition(logdensity, Leapfrog(pilot.step_size, settings.companion_leapfrogs)), low, high)


def make_companion(settings: Settings, pilot: Pilot) -> Callable[[AbstractLogDensity], AbstractTransition] | None:
    """The plain HMC moves that follow each learned one in training."""
    if not settings.companion_moves:
        return None
    return lambda logdensity: Repeated(hmc_move(settings, pilot, logdensity), settings.companion_moves)


def make_objective(settings: Settings, pilot: Pilot) -> AbstractObjective:
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
            return WeightedSum((every, LogJump()), (1.0, settings.jump_weight)) if settings.jump_weight else every
        case "log_jump":
            return LogJump()
        case "paper":
            return PaperLoss(scale)
    raise ValueError(f"unknown objective {settings.objective!r}; choose log_esjd, log_jump or paper")
