"""From settings and pilot to what is trained, and back to a number for the table."""

from typing import Any

import jax.numpy as jnp

from .._objectives import AbstractObjective, LogESJD, LogJump, PaperLoss, WeightedSum
from .._pilot import Pilot
from ._settings import Settings


def make_objective(settings: Settings, pilot: Pilot) -> AbstractObjective:
    """The objective a setting names: ``log_esjd``, ``log_jump`` or ``paper``.

    Raises ValueError for any other name.
    """
    scale = float(jnp.sqrt(jnp.mean(pilot.variance)))
    match settings.objective:
        case "log_esjd":
            every = LogESJD(
                pilot.mean,
                pilot.variance,
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


def step_size_of(transition: Any) -> Any:
    """The step size of a learned leapfrog."""
    return jnp.exp(transition.dynamics.log_step_size)
