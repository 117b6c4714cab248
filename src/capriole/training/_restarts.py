"""Training several candidates and continuing with the best.

Training from random networks and masks can settle in a poor local optimum.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from ..kernels import Key, Transition, Vector
from ..runtime import Devices, Progress
from ._loop import TrainingDivergedError, TrainResult, train_kernel
from ._step import Recipe

type Trainer = Callable[..., TrainResult]
"""Trains one stage: takes the stage's name, then the arguments of `train_kernel`."""


def on_these_devices(devices: Devices | None) -> Trainer:
    """A trainer that runs `train_kernel` and stores nothing.

    Args:
        devices: devices to divide the chains over, or None.

    Returns:
        The trainer.
    """
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
    """Train every candidate for ``candidate_steps``, then the best one for ``num_steps`` more.

    The best one has the lowest mean loss over the last quarter of its steps. A candidate whose
    training collapses is dropped. A single candidate is trained for ``num_steps`` only.

    Args:
        key: random key.
        candidates: kernels to train.
        position: starts of the chains, shape (dim, chains).
        recipe: how to train.
        num_steps: iterations of the best candidate.
        candidate_steps: iterations of every candidate.
        progress: called after every chunk.
        trainer: runs every training in place of `train_kernel`.

    Returns:
        The best candidate with its history; seconds, gradients and counts are sums over everything
        that was trained, dropped candidates' gradients included.

    Raises:
        TrainingDivergedError: the training of every candidate, or of the best one, collapsed.
        ValueError: there is no candidate.
    """
    run = on_these_devices(None) if trainer is None else trainer
    if not candidates:
        raise ValueError("candidates must hold at least one transition, got none")
    if len(candidates) == 1:
        return run(
            "train", key, candidates[0], position, recipe, num_steps=num_steps, progress=progress
        )
    results: list[TrainResult] = []
    dropped = 0
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
            dropped += error.num_gradients
            if not results and i + 1 == len(candidates):
                raise
            continue
        if not results[-1].completed:
            break
    winner = min(results, key=_final_loss)
    if not results[-1].completed:
        return _total(winner, results, dropped)
    final_key = jax.random.fold_in(key, len(candidates))
    start = winner.chains.position
    final = run(
        "train", final_key, winner.transition, start, recipe, num_steps=num_steps, progress=progress
    )
    history = {
        name: np.concatenate([winner.history[name], final.history[name]]) for name in final.history
    }
    return _total(final._replace(history=history), [*results, final], dropped)


def _final_loss(result: TrainResult) -> float:
    """Mean of the finite losses in the last quarter; infinite unless more than half are finite."""
    loss = result.history["loss"]
    last = loss[-max(1, len(loss) // 4) :]
    finite = last[np.isfinite(last)]
    return float(np.mean(finite)) if 2 * len(finite) > len(last) else float("inf")


def _total(kept: TrainResult, everything: list[TrainResult], dropped: int) -> TrainResult:
    """``kept`` with the costs of everything; ``dropped``: gradients of dropped candidates."""
    return kept._replace(
        num_gradients=dropped + sum(r.num_gradients for r in everything),
        seconds=sum(r.seconds for r in everything),
        compile_seconds=sum(r.compile_seconds for r in everything),
        skipped_updates=sum(r.skipped_updates for r in everything),
        rollbacks=sum(r.rollbacks for r in everything),
        completed=everything[-1].completed,
    )
