"""Targets with exact draws: many of them take a few transitions and must still be exact draws."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capriole.kernels import AbstractTransition, Key, Tempered

from ..targets import AbstractExactTarget
from ._cases import Case, cases, row
from ._controls import spoiled
from ._models import retargeted
from ._settings import SHARE, CalibrateSettings
from ._statistics import found_distance
from ._walk import invariance_p, walk

PROCEDURE = "exact draws"


def examine_target(
    target: AbstractExactTarget, kernel: AbstractTransition, key: Key, settings: CalibrateSettings
) -> dict[str, Any]:
    """The rows of all cases, and the smallest distance between distributions that is rejected."""
    start_key, fresh_key, walk_key = jax.random.split(key, 3)
    start = target.sample(start_key, settings.num_draws)
    fresh = np.asarray(target.sample(fresh_key, settings.num_draws))
    rows: list[dict[str, Any]] = []
    for i, case in enumerate(cases(kernel, slight=True)):
        found = walk(
            jax.random.fold_in(walk_key, i),
            _kernel_of(case, kernel, target),
            start,
            num_steps=settings.num_steps,
        )
        p_values = invariance_p(target, found.end, fresh)
        moved = float(
            np.mean((found.end - np.asarray(start)) ** 2 / np.var(fresh, axis=1, keepdims=True))
        )
        facts = {
            "acceptance_rate": found.acceptance_rate,
            "log_det_sd": found.log_det_sd,
            "squared_jump": moved,
        }
        rows.append(row(PROCEDURE, case, p_values, **facts))
    band = found_distance(SHARE / len(rows[0]["p_values"]), settings.num_draws / 2)
    return {"rows": rows, "band": band}


def _kernel_of(
    case: Case, kernel: AbstractTransition, target: AbstractExactTarget
) -> AbstractTransition:
    if case.bug is None:
        return case.of(kernel)
    return spoiled(
        retargeted(case.of(kernel), Tempered(target, jnp.asarray(1 / case.power))), case.bug
    )
