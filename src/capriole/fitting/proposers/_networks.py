"""Candidates with networks, trained from the best rotation, or tempered where chains disagree."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...coordinates import Whitened, diagonal, from_user, to_user
from ...kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Key,
    Mixture,
    Repeated,
    Transition,
    Vector,
    learned_leapfrog,
    rotation_step_sizes,
)
from ...models import trainable
from ...runtime import OnProgress
from ...training import (
    AbstractObjective,
    LogESJD,
    LogJump,
    Recipe,
    TrainingDivergedError,
    TrainResult,
    WeightedSum,
    adam,
    cooling,
    decay,
    train_kernel,
)
from .._additions import hmc_move
from .._budget import Account
from .._candidate import Addition, Candidate, Coordinates, Judgement, Kind
from .._context import NoteKind, SearchContext, TrainingStream
from .._evaluation import judge
from .._thresholds import THRESHOLDS
from ._pcn import gradient_free

_NO_CEILING = 1e9
"""A ceiling of `LogESJD` that is none: rotations may pass the distance of independent draws."""
_FREE_SHARE = 0.4
"""Probability of the Crank-Nicolson move in a mixture with a network."""


class Networks:
    """Proposes trained kernels where rotations are slow."""

    def propose(self, context: SearchContext) -> SearchContext:
        """Train the planned networks, and mix the Crank-Nicolson move into the best of them.

        Args:
            context: What the search knows.

        Returns:
            The context with trained candidates, or with a note that says why there are none.
        """
        if not context.settings.train_steps:
            return context
        base = context.base
        is_transported = base.coordinates is Coordinates.TRANSPORT
        limits = THRESHOLDS
        enough = limits.no_networks_rate
        if is_transported:
            enough = limits.no_networks_rate_transported
        if context.best_rate > enough:
            text = f"no network was trained: a kernel without one gives over {enough} effective "
            return context.with_notes(NoteKind.LEFT_OUT, f"{text}draws per gradient")
        context = _trained(context, base)
        return _with_mixture(context) if context.warmup.agreed else context


def _trained(context: SearchContext, base: Candidate) -> SearchContext:
    """The context with a candidate for each plan that is worth training."""
    warmup, agreed, to_beat = context.warmup, context.warmup.agreed, context.best_rate
    white: Whitened = base.kernel.target  # type: ignore[assignment]
    pool = warmup.draws.reshape(-1, warmup.draws.shape[-1]).T
    dim, dtype = pool.shape[0], warmup.position.dtype
    if not agreed:
        inner = white.logdensity
        white = Whitened(inner, diagonal(from_user(inner, pool), dtype=dtype))
    trained: list[Candidate] = []
    for i, plan in enumerate(_plans_for(context, base, dim)):
        if plan.moved(dim) > THRESHOLDS.most_moved:
            text = f"no {plan.name} was trained: in {dim} dimensions that takes too long"
            context = context.with_notes(NoteKind.LEFT_OUT, text)
            continue
        if agreed and trained and trained[-1].worst < 1.1 * to_beat:
            text = f"no {plan.name} was trained: the smaller one gained less than 10 %"
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
                step_size=warmup.step_size,
                to_beat=to_beat,
                progress=context.progress,
            )
            trained.append(replace(candidate, coordinates=base.coordinates))
        except TrainingDivergedError as error:
            context = context.with_notes(NoteKind.LEFT_OUT, str(error))
            context.budget.absorb(account)
    return context.with_candidates((*context.candidates, *trained))


def _plans_for(context: SearchContext, base: Candidate, dim: int) -> "list[Plan]":
    return plans(
        dim=dim,
        num_leapfrogs=base.num_leapfrogs or 1,
        angle=float(base.kernel.dynamics.angle),  # type: ignore[attr-defined]
        agreed=context.warmup.agreed,
        step_size=context.warmup.step_size,
        num_steps=context.settings.train_steps,
    )


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
    """How one network candidate is built and trained; see `plans`.

    Training goes in ``rounds``, each measured; a plan that is not ``patient`` ends when two rounds
    in a row gain less than 3 %.
    """

    kind: Kind
    num_leapfrogs: int
    width: int
    step_size: float | tuple[float, float]
    num_steps: int
    learning_rate: float = 5e-3
    feature: Callable[[Vector], Vector] | None = None
    squashed: bool = False
    temperature: float = 1.0
    jump_weight: float = 0.0
    esjd_weight: float = 1.0
    companion_moves: int = 0
    hmc_share: float = 0.0
    num_chains: int = 200
    rounds: int = 4
    patient: bool = False

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.kind.value

    def moved(self, dim: int) -> float:
        """Coordinates moved in training, all steps, chains and leapfrogs."""
        return float(self.num_steps) * self.num_chains * self.num_leapfrogs * dim


def plans(
    *, dim: int, num_leapfrogs: int, angle: float, agreed: bool, step_size: float, num_steps: int
) -> list[Plan]:
    """Which networks to train: a small and a larger one from the best rotation, and others where
    chains disagree.

    Networks let fewer leapfrogs do: the small one has one less than the best rotation, at least
    two, the larger one as many, at least three. ``agreed`` says whether the warm-up's chains mixed.
    If not, the target has several modes or places where HMC sticks: then networks with squashed
    inputs are trained beside plain HMC moves of all step sizes, one on the features arcsinh x
    (funnels, tails), one on a density that cools from temperature 60 (modes).
    """
    width = int(np.clip(2 * dim, 16, 64))
    m, shorter = max(3, num_leapfrogs), max(2, num_leapfrogs - 1)
    small = Plan(
        Kind.SMALL_NETWORK,
        shorter,
        width,
        rotation_step_sizes(min(angle, 1.5 * shorter), shorter),
        num_steps,
    )
    large = Plan(
        Kind.LARGER_NETWORK, m, min(2 * width, 128), rotation_step_sizes(angle, m), num_steps
    )
    if agreed:
        return [small, large]
    hard = Plan(
        Kind.TAIL_NETWORK,
        2,
        64,
        step_size,
        6 * num_steps,
        learning_rate=2e-3,
        squashed=True,
        hmc_share=0.2,
        patient=True,
    )
    curved = hard._replace(
        num_leapfrogs=5,
        learning_rate=3e-3,
        feature=jnp.arcsinh,
        companion_moves=1,
    )
    modes = hard._replace(
        kind=Kind.MODE_NETWORK,
        num_leapfrogs=4,
        width=32,
        num_steps=7 * num_steps // 2,
        learning_rate=3e-3,
        num_chains=512,
        temperature=60.0,
        rounds=1,
        jump_weight=1.0,
        esjd_weight=0.0,
        companion_moves=2,
    )
    return [small, curved, modes]


def train_candidate(
    key: Key,
    plan: Plan,
    target: Whitened,
    position: Vector,
    account: Account,
    *,
    step_size: float,
    to_beat: float = 0.0,
    progress: OnProgress = None,
) -> Candidate:
    """Train in rounds, measure after each on fresh chains, and keep the best as measured.

    Training ends when the gain flattens. A plan that is not patient also ends when its first round
    leaves it far below what is there without networks.

    Args:
        key: Key of networks, training and measurements.
        plan: What is built and how it is trained.
        target: The target in white coordinates.
        position: Starts (dim, chains) of the training chains, in these coordinates.
        account: Where its costs go.
        step_size: Step size of the plain HMC moves beside it.
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
        squashed=plan.squashed,
        dtype=position.dtype,
    )
    training_target, _ = trainable(target, position[:, 0])
    recipe = make_recipe(plan, position, step_size)
    transition = Transition(training_target, dynamics)

    def frozen(result: TrainResult) -> AbstractTransition:
        learned = Transition(target, result.transition.dynamics)
        if not plan.hmc_share:
            return learned
        return Mixture((learned, hmc_move(step_size, target)), (1 - plan.hmc_share, plan.hmc_share))

    best: tuple[AbstractTransition, Judgement] | None = None
    flat = 0
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
            kernel, starts = frozen(result), position[:, : min(64, chains)]
            measured = judge(jax.random.fold_in(judge_key, i), kernel, starts)
            account.charge(measured.spent_gradients)
            is_flat = best is not None and measured.worst < THRESHOLDS.flat_gain * best[1].worst
            flat = flat + 1 if is_flat else 0
            if best is None or measured.worst > best[1].worst:
                best = kernel, measured
            is_hopeless = best[1].worst < THRESHOLDS.hopeless_share * to_beat
            if (flat == 2 or is_hopeless) and not plan.patient:
                break
    if best is None:
        text = f"training the {plan.name} collapsed in its first round"
        raise TrainingDivergedError(text, account.cost.num_gradients)
    kernel, judgement = best
    return Candidate(
        kind=plan.kind,
        transition=kernel,
        judgement=judgement,
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
        judgement = judge(key, kernel, position)
    account.charge(judgement.spent_gradients)
    return trained.with_addition(
        Addition.PCN,
        transition=kernel,
        judgement=judgement,
        account=account,
        shared=(trained.account, *trained.shared),
        found=None,
    )


def make_recipe(plan: Plan, position: Vector, step_size: float) -> Recipe:
    """Objective and schedule of a plan; means and variances are those of ``position``."""
    feature = plan.feature or (lambda x: x)
    values = feature(position)
    mean, variance = jnp.mean(values, axis=1), jnp.var(values, axis=1)
    if plan.feature is None:
        every = LogESJD(
            mean, variance, acceptance=1.0, reciprocal=1.0, ceiling=_NO_CEILING, sharpness=1.0
        )
    else:
        every = LogESJD(mean, variance, acceptance=4.0, ceiling=_NO_CEILING, feature=plan.feature)
    parts: list[tuple[AbstractObjective, float]] = [
        (every, plan.esjd_weight),
        (LogJump(), plan.jump_weight),
    ]
    used = [(objective, weight) for objective, weight in parts if weight]
    objective = used[0][0] if len(used) == 1 else WeightedSum(*zip(*used, strict=True))
    companion = None
    if plan.companion_moves:
        companion = partial(_companion, step_size, plan.companion_moves)
    steps = plan.num_steps // plan.rounds
    return Recipe(
        objective=objective,
        optimizer=adam(decay(plan.learning_rate, num_steps=steps)),
        temperature=cooling(plan.temperature, num_steps=int(0.7 * steps))
        if plan.temperature != 1
        else None,
        companion=companion,
    )


def _companion(
    step_size: float, num_moves: int, logdensity: AbstractLogDensity
) -> AbstractTransition:
    return Repeated(hmc_move(step_size, logdensity), num_moves)


def _named(name: str, progress: OnProgress) -> OnProgress:
    return (
        None if progress is None else lambda event: progress(event._replace(phase=f"train {name}"))
    )
