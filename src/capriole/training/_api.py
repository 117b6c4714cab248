"""``capriole.train``: from a log density to a trained kernel."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

from ..diagnostics import training_health
from ..kernels import Key, Transition, learned_leapfrog
from ..models import check_count, trainable
from ..runtime import Devices, Progress
from ..sampling import run_pilot
from ._loop import Recipe, TrainResult
from ._objectives import AbstractObjective, LogESJD
from ._restarts import Trainer, on_these_devices, train_best
from ._schedules import adam, cooling, decay

if TYPE_CHECKING:
    pass
from ..sampling import as_key, prepare

log = logging.getLogger("capriole")


def train(
    logdensity: Callable,
    init: Any = None,
    *,
    seed: int | Key = 0,
    num_leapfrogs: int = 10,
    width: int | None = None,
    step_size: float | None = None,
    num_steps: int = 5000,
    num_chains: int = 200,
    num_candidates: int = 1,
    learning_rate: float = 5e-3,
    objective: AbstractObjective | None = None,
    start_temperature: float = 1.0,
    spread: float = 1.0,
    devices: Devices | None = None,
    progress: Callable[[Progress], None] | None = None,
    resume: Trainer | None = None,
) -> TrainResult:
    """Train a learned leapfrog on ``logdensity`` and return the frozen kernel with its history.

    ``logdensity`` maps one position (any pytree of arrays shaped like ``init``) to its unnormalised
    log density, a scalar; or it is one of capriole's targets, and ``init`` may be left out. Chains
    start at ``init + spread * N(0, I)``; a short run of plain HMC then finds the typical set, the
    step size (unless given) and the scales for the objective (default `LogESJD`; networks of
    ``width`` max(10, 2 dim) up to 100 units). With ``num_candidates`` above 1, that many kernels
    are trained for a quarter of the steps first and the best of them goes on: a remedy where
    training settles in a poor kernel. ``start_temperature`` above 1 flattens the density at first
    and cools it over the first 70 % of the steps, for targets with several modes (give ``spread``
    wide enough to reach them all).

    ``devices``, e.g. ``jax.devices()``, divides the chains evenly over several devices. ``resume``
    keeps checkpoints and goes on from them, if there are any: `capriole.runs.CheckpointedTrainer`,
    which takes ``devices`` itself.

    If the log density has no second derivative the force is held constant in the training signal,
    and the log says so; the kernel stays exact. Raises ValueError for a log density or init that
    cannot work (see the message), `TrainingDivergedError` if training collapses for good.
    """
    if resume is not None and devices is not None:
        raise ValueError(
            "devices has no effect together with resume; give it to "
            "CheckpointedTrainer(devices=...)"
        )
    key = as_key(seed)
    num_leapfrogs, num_steps = (
        check_count("num_leapfrogs", num_leapfrogs, 1),
        check_count("num_steps", num_steps, 1),
    )
    num_candidates = check_count("num_candidates", num_candidates, 1)
    if not 0 < start_temperature < 1e300:
        raise ValueError(
            f"start_temperature must be positive and finite, got {start_temperature} (1: the "
            "target)"
        )
    start_key, pilot_key, build_key, train_key = jax.random.split(key, 4)
    target, position = prepare(logdensity, init, start_key, num_chains=num_chains, spread=spread)
    training_target, smooth = trainable(target, position[:, 0])
    if not smooth:
        log.warning(
            "the log density has no second derivative: training holds its force constant (the "
            "kernel is exact)"
        )
    pilot = run_pilot(pilot_key, target, position, num_leapfrogs=num_leapfrogs)
    dim = position.shape[0]
    candidates = [
        learned_leapfrog(
            jax.random.fold_in(build_key, i),
            dim=dim,
            num_leapfrogs=num_leapfrogs,
            step_size=float(pilot.step_size) if step_size is None else step_size,
            width=min(max(10, 2 * dim), 100) if width is None else width,
            dtype=position.dtype,
        )
        for i in range(num_candidates)
    ]
    recipe = Recipe(
        objective=LogESJD(pilot.mean, pilot.variance, acceptance=3.0, ceiling=2.1)
        if objective is None
        else objective,
        optimizer=adam(decay(learning_rate, num_steps=num_steps)),
        temperature=cooling(start_temperature, num_steps=int(0.7 * num_steps))
        if start_temperature != 1
        else None,
    )
    result = train_best(
        train_key,
        [Transition(training_target, dynamics) for dynamics in candidates],
        pilot.state.position,
        recipe,
        num_steps=num_steps,
        candidate_steps=max(1, num_steps // 4),
        progress=progress,
        trainer=on_these_devices(devices) if resume is None else resume,
    )
    for warning in training_health(
        *(result.history[name] for name in ("loss", "acceptance_rate", "is_skipped"))
    ):
        log.warning("training: %s", warning)
    return result._replace(
        transition=eqx.tree_at(lambda t: t.logdensity, result.transition, target),
        num_gradients=result.num_gradients + pilot.num_gradients,
    )
