"""Stages that are stored whole: the pilot, with the target's fingerprint; HMC's tuning."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capriole.kernels import AbstractLogDensity, Key, Vector, hmc
from capriole.runs import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    check_fingerprint,
    fingerprint,
    number,
)
from capriole.sampling import HMCWarmup, run_hmc_warmup

from ..baselines import HMCTuning, tune_hmc

PILOT = "pilot"
_COUNT = "num_gradients"
_APART = ("state", _COUNT, "positions")
"""What of a pilot is not an array of its own name; the path that led to it (``positions``) is never
asked for.
"""


def stored_pilot(
    checkpoints: Checkpoints,
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    num_leapfrogs: int,
) -> HMCWarmup:
    """The pilot, run once and then read back.

    Raises `CheckpointError` if the log density is not the one that the stored pilot ran on: at
    three of its positions the values must agree to 8 rounding errors.
    """
    found = checkpoints.read(PILOT)
    if found is not None:
        return _checked_pilot(found, logdensity, position)
    pilot = run_hmc_warmup(key, logdensity, position, num_leapfrogs=num_leapfrogs)
    arrays = {
        name: np.asarray(value) for name, value in pilot._asdict().items() if name not in _APART
    }
    arrays |= {f"state/{name}": np.asarray(value) for name, value in pilot.state._asdict().items()}
    arrays |= fingerprint(logdensity, pilot.state.position)
    checkpoints.write(PILOT, 1, arrays, {_COUNT: int(pilot.num_gradients)})
    return pilot


def _checked_pilot(
    found: Checkpoint, logdensity: AbstractLogDensity, position: Vector
) -> HMCWarmup:
    shapes = jax.eval_shape(lambda: run_hmc_warmup(jax.random.key(0), logdensity, position))
    arrays = dict(found.arrays)
    check_fingerprint(arrays, logdensity, dim=position.shape[0], num=position.shape[1])
    state = type(shapes.state)(
        *(_take(arrays, f"state/{name}", leaf) for name, leaf in shapes.state._asdict().items())
    )
    rest = {
        name: _take(arrays, name, leaf)
        for name, leaf in shapes._asdict().items()
        if name not in _APART
    }
    return HMCWarmup(state=state, num_gradients=number(found.facts, _COUNT), positions=None, **rest)


def _take(arrays: dict[str, np.ndarray], name: str, like: jax.ShapeDtypeStruct) -> jax.Array:
    value = arrays.get(name)
    if value is None or (value.shape, value.dtype) != (like.shape, like.dtype):
        raise CheckpointError(
            f"the stored pilot has no {name} of shape {like.shape} and {like.dtype}"
        )
    return jnp.asarray(value)


def stored_tuning(
    checkpoints: Checkpoints,
    stage: str,
    key: Key,
    logdensity: Any,
    position: Vector,
    score: Any,
    **options: Any,
) -> HMCTuning:
    """`tune_hmc`, run once and then read back."""
    found = checkpoints.read(stage)
    if found is None:
        tuning = tune_hmc(key, logdensity, position, score, **options)
        arrays = {
            name: np.asarray(getattr(tuning, name))
            for name in ("step_sizes", "scores", "acceptance_rates")
        }
        checkpoints.write(
            stage, 1, arrays, {_COUNT: tuning.num_gradients, "step_size": tuning.step_size}
        )
        return tuning
    if found.arrays.keys() != {"step_sizes", "scores", "acceptance_rates"}:
        raise CheckpointError(f"the stored tuning {stage!r} is not complete")
    size = number(found.facts, "step_size", kind=float)
    step_size = jnp.asarray(size, position.dtype)
    kernel = hmc(logdensity, step_size=step_size, num_leapfrogs=options["num_leapfrogs"])
    return HMCTuning(kernel, size, num_gradients=number(found.facts, _COUNT), **found.arrays)
