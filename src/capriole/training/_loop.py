"""Training: a host loop over compiled chunks of iterations, with rollbacks and snapshots."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..kernels import (
    Key,
    LearnedLeapfrog,
    State,
    Transition,
    Vector,
    on_devices,
)
from ..runtime import (
    CompileClock,
    Devices,
    Pace,
    Progress,
    check_devices,
    copied,
    divided,
    pulse,
    whole,
)
from ._step import Metrics, Recipe, TrainState, init_train_state, train_step

LOG_STEP_REDUCTION = 0.36
"""Subtracted from the log step size after a chunk is undone: 30 % smaller steps."""
MOST_SKIPPED = 0.5
"""Share of skipped updates in a chunk above which the chunk is undone."""
LAST_SHARE = 5
"""The acceptance of a chunk is that of the last one in so many of its iterations."""


class TrainResult(NamedTuple):
    """The trained kernel, its history, and what it cost.

    Attributes:
        transition: the frozen kernel.
        chains: state of the chains that it was trained on.
        history: one array per field of `Metrics`, shape (iterations,).
        num_gradients: gradients of the log density, summed over chains, those of undone chunks
            included.
        seconds: time spent, without compiling.
        compile_seconds: time spent compiling.
        skipped_updates: iterations whose gradient was not finite.
        rollbacks: chunks that were undone.
        completed: False if training was interrupted; the kernel is then the one reached.
    """

    transition: Transition
    chains: State
    history: dict[str, np.ndarray]
    num_gradients: int
    seconds: float
    compile_seconds: float
    skipped_updates: int
    rollbacks: int
    completed: bool


class Snapshot(NamedTuple):
    """Training after a whole chunk; `train_kernel` continues from it bit for bit.

    Attributes:
        train_state: the state reached.
        history: as in `TrainResult`.
        rollbacks: chunks that were undone.
        undone: gradients of those chunks, summed over chains.
        seconds: time spent, without compiling.
        compile_seconds: time spent compiling.
    """

    train_state: TrainState
    history: dict[str, np.ndarray]
    rollbacks: int
    undone: int
    seconds: float
    compile_seconds: float


class TrainingDivergedError(RuntimeError):
    """Training collapsed and did not recover; the message says what to change.

    Attributes:
        num_gradients: gradients that were spent on it, summed over chains.
    """

    def __init__(self, message: str, num_gradients: int = 0):
        super().__init__(message)
        self.num_gradients = num_gradients


@eqx.filter_jit
def _train_chunk(
    key: Key,
    train_state: TrainState,
    recipe: Recipe,
    num_steps: Int[Array, ""],
    capacity: int,
    devices: tuple[jax.Device, ...] | None,
) -> tuple[TrainState, Metrics]:
    """``num_steps`` iterations, at most ``capacity``.

    The loop's length is data, so a short last chunk does not compile again.
    """
    arrays, static = eqx.partition(train_state, eqx.is_array)

    def body(i: Array, carry: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
        state = eqx.combine(carry[0], static)
        state, metrics = train_step(jax.random.fold_in(key, state.step), state, recipe, devices)
        return eqx.filter(state, eqx.is_array), jax.tree.map(
            lambda kept, new: kept.at[i].set(new), carry[1], metrics
        )

    dtype = train_state.chains.logdensity.dtype
    empty = Metrics(
        *(jnp.zeros(capacity, bool if name == "is_skipped" else dtype) for name in Metrics._fields)
    )
    arrays, metrics = jax.lax.fori_loop(0, num_steps, body, (arrays, empty))
    return eqx.combine(arrays, static), metrics


def train_kernel(
    key: Key,
    transition: Transition,
    position: Vector,
    recipe: Recipe,
    *,
    num_steps: int,
    chunk_size: int = 250,
    min_acceptance: float = 0.01,
    max_rollbacks: int = 10,
    progress: Callable[[Progress], None] | None = None,
    resume: Snapshot | None = None,
    checkpoint: Callable[[Snapshot], None] | None = None,
    devices: Devices | None = None,
) -> TrainResult:
    """Train the dynamics of a kernel.

    A chunk is undone if it ends with mean acceptance below ``min_acceptance``, has skipped more
    than half of its updates, or leaves a parameter that is not finite. It is tried again from the
    last good state, with other random numbers and steps 30 % smaller. KeyboardInterrupt ends
    training and returns what was reached in whole chunks. On one device a chunk runs in pieces of
    about half a second, after each of which a stop is heard.

    Chains on several devices sum their gradients in every iteration; the result is that of one
    device up to rounding. The arrays of a snapshot are then divided as well.

    Args:
        key: random key; the same as before to resume.
        transition: the kernel to train.
        position: starts of the chains, shape (dim, chains).
        recipe: how to train.
        num_steps: iterations in all.
        chunk_size: iterations per compiled chunk.
        min_acceptance: mean acceptance below which a chunk is undone.
        max_rollbacks: undone chunks in a row after which training fails.
        progress: called after every chunk.
        resume: a snapshot to continue from. With everything else the same, the result is that of a
            run that was never stopped.
        checkpoint: called with a snapshot after every chunk, before ``progress``.
        devices: devices to divide the chains evenly over, for example ``jax.devices()``.

    Returns:
        The frozen kernel, its history, and what it cost.

    Raises:
        TrainingDivergedError: ``max_rollbacks`` chunks in a row were undone.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, Algorithm 1.
    """
    state = init_train_state(transition, position, recipe) if resume is None else resume.train_state
    chunks: list[Metrics] = [] if resume is None else [Metrics(**resume.history)]
    rollbacks, in_a_row, completed = 0 if resume is None else resume.rollbacks, 0, True
    before = (0.0, 0.0) if resume is None else (resume.seconds, resume.compile_seconds)
    done, undone = sum(len(chunk.loss) for chunk in chunks), 0 if resume is None else resume.undone
    pace = Pace()
    if devices is not None:
        check_devices(devices, position.shape[1])
        devices = tuple(devices)
        state, key, recipe = _spread(state, devices), copied(key, devices), copied(recipe, devices)
    with CompileClock() as clock:
        try:
            while done < num_steps:
                length = min(chunk_size, num_steps - done)
                attempt = jax.random.fold_in(key, rollbacks)
                candidate, pieces, at = state, list[Metrics](), 0
                while at < length:
                    pulse(done + at, num_steps)
                    size = pace.next(length - at) if devices is None else length
                    steps = jnp.asarray(size)
                    steps = steps if devices is None else copied(steps, devices)
                    begun = time.perf_counter()
                    candidate, piece = _train_chunk(
                        attempt, candidate, recipe, steps, chunk_size, devices
                    )
                    pieces.append(Metrics(*(np.asarray(kept)[:size] for kept in piece)))
                    pace.took(size, time.perf_counter() - begun)
                    at += size
                metrics = Metrics(*map(np.concatenate, zip(*pieces, strict=True)))
                if not _is_healthy(candidate, metrics, min_acceptance):
                    undone += _gradients(metrics.num_gradients, position)
                    rollbacks, in_a_row = rollbacks + 1, in_a_row + 1
                    if in_a_row >= max_rollbacks:
                        undone += _gradients(_joined(chunks)["num_gradients"], position)
                        raise TrainingDivergedError(_diverged_text(done, metrics), undone)
                    state = state._replace(transition=_with_smaller_steps(state.transition))
                    continue
                state, in_a_row, done = candidate, 0, done + length
                chunks.append(metrics)
                if checkpoint is not None:
                    spent = (before[0] + clock.seconds, before[1] + clock.compile_seconds)
                    checkpoint(Snapshot(state, _joined(chunks), rollbacks, undone, *spent))
                if progress is not None:
                    progress(Progress("train", done, num_steps, clock.elapsed, _means(metrics)))
        except KeyboardInterrupt:
            completed = False
    history, state = _joined(chunks), state if devices is None else whole(state)
    return TrainResult(
        transition=state.transition,
        chains=state.chains,
        history=history,
        num_gradients=undone + _gradients(history["num_gradients"], position),
        seconds=before[0] + clock.seconds,
        compile_seconds=before[1] + clock.compile_seconds,
        skipped_updates=int(np.sum(history["is_skipped"])),
        rollbacks=rollbacks,
        completed=completed,
    )


def _spread(state: TrainState, devices: Devices) -> TrainState:
    """A state with its chains divided over ``devices``, and everything else copied to all."""
    opt_state, step = copied((state.opt_state, state.step), devices)
    return TrainState(
        on_devices(state.transition, devices), opt_state, divided(state.chains, devices), step
    )


def _joined(chunks: list[Metrics]) -> dict[str, np.ndarray]:
    """The history of several chunks."""
    return {
        name: np.concatenate([getattr(m, name) for m in chunks] or [[]]) for name in Metrics._fields
    }


def _gradients(per_chain: np.ndarray, position: Vector) -> int:
    """Gradients summed over iterations and chains."""
    return round(float(np.sum(per_chain, dtype=np.float64)) * position.shape[1])


def _means(metrics: Metrics) -> dict[str, float]:
    """Means of the finite values of a chunk's metrics."""
    finite = {name: values[np.isfinite(values)] for name, values in metrics._asdict().items()}
    return {
        name: float(np.mean(values)) if values.size else float("nan")
        for name, values in finite.items()
    }


def _with_smaller_steps(transition: Transition) -> Transition:
    """The kernel with a smaller step size, if its step size is trained."""
    if not isinstance(transition.dynamics, LearnedLeapfrog):
        return transition
    return eqx.tree_at(
        lambda t: t.dynamics.log_step_size,
        transition,
        replace_fn=lambda size: size - LOG_STEP_REDUCTION,
    )


def _is_healthy(state: TrainState, metrics: Metrics, min_acceptance: float) -> bool:
    """Whether a chunk is kept; see `train_kernel`."""
    params = eqx.filter(state.transition.dynamics, eqx.is_inexact_array)
    finite = all(bool(jnp.all(jnp.isfinite(p))) for p in jax.tree.leaves(params))
    tail = metrics.acceptance_rate[-max(1, len(metrics.acceptance_rate) // LAST_SHARE) :]
    return (
        finite
        and float(np.mean(tail)) >= min_acceptance
        and float(np.mean(metrics.is_skipped)) <= MOST_SKIPPED
    )


def _diverged_text(step: int, metrics: Metrics) -> str:
    """The message of a `TrainingDivergedError`."""
    rate, skipped = np.mean(metrics.acceptance_rate[-20:]), np.mean(metrics.is_skipped)
    return (
        f"training collapsed after step {step} (acceptance {rate:.3g}, {skipped:.0%} of updates "
        "not finite) and did "
        "not recover from its last good state; use a smaller step_size or learning rate, more "
        "tempering, or starts "
        "closer to the target"
    )
