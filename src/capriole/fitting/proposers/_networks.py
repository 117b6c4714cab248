"""Candidates with networks: trained from the best rotation, or with tempering where the pilot's
chains disagree.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...coordinates import Whitened, to_user
from ...kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Jittered,
    Key,
    Leapfrog,
    Mixture,
    Repeated,
    Rotation,
    Transition,
    Vector,
    learned_leapfrog,
    rotation_step_sizes,
)
from ...models import trainable
from ...runtime import CompileClock, OnProgress
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
from .._candidate import Candidate
from .._evaluation import Judgement, judge

_NO_CEILING = 1e9
_HOPELESS = 0.6
_FREE_SHARE = 0.4
_HMC_LEAPFROGS = 5
HMC = "and HMC"
FINER = "in finer steps"
"""Last words of the names of candidates with small steps mixed in."""
MOST_MOVED = 2.2e8
"""Coordinates that a training may move, counted once per leapfrog. On the bench networks that moved
more took minutes and lost to rotations (volatility, in 203 dimensions).
"""


class Plan(NamedTuple):
    """How one network candidate is built and trained; see `plans`.

    Training goes in ``rounds``, each measured; a plan that is not ``patient`` ends when two rounds
    in a row gain less than 3 %.
    """

    name: str
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

    def moved(self, dim: int) -> float:
        """Coordinates moved in training, all steps, chains and leapfrogs."""
        return float(self.num_steps) * self.num_chains * self.num_leapfrogs * dim


def plans(
    *, dim: int, best: Candidate, angle: float, agreed: bool, step_size: float, num_steps: int
) -> list[Plan]:
    """Which networks to train: a small and a larger one from the best rotation, and others where
    chains disagree.

    Networks let fewer leapfrogs do: the small one has one less than the best rotation, at least
    two, the larger one as many, at least three. ``agreed`` says whether the pilot's chains mixed.
    If not, the target has several modes or places where HMC sticks: then networks with squashed
    inputs are trained beside plain HMC moves of all step sizes, one on the features arcsinh x
    (funnels, tails), one on a density that cools from temperature 60 (modes).
    """
    width = int(np.clip(2 * dim, 16, 64))
    m, shorter = max(3, best.num_leapfrogs), max(2, best.num_leapfrogs - 1)
    small = Plan(
        "small network",
        shorter,
        width,
        rotation_step_sizes(min(angle, 1.5 * shorter), shorter),
        num_steps,
    )
    large = Plan("larger network", m, min(2 * width, 128), rotation_step_sizes(angle, m), num_steps)
    if agreed:
        return [small, large]
    hard = Plan(
        "",
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
        name="network for tails",
        num_leapfrogs=5,
        learning_rate=3e-3,
        feature=jnp.arcsinh,
        companion_moves=1,
    )
    modes = hard._replace(
        name="network for modes",
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
    *,
    step_size: float,
    to_beat: float = 0.0,
    progress: OnProgress = None,
) -> Candidate:
    """Train in rounds, measure after each on fresh chains, stop when the gain flattens, keep the
    best as measured.

    ``position`` (dim, chains), whitened, are the training chains' starts; ``step_size`` that of the
    plain HMC moves. A plan that is not patient also ends when its first round leaves it below 60 %
    of ``to_beat``, the ESS per gradient of what is there without networks.
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
    spent, flat = 0, 0
    with CompileClock() as clock:
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
                spent += error.num_gradients
                break
            if not result.completed:
                raise KeyboardInterrupt
            transition, position = result.transition, result.chains.position
            kernel = frozen(result)
            measured = judge(
                jax.random.fold_in(judge_key, i), kernel, position[:, : min(64, chains)]
            )
            spent += result.num_gradients + measured.spent_gradients
            flat = flat + 1 if best is not None and measured.worst < 1.03 * best[1].worst else 0
            if best is None or measured.worst > best[1].worst:
                best = kernel, measured
            if (flat == 2 or best[1].worst < _HOPELESS * to_beat) and not plan.patient:
                break
    if best is None:
        raise TrainingDivergedError(f"training the {plan.name} collapsed in its first round", spent)
    found = to_user(target, np.asarray(position))
    return Candidate(
        plan.name,
        *best,
        plan.num_leapfrogs,
        clock.seconds,
        clock.compile_seconds,
        num_gradients=spent,
        found=found,
    )


def mixed_candidate(key: Key, trained: Candidate, free: Candidate, position: Vector) -> Candidate:
    """A trained kernel with the gradient-free rotation mixed in, measured on chains from
    ``position``, whitened.

    Under heavy tails, where either is slow to return, the other may not be (eight schools
    non-centred).
    """
    kernel = Mixture((trained.transition, free.transition), (1 - _FREE_SHARE, _FREE_SHARE))
    with CompileClock() as clock:
        judgement = judge(key, kernel, position)
    return trained._replace(
        name=f"{trained.name} and {free.name}",
        transition=kernel,
        judgement=judgement,
        seconds=trained.seconds + clock.seconds,
        compile_seconds=trained.compile_seconds + clock.compile_seconds,
        num_gradients=judgement.spent_gradients,
        shared_gradients=trained.num_gradients,
        found=None,
    )


def with_small_steps(candidate: Candidate, step_size: float) -> Candidate:
    """The candidate with plain HMC moves of small steps mixed in, a fifth of all gradients; not
    measured yet.

    The pilot's step size is made smaller by a log-uniform factor down to a hundredth: a chain that
    sits where its own proposals are hopeless, as deep in a funnel's neck, is freed by one of these.
    """
    small = hmc_move(step_size, candidate.transition.target, largest=1.0)
    share = candidate.num_leapfrogs / (candidate.num_leapfrogs + 4 * _HMC_LEAPFROGS)
    return candidate._replace(
        name=f"{candidate.name} {HMC}",
        transition=Mixture((candidate.transition, small), (1 - share, share)),
        num_gradients=0,
        shared_gradients=candidate.num_gradients + candidate.shared_gradients,
        found=None,
    )


def with_finer_steps(candidate: Candidate) -> Candidate | None:
    """The candidate with the same rotations in half as many leapfrogs again, not measured yet; None
    if it has none.

    Of one that has finer steps already it is the successor, at the cost of both.
    """

    def is_rotation(node: object) -> bool:
        return isinstance(node, Rotation)

    def finer(node: Any) -> Any:
        return (
            Rotation(node.angle, (3 * node.num_leapfrogs + 1) // 2) if is_rotation(node) else node
        )

    kernel = candidate.transition
    if not any(map(is_rotation, jax.tree.leaves(kernel, is_leaf=is_rotation))):
        return None
    made = candidate._replace(
        transition=jax.tree.map(finer, kernel, is_leaf=is_rotation),
        num_leapfrogs=(3 * candidate.num_leapfrogs + 1) // 2,
        found=None,
    )
    if candidate.name.endswith(FINER):
        return made
    shared = candidate.num_gradients + candidate.shared_gradients
    return made._replace(name=f"{candidate.name} {FINER}", num_gradients=0, shared_gradients=shared)


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


def hmc_move(
    step_size: float, logdensity: AbstractLogDensity, *, largest: float = 3.0
) -> AbstractTransition:
    """Plain HMC of 5 leapfrogs, the pilot's step size times a log-uniform factor from 0.01 to
    ``largest``.
    """
    return Jittered(
        Transition(logdensity, Leapfrog(jnp.asarray(step_size), _HMC_LEAPFROGS)), 0.01, largest
    )


def _named(name: str, progress: OnProgress) -> OnProgress:
    return (
        None if progress is None else lambda event: progress(event._replace(phase=f"train {name}"))
    )
