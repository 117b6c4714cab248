"""Several starts, one winner: training from random networks and masks can settle in a poor local
optimum.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from ..kernels import Key, Transition, Vector
from ..runtime import Devices, Progress
from ._loop import Recipe, TrainingDivergedError, TrainResult, train_kernel

type Trainer = Callable[..., TrainResult]
"""Runs one training stage: called with the stage's name and then the arguments of `train_kernel`."""


def on_these_devices(devices: Devices | None) -> Trainer:
    """The trainer that is `train_kernel` on ``devices`` and keeps nothing."""
    return lambda stage, *args, **options: train_kernel(*args, devices=devices, **options)


def train_best(
    key: Key,
    candidates: Sequence[Transition],
    position: Vector,
    recipe: Recipe,
    *,
    num_steps: int,
    candidate_steps: int,
    progress: Callable[[Progress], None] | None = None,
    trainer: Trainer | None = None,
) -> TrainResult:
    """Train every candidate for ``candidate_steps``, then the one with the lowest loss for
    ``num_steps`` more.

    A single candidate is just trained for ``num_steps``. The loss compared is the mean over the
    last quarter. The result's history is the winner's; its seconds, gradients and counts are the
    sum over everything that was done. A candidate whose training collapses is out, its gradients
    count; `TrainingDivergedError` if all do. ``trainer`` does each of these trainings in place of
    `train_kernel`; it gets the stage's name as well.
    """
    run = on_these_devices(None) if trainer is None else trainer
    if not candidates:
        raise ValueError("candidates must hold at least one transition, got none")
    if len(candidates) == 1:
        return run(
            "train", key, candidates[0], position, recipe, num_steps=num_steps, progress=progress
        )
    results: list[TrainResult] = []
    lost = 0
    for i, candidate in enumerate(candidates):
        key_i = jax.random.fold_in(key, i)
        stage = f"train-candidate-{i}"
        try:
            results.append(
                run(
                    stage,
                    key_i,
                    candidate,
                    position,
                    recipe,
                    num_steps=candidate_steps,
                    progress=progress,
                )
            )
        except TrainingDivergedError as error:
            lost += error.num_gradients
            if not results and i + 1 == len(candidates):
                raise
            continue
        if not results[-1].completed:
            break
    winner = min(results, key=_final_loss)
    if not results[-1].completed:
        return _total(winner, results, lost)
    final_key = jax.random.fold_in(key, len(candidates))
    start = winner.chains.position
    final = run(
        "train", final_key, winner.transition, start, recipe, num_steps=num_steps, progress=progress
    )
    history = {
        name: np.concatenate([winner.history[name], final.history[name]]) for name in final.history
    }
    return _total(final._replace(history=history), [*results, final], lost)


def _final_loss(result: TrainResult) -> float:
    """The mean over the last quarter, of the steps whose loss was finite; infinite if those are not
    the most.
    """
    loss = result.history["loss"]
    last = loss[-max(1, len(loss) // 4) :]
    finite = last[np.isfinite(last)]
    return float(np.mean(finite)) if 2 * len(finite) > len(last) else float("inf")


def _total(kept: TrainResult, everything: list[TrainResult], lost: int) -> TrainResult:
    return kept._replace(
        num_gradients=lost + sum(r.num_gradients for r in everything),
        seconds=sum(r.seconds for r in everything),
        compile_seconds=sum(r.compile_seconds for r in everything),
        skipped_updates=sum(r.skipped_updates for r in everything),
        rollbacks=sum(r.rollbacks for r in everything),
        completed=everything[-1].completed,
    )
