"""Candidates without networks: rotations in white coordinates, their angle and length measured."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...adaptation import CHUNK, start_state, whiten_by_gradients
from ...coordinates import (
    Transported,
    Whitened,
    Whitening,
    estimate_whitening,
    from_user,
    padded,
    refitted,
    to_user,
)
from ...diagnostics import fast_ess, fast_min_ess
from ...kernels import (
    AbstractDynamics,
    AbstractTransition,
    CrankNicolson,
    Key,
    Rotation,
    Transition,
    Vector,
)
from ...runtime import CompileClock, OnProgress, Progress
from ...sampling import draw_chains
from .._budget import Account, Budget, Cost
from .._candidate import Candidate, Coordinates, KernelMetrics, Kind
from .._context import SearchContext, Stream
from .._evaluation import LONG_RUN, evaluate, revalidated, validate_best
from .._thresholds import LADDER, SHORT, THRESHOLDS, WARMUP_DRAWS
from ._pcn import with_rotation


@dataclass(frozen=True)
class Grid:
    """How a grid of angles is measured.

    Attributes:
        angles: Angles side by side.
        chains: Chains of each angle.
        draws: Draws of each chain.
        warmup: Draws of each chain that are left out.
        smallest: The smallest angle, in radians.
        largest: The largest angle of a rotation; a longer one is a shorter one backwards.
        per_leapfrog: Largest angle of one leapfrog; leapfrogs are unstable from 2 on.
        finer: Factor around the best angle in which a second grid lies.
        promising: Share of the best quick ESS below which an angle's exact ESS is not computed.
        decline: Share of the best score below which longer rotations are not tried.
        longest_share: Share of the best score that a longer rotation must have to be taken where
            all are slow: chains of large steps may stick unseen in a run as short as a grid's.
    """

    angles: int = 8
    chains: int = 8
    draws: int = 500
    warmup: int = 50
    smallest: float = 0.3
    largest: float = 2.2
    per_leapfrog: float = 1.65
    finer: float = 1.35
    promising: float = 0.25
    decline: float = 0.8
    longest_share: float = 0.6


GRID = Grid()

type Build = Callable[[Array], AbstractTransition]


class GridResult(NamedTuple):
    """The best of a grid of angles.

    Attributes:
        angle: The best angle, in radians.
        score: Its effective draws per gradient, in the worst dimension.
        draws: Draws (dim, n), in the user's coordinates, of all angles at least half as good.
        num_independent: How many independent draws they are worth.
    """

    angle: float
    score: float
    draws: np.ndarray
    num_independent: float


class _Best(NamedTuple):
    """The best rotation and the best Crank-Nicolson move (None: not tried), and where they move."""

    target: Whitened
    whiten_by_gradients: bool
    num_leapfrogs: int
    turned: GridResult
    free: GridResult | None


class _Accounts(NamedTuple):
    turned: Account
    free: Account


class Rotations:
    """Proposes rotations in the warm-up's white coordinates; the first proposer of every search."""

    name = "rotations"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: lengths up to two, a Crank-Nicolson move, and all of it refined once.

        On easy targets it takes half of that, on hard ones twice as much.
        """
        if context.jumps_suffice:
            return Cost()
        lengths, pcn = SHORT[:2], (1,)
        both = (1,) if context.warmup.agreed else ()  # whitenings
        refined = (lengths[-1], *pcn)
        return context.expected(grids_cost((*both, *lengths, *refined)) + grids_cost(pcn))

    def propose(self, context: SearchContext) -> SearchContext:
        """Rotations, and the best of them measured again in a long run.

        Args:
            context: What the search knows.

        Returns:
            The context with the candidates.
        """
        if context.jumps_suffice:
            return context
        warmup, white = context.warmup, context.white
        # Gradients of one mode, or of a rough surface, would mislead.
        fisher = warmup.fisher if warmup.agreed else None
        found = rotations(
            context.key,
            white,
            context.start_in(white),
            context.budget,
            fisher=fisher,
            refinements=2 * warmup.agreed,
            lengths=SHORT,
            progress=context.progress,
        )
        context = context.with_candidates((*found, *context.candidates))
        return validate_best(context, Stream.VALIDATE_ROTATIONS, np.asarray(warmup.position))


class LongerRotations:
    """Proposes longer rotations where all others are slow and no transport map helps."""

    name = "longer rotations"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: two lengths, and a long run."""
        if not self._applies(context):
            return Cost()
        lengths = LADDER[len(SHORT) : len(SHORT) + 2]
        steps = context.warmup.position.shape[1] * (LONG_RUN + WARMUP_DRAWS)
        return context.expected(grids_cost(lengths) + steps * lengths[0])

    @staticmethod
    def _applies(context: SearchContext) -> bool:
        best = max(candidate.worst * candidate.reach for candidate in context.candidates)
        if not context.warmup.agreed or best >= THRESHOLDS.hard_rate:
            return False
        return context.base.coordinates is not Coordinates.TRANSPORT

    def propose(self, context: SearchContext) -> SearchContext:
        """The lengths above the short ones, in the coordinates of the plain rotation.

        Args:
            context: What the search knows.

        Returns:
            The context with a longer rotation in the place of the plain one and of what was made
            of it, if a long run from far positions shows that it is better.
        """
        if not self._applies(context):
            return context
        base = context.base
        target: Whitened = base.kernel.target  # type: ignore[assignment]
        key = context.stream(Stream.LONGER_ROTATIONS)
        (longer,) = rotations(
            key,
            target,
            context.start_in(target),
            context.budget,
            refinements=0,
            lengths=LADDER[len(SHORT) : -1],
            with_pcn=False,
            progress=context.progress,
        )
        positions = np.asarray(context.warmup.position)
        longer = revalidated(
            key,
            longer,
            positions,
            context.marginals,
            num_draws=LONG_RUN,
            is_multimodal=context.is_multimodal,
        )
        if longer.worst * longer.reach <= base.worst * base.reach:
            context.budget.absorb(longer.account)
            return context
        replaced = [c for c in context.candidates if c.kind is Kind.ROTATION]
        for candidate in replaced:
            context.budget.absorb(candidate.account)
        others = [c for c in context.candidates if c.kind is not Kind.ROTATION]
        return context.with_candidates((longer, *others))


def grids_cost(lengths: Sequence[int]) -> int:
    """Gradients of a grid of angles for each of some lengths, and of measuring the shortest.

    Args:
        lengths: Leapfrogs of each grid.

    Returns:
        The number of gradients.
    """
    grid = GRID.angles * GRID.chains * (GRID.warmup + GRID.draws)
    return grid * (sum(lengths) + min(lengths))


def plain_rotation(context: SearchContext) -> Candidate:
    """About a quarter turn at the warm-up's step size, not measured: for a search that was stopped.

    The step size ``2 sin(t / 2)`` is that of a rotation by t per leapfrog.

    Args:
        context: What the search knows, its warm-up above all.

    Returns:
        The candidate; its figures are not known.
    """
    step, white = context.warmup.step_size, context.white
    turn = 2 * math.asin(min(step / 2, 1.0))
    num_leapfrogs = int(np.clip(round(math.pi / 2 / turn), 1, LADDER[-1]))
    angle = jnp.asarray(num_leapfrogs * turn, context.warmup.position.dtype)
    unknown, rate = math.inf, context.warmup.acceptance_rate
    return Candidate(
        kind=Kind.ROTATION,
        transition=Transition(white, _rotation(num_leapfrogs, angle)),
        metrics=KernelMetrics(unknown, unknown, unknown, rate, unknown, 0.0, 0, 0, 0.0, 0.0),
        num_leapfrogs=num_leapfrogs,
        account=context.budget.open(),
    )


def rotations(
    key: Key,
    target: Whitened,
    position: Vector,
    budget: Budget,
    *,
    fisher: Whitening | None = None,
    refinements: int = 2,
    remap: bool = True,
    lengths: Sequence[int] = LADDER[:-1],
    with_pcn: bool = True,
    progress: OnProgress = None,
    coordinates: Coordinates = Coordinates.AFFINE,
) -> list[Candidate]:
    """The best rotation on the ladder of lengths, and the best Crank-Nicolson move.

    Each length is tried with a grid of angles side by side, shorter ones first, while longer ones
    may gain. The score is the worst dimension's bulk ESS of x and of x^2 per gradient, in the
    user's coordinates. Where no rotation is good, a Crank-Nicolson move is tried, too, and
    coordinates are estimated anew by the grid's draws, which are more and less dependent than the
    warm-up's.

    Args:
        key: Key of all runs.
        target: The target in white coordinates.
        position: Starts (dim, chains), in these coordinates.
        budget: The ledger.
        fisher: Another whitening, kept if the shortest rotation does better in it.
        refinements: How often coordinates may be estimated anew.
        remap: Whether a transport map may be estimated anew.
        lengths: Leapfrogs that may be tried.
        with_pcn: Whether a Crank-Nicolson move may be tried.
        progress: Whom to tell.
        coordinates: What to call the coordinates.

    Returns:
        The candidates, a plain rotation first.
    """
    accounts = _Accounts(budget.open(), budget.open())
    with CompileClock() as clock:
        best = _search(key, target, fisher, position, lengths, with_pcn, accounts, clock, progress)
        position = _moved(position, target, best.target)
        for i in range(refinements if best.free is not None else 0):
            old = best
            best = _refined(jax.random.fold_in(key, 300 + i), best, position, remap, accounts)
            if best.target is old.target:
                break  # no better than before
            position = _moved(position, old.target, best.target)
    accounts.turned.add(Cost(0, clock.seconds, clock.compile_seconds))
    accounts.free.add(Cost(0, clock.seconds, clock.compile_seconds))
    target, length = best.target, best.num_leapfrogs
    dispersed_starts = _tiled(position)

    def candidate(
        i: int, kind: Kind, trial: GridResult, num_leapfrogs: int, build: Build, account: Account
    ) -> Candidate:
        kernel = build(jnp.asarray(trial.angle, position.dtype))
        metrics = evaluate(jax.random.fold_in(key, 200 + i), kernel, dispersed_starts)
        account.charge(metrics.spent_gradients)
        return Candidate(
            kind=kind,
            transition=kernel,
            metrics=metrics,
            num_leapfrogs=num_leapfrogs,
            account=account,
            coordinates=coordinates,
        )

    def rotation(num_leapfrogs: int) -> Callable[[Array], Transition]:
        return lambda angle: Transition(target, _rotation(num_leapfrogs, angle))

    def pcn(angle: Array) -> Transition:
        return Transition(target, CrankNicolson(angle))

    turned = candidate(0, Kind.ROTATION, best.turned, length, rotation(length), accounts.turned)
    if best.free is None:
        return [turned]
    free = candidate(2, Kind.PCN, best.free, 1, pcn, accounts.free)
    if free.worst > turned.worst:
        here = to_user(target, np.asarray(position))
        positions = np.concatenate([here, best.turned.draws], axis=1)
        free = with_rotation(
            jax.random.fold_in(key, 500), free, turned, positions, dispersed_starts
        )
    return [turned, free]


def _search(
    key: Key,
    target: Whitened,
    fisher: Whitening | None,
    position: Vector,
    lengths: Sequence[int],
    with_pcn: bool,
    accounts: _Accounts,
    clock: CompileClock,
    progress: OnProgress,
) -> _Best:
    """Grids of angles on the ladder of lengths, and for the Crank-Nicolson move."""
    trials: dict[int, GridResult] = {}
    chosen = False
    for m in lengths:
        # Squares of a rotation's draws are not antithetic, so m gradients give one effective draw
        # of x^2 at most.
        if trials and max(t.score for t in trials.values()) >= 1 / m:
            break
        largest = min(GRID.largest, GRID.per_leapfrog * m)
        angles = np.geomspace(GRID.smallest, largest, GRID.angles)
        trial = partial(_best_angle, jax.random.fold_in(key, m))
        trials[m] = trial(target, position, partial(_rotation, m), m, angles, accounts.turned)
        if m == 1 and fisher is not None:
            other = Whitened(target.logdensity, fisher)
            start = _moved(position, target, other)
            second = trial(other, start, partial(_rotation, m), m, angles, accounts.turned)
            if second.score > trials[m].score:
                trials[m], target, position, chosen = second, other, start, True
        if progress is not None:
            figures = {"angle": trials[m].angle, "ess_per_gradient": trials[m].score}
            progress(Progress("rotations", m, 0, clock.elapsed, figures))
        top = max(t.score for t in trials.values())
        enough = GRID.decline if top >= THRESHOLDS.hard_rate else GRID.longest_share
        if m > 1 and trials[m].score < enough * top:
            break
    best = _chosen_length({m: trial.score for m, trial in trials.items()})
    free = None
    if with_pcn and trials[best].score < THRESHOLDS.good_rate:
        angles = np.geomspace(GRID.smallest, GRID.per_leapfrog, GRID.angles)
        run_key = jax.random.fold_in(key, 100)
        free = _best_angle(run_key, target, position, CrankNicolson, 1, angles, accounts.free)
    return _Best(target, chosen, best, trials[best], free)


def _refined(key: Key, best: _Best, position: Vector, remap: bool, accounts: _Accounts) -> _Best:
    """Coordinates by the best draws so far, with a finer grid of angles around each best one."""
    trials = [trial for trial in (best.turned, best.free) if trial]
    source = max(trials, key=lambda trial: trial.num_independent)
    target = _whitened_anew(best, source, position, remap, accounts.turned)
    if target is None:
        return best
    start = _moved(position, best.target, target)
    if not np.isfinite(np.asarray(start)).all():
        return best
    m, free = best.num_leapfrogs, None
    build, account = partial(_rotation, m), accounts.turned
    angles = _around(best.turned.angle, 2.8 * m)
    turn_key = jax.random.fold_in(key, 0)
    turned = _best_angle(turn_key, target, start, build, m, angles, account)
    if best.free is not None:
        angles, free_key = _around(best.free.angle, math.pi / 2), jax.random.fold_in(key, 1)
        free = _best_angle(free_key, target, start, CrankNicolson, 1, angles, accounts.free)
    if max(t.score for t in (turned, free) if t) < max(t.score for t in trials):
        return best
    return _Best(target, best.whiten_by_gradients, m, turned, free)


def _chosen_length(scores: dict[int, float]) -> int:
    """The best length; where all are slow the longest that is not much worse."""
    top = max(scores.values())
    if top >= THRESHOLDS.hard_rate:
        return max(scores, key=lambda m: scores[m])
    return max(m for m, score in scores.items() if score >= GRID.longest_share * top)


def _whitened_anew(
    best: _Best, source: GridResult, position: Vector, remap: bool, account: Account
) -> Whitened | None:
    """The target whitened by the draws of ``source``, or by gradients at them; None if too few."""
    inner, dtype = best.target.logdensity, position.dtype
    if remap and isinstance(inner, Transported):
        inner = Transported(inner.logdensity, refitted(inner.transport, source.draws, dtype=dtype))
    inside = from_user(inner, source.draws)
    if best.whiten_by_gradients:
        whitening, spent = whiten_by_gradients(inner, inside, position)
        account.charge(spent)
        return None if whitening is None else Whitened(inner, whitening)
    rank = best.target.whitening.stretches.shape[0]
    num = source.num_independent
    whitening = estimate_whitening(inside, num_independent=num, dtype=dtype)
    return Whitened(inner, padded(whitening, max(rank, whitening.stretches.shape[0])))


def _around(angle: float, limit: float) -> np.ndarray:
    return np.geomspace(angle / GRID.finer, min(angle * GRID.finer, limit), GRID.angles)


def _moved(position: Vector, old: Whitened, new: Whitened) -> Vector:
    return jnp.asarray(from_user(new, to_user(old, np.asarray(position))))


def _rotation(num_leapfrogs: int, angle: Array) -> Rotation:
    return Rotation(angle, jnp.asarray(num_leapfrogs))


def _tiled(position: Vector) -> Vector:
    """Positions repeated until every chain of every angle has one."""
    repeats = -(-GRID.angles * GRID.chains // position.shape[1])
    return jnp.asarray(np.tile(np.asarray(position), (1, repeats))[:, : GRID.angles * GRID.chains])


def _best_angle(
    key: Key,
    target: Whitened,
    position: Vector,
    build: Callable[[Array], AbstractDynamics],
    num_leapfrogs: int,
    angles: np.ndarray,
    account: Account,
) -> GridResult:
    """All angles of the grid in one compiled run, each with its own chains."""
    kernel = Transition(target, build(jnp.asarray(np.repeat(angles, GRID.chains), position.dtype)))
    state = start_state(kernel, _tiled(position))
    draws = draw_chains(key, kernel, state, num_draws=GRID.warmup + GRID.draws, chunk_size=CHUNK)
    if not draws.completed:
        raise KeyboardInterrupt
    account.charge(draws.num_gradients)
    kept = draws.record.position[:, GRID.warmup :]
    kept = to_user(target, kept.reshape(-1, kept.shape[-1]).T).T.reshape(
        GRID.angles, GRID.chains, GRID.draws, -1
    )
    quick = np.asarray([fast_ess(block) for block in kept])
    promising = (
        quick >= GRID.promising * quick.max()
    )  # the others are far below half of the best, and left out anyway
    ess = np.asarray(
        [_both(block) if hope else (0.0, 0.0) for block, hope in zip(kept, promising, strict=True)]
    )
    worst = ess.min(axis=1)
    good = worst >= 0.5 * worst.max()
    angle, value = smoothed_best(angles[good], ess[good])
    return GridResult(
        angle=angle,
        score=value / (GRID.chains * GRID.draws * num_leapfrogs),
        draws=kept[good].reshape(-1, kept.shape[-1]).T,
        num_independent=float(worst[good].sum()),
    )


def smoothed_best(angles: np.ndarray, ess: np.ndarray) -> tuple[float, float]:
    """The angle where the lower of two curves is highest, and its value; ``ess`` (angles, 2) is
    noisy.

    Each curve is a parabola through the logarithms over log angle: the highest of eight noisy
    figures would be too high, and next to the best angle as often as at it. Fewer than five angles
    are taken as they are.
    """
    worst = ess.min(axis=1)
    best = int(np.argmax(worst))
    if len(angles) < 5 or worst[best] <= 0:
        return float(angles[best]), float(worst[best])
    logs = np.log(angles)
    fine = np.linspace(logs[0], logs[-1], 101)
    curves = [
        np.polyval(np.polyfit(logs, np.log(np.maximum(column, 1e-12)), 2), fine) for column in ess.T
    ]
    lower = np.minimum(*curves)
    top = int(np.argmax(lower))
    return float(np.exp(fine[top])), float(np.exp(lower[top]))


def _both(draws: np.ndarray) -> tuple[float, float]:
    """Bulk ESS of x and of x^2 in the worst dimension; 0 where not defined."""
    return tuple(float(np.nan_to_num(ess).min()) for ess in fast_min_ess(draws))  # type: ignore[return-value]
