"""One training iteration (the paper's Algorithm 1): a pure function of state to state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Divided,
    Key,
    Proposal,
    State,
    Tempered,
    Transition,
    Vector,
    state_at,
)
from ._objectives import AbstractObjective
from ._schedules import Schedule

type Starts = Callable[[Key], Vector]
"""Draws starting positions of shape (dim, chains)."""


class TrainState(NamedTuple):
    """Everything that an iteration changes.

    Attributes:
        transition: the kernel.
        opt_state: state of the optimizer.
        chains: state of the chains that the kernel is trained on.
        step: iterations done.
    """

    transition: Transition
    opt_state: Any
    chains: State
    step: Int[Array, ""]


class Metrics(NamedTuple):
    """Metrics of one iteration, scalars; in a history, one array per field.

    Attributes:
        loss: the loss.
        acceptance_rate: mean probability of acceptance.
        jump: mean expected squared jump.
        temperature: temperature of the target.
        is_skipped: whether the gradient was not finite.
        num_gradients: gradients of the log density per chain: of the proposal, of its share of the
            burn-in term, and of the companion.
    """

    loss: Any
    acceptance_rate: Any
    jump: Any
    temperature: Any
    is_skipped: Any
    num_gradients: Any


class Recipe(NamedTuple):
    """How to train.

    Attributes:
        objective: what to minimise.
        optimizer: what changes the parameters.
        burn_in: draws starts for the second expectation of the paper's loss; None: no such term.
        burn_in_weight: weight of that term.
        temperature: maps the iteration to T; the chains see ``logdensity / T``.
        companion: builds an untrained kernel for that density. It moves the chains once more per
            iteration, which keeps them near the target.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, equations 7 and 8, Algorithm 1.
    """

    objective: AbstractObjective
    optimizer: optax.GradientTransformation
    burn_in: Starts | None = None
    burn_in_weight: float = 0.0
    temperature: Schedule | None = None
    companion: Callable[[AbstractLogDensity], AbstractTransition] | None = None


def init_train_state(transition: Transition, position: Vector, recipe: Recipe) -> TrainState:
    """A fresh training state.

    Args:
        transition: the kernel to train.
        position: starts of the chains, shape (dim, chains).
        recipe: how to train.

    Returns:
        The state before the first iteration.
    """
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
    """One iteration: propose for every chain, step on the loss, accept or reject the chains::

        loss = objective(chains) + burn_in_weight objective(burn-in starts)

    The gradient runs through the whole trajectory, second derivatives of the log density included.
    Only the dynamics is trained; log density and context are constant. With `adam` a gradient that
    is not finite leaves the kernel unchanged; another optimizer must do so itself
    (``optax.apply_if_finite``).

    Args:
        key: random key of the iteration.
        train_state: the state before it.
        recipe: how to train.
        devices: the devices that the chains are divided over, or None.

    Returns:
        The state after the iteration, and its metrics.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, Algorithm 1.
    """
    transition, opt_state, chains, step = train_state
    target_key, burn_in_key, decide_key, companion_key = jax.random.split(key, 4)
    temperature = (
        jnp.ones_like(chains.logdensity[0])
        if recipe.temperature is None
        else recipe.temperature(step)
    )
    temperature = temperature.astype(chains.logdensity.dtype)
    hot, hot_chains = _tempered(transition, temperature), _scaled(chains, 1 / temperature)
    num = chains.logdensity.shape[0]
    hot, starts = _with_burn_in(burn_in_key, hot, hot_chains, recipe)
    params, static = eqx.partition(transition.dynamics, eqx.is_inexact_array)

    def loss_fn(params: Any) -> tuple[Float[Array, ""], Proposal]:
        dynamics = eqx.combine(params, static)
        # burn_in may draw a number of starts that does not divide evenly
        if devices is not None and starts.logdensity.shape[0] % len(devices) == 0:
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
        chains, moved = recipe.companion(hot.logdensity).move(companion_key, chains)
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


def _tempered(transition: Transition, temperature: Array) -> Transition:
    """The kernel for ``logdensity / temperature``."""
    return eqx.tree_at(
        lambda t: t.logdensity, transition, Tempered(transition.logdensity, temperature)
    )


def _scaled(state: State, factor: Array) -> State:
    """A state with its log density and gradient multiplied by ``factor``."""
    return State(state.position, state.logdensity * factor, state.logdensity_grad * factor)


def _loss(objective: AbstractObjective, proposal: Proposal) -> Float[Array, ""]:
    """The objective of a batch of proposals."""
    return objective(proposal.start.position, proposal.end.position, proposal.acceptance)


def _part(proposal: Proposal, chains: slice) -> Proposal:
    """The proposals of some chains."""
    return jax.tree.map(lambda leaf: leaf[..., chains], proposal)


def _with_burn_in(
    key: Key, kernel: Transition, chains: State, recipe: Recipe
) -> tuple[Transition, State]:
    """Append the burn-in starts to the chains: one trajectory serves both expectations."""
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
