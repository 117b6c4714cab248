"""Training (paper, Algorithm 1): a pure ``train_step`` and a host loop over jitted chunks of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Divided,
    Key,
    LearnedLeapfrog,
    Proposal,
    State,
    Tempered,
    Transition,
    Vector,
    on_devices,
    state_at,
)
from ..runtime import CompileClock, Devices, Progress, check_devices, copied, divided, whole
from ._objectives import AbstractObjective
from ._schedules import Schedule

type Starts = Callable[[Key], Vector]


class TrainState(NamedTuple):
    """Everything an iteration changes: the kernel, the optimizer, the chains it is trained on."""

    transition: Transition
    opt_state: Any
    chains: State
    step: Int[Array, ""]


class Metrics(NamedTuple):
    """Figures of one iteration, scalars; in a history, one array per field.

    ``num_gradients`` are those of a chain: the proposal, its share of the burn-in term's, and the
    companion's.
    """

    loss: Any
    acceptance_rate: Any
    jump: Any
    temperature: Any
    is_skipped: Any
    num_gradients: Any


class Recipe(NamedTuple):
    """How to train: objective, optimizer, and what happens around the gradient step.

    ``burn_in`` draws starts of shape (dim, chains) for the second expectation of the loss, weighted
    ``burn_in_weight`` (None: no such term). ``temperature`` maps the iteration to T; the chains see
    ``logdensity / T``. ``companion`` builds, for that density, a kernel that is not trained and
    moves the chains once more per iteration, which keeps them near the target.
    """

    objective: AbstractObjective
    optimizer: optax.GradientTransformation
    burn_in: Starts | None = None
    burn_in_weight: float = 0.0
    temperature: Schedule | None = None
    companion: Callable[[AbstractLogDensity], AbstractTransition] | None = None


class TrainResult(NamedTuple):
    """The frozen kernel and how it came about.

    ``history`` holds one array per field of `Metrics`; ``num_gradients`` are those of all chains,
    of chunks that were undone too; ``seconds`` excludes ``compile_seconds``; ``completed`` is False
    if training was interrupted (the kernel is then the one reached).
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
    """Training after a whole chunk; `train` continues from it bit for bit. ``history`` is as in
    `TrainResult`.
    """

    train_state: TrainState
    history: dict[str, np.ndarray]
    rollbacks: int
    undone: int
    seconds: float
    compile_seconds: float


class TrainingDivergedError(RuntimeError):
    """Training collapsed again and again; the message says what to change. ``num_gradients`` were
    spent on it.
    """

    def __init__(self, message: str, num_gradients: int = 0):
        super().__init__(message)
        self.num_gradients = num_gradients


def init_train_state(transition: Transition, position: Vector, recipe: Recipe) -> TrainState:
    """A fresh training state with chains at ``position`` of shape (dim, chains)."""
    params = eqx.filter(transition.dynamics, eqx.is_inexact_array)
    return TrainState(
        transition,
        recipe.optimizer.init(params),
        transition.init(position),
        jnp.zeros((), jnp.int32),
    )


def train_step(
    key: Key, train_state: TrainState, recipe: Recipe, devices: tuple[jax.Device, ...] | None = None
) -> tuple[TrainState, Metrics]:
    """One iteration of Algorithm 1: propose once for every chain, step on the loss, accept or
    reject the chains.

    The gradient runs through the whole trajectory, second derivatives of the log density included.
    Only the dynamics is trained; log density and context are constant. With `adam` a non-finite
    gradient leaves the kernel as it was; another optimizer must see to that itself
    (``optax.apply_if_finite``). ``devices`` are those that the chains are divided over, if they
    are.
    """
    transition, opt_state, chains, step = train_state
    target_key, burn_in_key, decide_key, companion_key = jax.random.split(key, 4)
    temperature = (
        jnp.ones_like(chains.logdensity[0])
        if recipe.temperature is None
        else recipe.temperature(step)
    )
    temperature = temperature.astype(chains.logdensity.dtype)
    hot, hot_chains = _heated(transition, temperature), _scaled(chains, 1 / temperature)
    num = chains.logdensity.shape[0]
    hot, starts = _with_burn_in(burn_in_key, hot, hot_chains, recipe)
    params, static = eqx.partition(transition.dynamics, eqx.is_inexact_array)

    def loss_fn(params: Any) -> tuple[Float[Array, ""], Proposal]:
        dynamics = eqx.combine(params, static)
        if (
            devices is not None and starts.logdensity.shape[0] % len(devices) == 0
        ):  # burn_in may draw any number
            dynamics = Divided(dynamics, devices)
        kernel = eqx.tree_at(lambda t: t.dynamics, hot, dynamics)
        proposal = kernel.propose(target_key, starts)
        at_target, in_burn_in = _part(proposal, slice(0, num)), _part(proposal, slice(num, None))
        loss = _loss(recipe.objective, at_target)
        if in_burn_in.log_ratio.size:
            loss += recipe.burn_in_weight * _loss(recipe.objective, in_burn_in)
        return loss, at_target

    (loss, proposal), grads = eqx.filter_value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = recipe.optimizer.update(grads, opt_state, params)
    dynamics = eqx.combine(eqx.apply_updates(params, updates), static)
    chains, info = hot.decide(decide_key, hot_chains, jax.lax.stop_gradient(proposal))
    gradients = jnp.asarray(
        hot.dynamics.num_gradients * starts.logdensity.shape[0] / num, temperature.dtype
    )
    if recipe.companion is not None:
        chains, moved = recipe.companion(hot.logdensity).step(companion_key, chains)
        gradients += jnp.mean(moved.num_gradients.astype(gradients.dtype))
    jump = info.acceptance_rate * jnp.sum(
        (info.proposal.position - proposal.start.position) ** 2, axis=0
    )
    skipped = ~jnp.all(jnp.isfinite(ravel_pytree(grads)[0]))
    metrics = Metrics(
        loss, jnp.mean(info.acceptance_rate), jnp.nanmean(jump), temperature, skipped, gradients
    )
    transition = eqx.tree_at(lambda t: t.dynamics, transition, dynamics)
    return TrainState(transition, opt_state, _scaled(chains, temperature), step + 1), metrics


def _heated(transition: Transition, temperature: Array) -> Transition:
    return eqx.tree_at(
        lambda t: t.logdensity, transition, Tempered(transition.logdensity, temperature)
    )


def _scaled(state: State, factor: Array) -> State:
    return State(state.position, state.logdensity * factor, state.logdensity_grad * factor)


def _loss(objective: AbstractObjective, proposal: Proposal) -> Float[Array, ""]:
    return objective(proposal.start.position, proposal.end.position, proposal.acceptance)


def _part(proposal: Proposal, chains: slice) -> Proposal:
    return jax.tree.map(lambda leaf: leaf[..., chains], proposal)


def _with_burn_in(
    key: Key, kernel: Transition, chains: State, recipe: Recipe
) -> tuple[Transition, State]:
    """The chains with the starts of the burn-in term appended, so that one trajectory serves both
    expectations.
    """
    if recipe.burn_in is None or not recipe.burn_in_weight:
        return kernel, chains
    extra = state_at(kernel.logdensity, recipe.burn_in(key))
    joined = State(*(jnp.concatenate(pair, axis=-1) for pair in zip(chains, extra, strict=True)))
    if kernel.context is None:
        return kernel, joined
    if extra.logdensity.shape != chains.logdensity.shape:
        raise ValueError(
            f"with a context, burn_in must draw one start per chain, {chains.logdensity.shape[0]}"
        )
    context = jnp.concatenate([kernel.context, kernel.context], axis=-1)
    return eqx.tree_at(lambda t: t.context, kernel, context), joined


@eqx.filter_jit
def _train_chunk(
    key: Key,
    train_state: TrainState,
    recipe: Recipe,
    num_steps: Int[Array, ""],
    capacity: int,
    devices: tuple[jax.Device, ...] | None,
) -> tuple[TrainState, Metrics]:
    """``num_steps`` iterations, at most ``capacity``; the length is data, so a short last chunk
    compiles nothing.
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
    """Train the dynamics of ``transition`` on chains started at ``position`` of shape (dim,
    chains).

    ``checkpoint`` receives a `Snapshot` after every chunk, before ``progress`` hears of it; with
    one of them as ``resume`` (and everything else the same) the result is that of a run that was
    never stopped.

    ``devices``, e.g. ``jax.devices()``, divides the chains evenly over several devices; they sum
    their gradients in every iteration, and the result is that of one device but for rounding. A
    snapshot's arrays are then spread out.

    A chunk that ends with mean acceptance below ``min_acceptance``, has skipped more than half of
    its updates, or leaves a parameter that is not finite is undone and tried again from the last
    good state, with other randomness and a step size reduced by 30 %. KeyboardInterrupt ends
    training after the last whole chunk and returns what was reached. Raises `TrainingDivergedError`
    after ``max_rollbacks`` undone chunks in a row.
    """
    state = init_train_state(transition, position, recipe) if resume is None else resume.train_state
    chunks: list[Metrics] = [] if resume is None else [Metrics(**resume.history)]
    rollbacks, in_a_row, completed = 0 if resume is None else resume.rollbacks, 0, True
    before = (0.0, 0.0) if resume is None else (resume.seconds, resume.compile_seconds)
    done, undone = sum(len(chunk.loss) for chunk in chunks), 0 if resume is None else resume.undone
    if devices is not None:
        check_devices(devices, position.shape[1])
        devices = tuple(devices)
        state, key, recipe = _spread(state, devices), copied(key, devices), copied(recipe, devices)
    with CompileClock() as clock:
        try:
            while done < num_steps:
                length = min(chunk_size, num_steps - done)
                attempt = jax.random.fold_in(key, rollbacks)
                steps = (
                    jnp.asarray(length) if devices is None else copied(jnp.asarray(length), devices)
                )
                candidate, metrics = _train_chunk(
                    attempt, state, recipe, steps, chunk_size, devices
                )
                metrics = Metrics(*(np.asarray(kept)[:length] for kept in metrics))
                if not _is_healthy(candidate, metrics, min_acceptance):
                    undone += _gradients(metrics.num_gradients, position)
                    rollbacks, in_a_row = rollbacks + 1, in_a_row + 1
                    if in_a_row >= max_rollbacks:
                        undone += _gradients(_joined(chunks)["num_gradients"], position)
                        raise TrainingDivergedError(_diverged_text(done, metrics), undone)
                    state = state._replace(transition=_timid(state.transition))
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
    """Chains divided over ``devices``, everything else copied to all of them."""
    opt_state, step = copied((state.opt_state, state.step), devices)
    return TrainState(
        on_devices(state.transition, devices), opt_state, divided(state.chains, devices), step
    )


def _joined(chunks: list[Metrics]) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([getattr(m, name) for m in chunks] or [[]]) for name in Metrics._fields
    }


def _gradients(per_chain: np.ndarray, position: Vector) -> int:
    return round(float(np.sum(per_chain, dtype=np.float64)) * position.shape[1])


def _means(metrics: Metrics) -> dict[str, float]:
    finite = {name: values[np.isfinite(values)] for name, values in metrics._asdict().items()}
    return {
        name: float(np.mean(values)) if values.size else float("nan")
        for name, values in finite.items()
    }


def _timid(transition: Transition) -> Transition:
    if not isinstance(transition.dynamics, LearnedLeapfrog):
        return transition
    return eqx.tree_at(
        lambda t: t.dynamics.log_step_size, transition, replace_fn=lambda size: size - 0.36
    )


def _is_healthy(state: TrainState, metrics: Metrics, min_acceptance: float) -> bool:
    params = eqx.filter(state.transition.dynamics, eqx.is_inexact_array)
    finite = all(bool(jnp.all(jnp.isfinite(p))) for p in jax.tree.leaves(params))
    tail = metrics.acceptance_rate[-max(1, len(metrics.acceptance_rate) // 5) :]
    return (
        finite
        and float(np.mean(tail)) >= min_acceptance
        and float(np.mean(metrics.is_skipped)) <= 0.5
    )


def _diverged_text(step: int, metrics: Metrics) -> str:
    rate, skipped = np.mean(metrics.acceptance_rate[-20:]), np.mean(metrics.is_skipped)
    return (
        f"training collapsed after step {step} (acceptance {rate:.3g}, {skipped:.0%} of updates "
        "not finite) and did "
        "not recover from its last good state; use a smaller step_size or learning rate, more "
        "tempering, or starts "
        "closer to the target"
    )
