"""Candidates with networks, trained from the best rotation."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...coordinates import Whitened, from_user, to_user
from ...kernels import (
    Key,
    Mixture,
    Transition,
    Vector,
    learned_leapfrog,
    rotation_step_sizes,
)
from ...models import trainable
from ...runtime import OnProgress, begin_stage
from ...training import (
    LogESJD,
    Recipe,
    TrainingDivergedError,
    adam,
    decay,
    train_kernel,
)
from .._budget import Account, Cost
from .._candidate import Addition, Candidate, Coordinates, KernelMetrics, Kind
from .._context import NoteKind, SearchContext, TrainingStream
from .._evaluation import evaluate
from .._thresholds import SHORT, THRESHOLDS
from ._pcn import gradient_free

_NO_CEILING = 1e9
"""A ceiling of `LogESJD` that is none: rotations may pass the distance of independent draws."""
_FREE_SHARE = 0.4
"""Probability of the Crank-Nicolson move in a mixture with a network."""


class Networks:
    """Proposes trained kernels where rotations are slow and chains of the warm-up agreed."""

    name = "networks"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: all steps of the small network, without its measurements."""
        if context.jumps_suffice:
            return Cost()
        settings, base = context.settings, context.base
        if not settings.train_steps or not context.warmup.agreed:
            return Cost()
        if context.best_rate > _enough(base):
            return Cost()
        small, _ = plans_for(base, dim := len(context.warmup.position), settings.train_steps)
        moved = small.moved(dim)
        return context.expected(moved / dim) if moved <= THRESHOLDS.most_moved else Cost()

    def propose(self, context: SearchContext) -> SearchContext:
        """Train the planned networks, and mix the Crank-Nicolson move into the best of them.

        Args:
            context: What the search knows.

        Returns:
            The context with trained candidates, or with a note that says why there are none.
        """
        if not context.settings.train_steps:
            return context
        if not context.warmup.agreed:
            text = "no network was trained: chains of the warm-up disagreed"
            return context.with_notes(NoteKind.LEFT_OUT, text)
        base = context.base
        if context.best_rate > (enough := _enough(base)):
            text = f"no network was trained: a kernel without one gives over {enough} effective "
            return context.with_notes(NoteKind.LEFT_OUT, f"{text}draws per gradient")
        return _with_mixture(_trained(context, base))


def _enough(base: Candidate) -> float:
    """The rate above which no network is trained."""
    is_transported = base.coordinates is Coordinates.TRANSPORT
    limits = THRESHOLDS
    return limits.no_networks_rate_transported if is_transported else limits.no_networks_rate


def _trained(context: SearchContext, base: Candidate) -> SearchContext:
    """The context with a candidate for each plan that is worth training."""
    warmup, to_beat = context.warmup, context.best_rate
    white: Whitened = base.kernel.target  # type: ignore[assignment]
    pool = warmup.draws.reshape(-1, warmup.draws.shape[-1]).T
    dim, trained = pool.shape[0], list[Candidate]()
    for i, plan in enumerate(plans_for(base, dim, context.settings.train_steps)):
        if plan.moved(dim) > THRESHOLDS.most_moved:
            text = f"no {plan.name} was trained: in {dim} dimensions that takes too long"
            context = context.with_notes(NoteKind.LEFT_OUT, text)
            continue
        if trained and trained[-1].worst < THRESHOLDS.worthwhile_gain * to_beat:
            gain = f"{THRESHOLDS.worthwhile_gain - 1:.0%}"
            text = f"no {plan.name} was trained: the smaller one gained less than {gain}"
            context = context.with_notes(NoteKind.LEFT_OUT, text)
            break
        pick_key = jax.random.fold_in(context.train_key, TrainingStream.POSITIONS + i)
        chosen = np.asarray(jax.random.choice(pick_key, pool.shape[1], (plan.num_chains,)))
        account = context.budget.open()
        try:
            candidate = train_candidate(
                jax.random.fold_in(context.train_key, i),
                plan,
                white,
                jnp.asarray(from_user(white, pool[:, chosen])),
                account,
                to_beat=to_beat,
                progress=context.progress,
            )
            trained.append(replace(candidate, coordinates=base.coordinates))
        except TrainingDivergedError as error:
            context = context.with_notes(NoteKind.LEFT_OUT, str(error))
            context.budget.absorb(account)
    return context.with_candidates((*context.candidates, *trained))


def _with_mixture(context: SearchContext) -> SearchContext:
    """The best network with the Crank-Nicolson move mixed in; before the networks if better."""
    trained, candidates = context.networks, context.candidates
    if not trained:
        return context
    best = max(trained, key=lambda c: c.worst)
    # Parts of a mixture share coordinates.
    free = gradient_free([c for c in candidates if c.kernel.target is best.kernel.target])
    if free is None:
        return context
    key = jax.random.fold_in(context.train_key, int(TrainingStream.MIXTURE))
    account = context.budget.open()
    mixed = mixed_candidate(key, best, free, context.start_in(best.kernel.target), account)
    first = len(candidates) - (len(trained) if mixed.worst >= best.worst else 0)
    return context.with_candidates((*candidates[:first], mixed, *candidates[first:]))


class Plan(NamedTuple):
    """How one network is built and trained.

    Attributes:
        kind: Which candidate it is.
        num_leapfrogs: Leapfrogs per proposal.
        width: Hidden units of each of two layers.
        step_size: Step sizes of kicks and drifts at the start: those of a rotation.
        num_steps: Training steps in all.
        learning_rate: Adam's learning rate at the start; it decays.
        num_chains: Training chains.
        rounds: Parts of the training, each followed by a measurement.
    """

    kind: Kind
    num_leapfrogs: int
    width: int
    step_size: tuple[float, float]
    num_steps: int
    learning_rate: float = 5e-3
    num_chains: int = 200
    rounds: int = 4

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.kind.value

    def moved(self, dim: int) -> float:
        """Coordinates moved in training: all steps, chains and leapfrogs."""
        return float(self.num_steps) * self.num_chains * self.num_leapfrogs * dim


def plans_for(base: Candidate, dim: int, num_steps: int) -> tuple[Plan, Plan]:
    """A small and a larger network that start as the best rotation.

    Networks let fewer leapfrogs do: the small one has one less than the rotation, at least two, the
    larger one as many, at least three.

    Args:
        base: The best rotation.
        dim: Dimensions.
        num_steps: Training steps of each.

    Returns:
        Both plans.
    """
    num_leapfrogs = min(base.num_leapfrogs or 1, SHORT[-1])
    angle = float(base.kernel.dynamics.angle)  # type: ignore[attr-defined]
    width = int(np.clip(2 * dim, 16, 64))
    m, shorter = max(3, num_leapfrogs), max(2, num_leapfrogs - 1)
    small = rotation_step_sizes(min(angle, 1.5 * shorter), shorter)
    large = rotation_step_sizes(angle, m)
    return (
        Plan(Kind.SMALL_NETWORK, shorter, width, small, num_steps),
        Plan(Kind.LARGER_NETWORK, m, min(2 * width, 128), large, num_steps),
    )


def train_candidate(
    key: Key,
    plan: Plan,
    target: Whitened,
    position: Vector,
    account: Account,
    *,
    to_beat: float = 0.0,
    progress: OnProgress = None,
) -> Candidate:
    """Train in rounds, measure after each on fresh chains, and keep the best as measured.

    Training ends when two rounds in a row gain next to nothing, or when it is far below what is
    there without networks.

    Args:
        key: Key of networks, training and measurements.
        plan: What is built and how it is trained.
        target: The target in white coordinates.
        position: Starts (dim, chains) of the training chains, in these coordinates.
        account: Where its costs go.
        to_beat: Effective draws per gradient of the best candidate without networks.
        progress: Whom to tell.

    Returns:
        The candidate.

    Raises:
        TrainingDivergedError: Training collapsed in its first round.
    """
    build_key, train_key, judge_key = jax.random.split(key, 3)
    dim, chains = position.shape
    dynamics = learned_leapfrog(
        build_key,
        dim=dim,
        num_leapfrogs=plan.num_leapfrogs,
        step_size=plan.step_size,
        width=plan.width,
        dtype=position.dtype,
    )
    training_target, _ = trainable(target, position[:, 0])
    recipe = make_recipe(plan, position)
    transition = Transition(training_target, dynamics)

    best: tuple[Transition, KernelMetrics] | None = None
    flat = 0
    begin_stage(f"train {plan.name}")
    with account.timed():
        for i in range(plan.rounds):
            try:
                result = train_kernel(
                    jax.random.fold_in(train_key, i),
                    transition,
                    position,
                    recipe,
                    num_steps=max(1, plan.num_steps // plan.rounds),
                    progress=_named(plan.name, progress),
                )
            except TrainingDivergedError as error:
                account.charge(error.num_gradients)
                break
            account.charge(result.num_gradients)
            if not result.completed:
                raise KeyboardInterrupt
            transition, position = result.transition, result.chains.position
            kernel = Transition(target, result.transition.dynamics)
            starts = position[:, : min(64, chains)]
            measured = evaluate(jax.random.fold_in(judge_key, i), kernel, starts)
            account.charge(measured.spent_gradients)
            is_flat = best is not None and measured.worst < THRESHOLDS.flat_gain * best[1].worst
            flat = flat + 1 if is_flat else 0
            if best is None or measured.worst > best[1].worst:
                best = kernel, measured
            is_hopeless = best[1].worst < THRESHOLDS.hopeless_share * to_beat
            if flat == 2 or is_hopeless:
                break
    if best is None:
        text = f"training the {plan.name} collapsed in its first round"
        raise TrainingDivergedError(text, account.cost.num_gradients)
    kernel, metrics = best
    return Candidate(
        kind=plan.kind,
        transition=kernel,
        metrics=metrics,
        num_leapfrogs=plan.num_leapfrogs,
        account=account,
        found=to_user(target, np.asarray(position)),
    )


def mixed_candidate(
    key: Key, trained: Candidate, free: Candidate, position: Vector, account: Account
) -> Candidate:
    """A trained kernel with the Crank-Nicolson move mixed in, measured.

    Under heavy tails, where either is slow to return, the other may not be.

    Args:
        key: Key of the measurement.
        trained: The trained kernel.
        free: The Crank-Nicolson move, in the same coordinates.
        position: Starts (dim, chains), in these coordinates.
        account: Where its costs go.

    Returns:
        The mixture.
    """
    kernel = Mixture((trained.kernel, free.kernel), (1 - _FREE_SHARE, _FREE_SHARE))
    with account.timed():
        metrics = evaluate(key, kernel, position)
    account.charge(metrics.spent_gradients)
    return trained.with_addition(
        Addition.PCN,
        transition=kernel,
        metrics=metrics,
        account=account,
        shared=(trained.account, *trained.shared),
        found=None,
    )


def make_recipe(plan: Plan, position: Vector) -> Recipe:
    """Objective and schedule of a plan; means and variances are those of ``position``."""
    mean, variance = jnp.mean(position, axis=1), jnp.var(position, axis=1)
    steps = plan.num_steps // plan.rounds
    return Recipe(
        objective=LogESJD(
            mean, variance, acceptance=1.0, reciprocal=1.0, ceiling=_NO_CEILING, sharpness=1.0
        ),
        optimizer=adam(decay(plan.learning_rate, num_steps=steps)),
    )


def _named(name: str, progress: OnProgress) -> OnProgress:
    return (
        None if progress is None else lambda event: progress(event._replace(phase=f"train {name}"))
    )
