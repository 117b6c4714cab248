"""Candidates without networks: rotations in whitened coordinates, their angle, length and jitter by
measurement.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...adaptation import CHUNK, by_gradients, start_state
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
from ...diagnostics import quick_ess, worst_ess
from ...kernels import (
    AbstractDynamics,
    AbstractTransition,
    CrankNicolson,
    Jittered,
    Key,
    Rotation,
    Transition,
    Vector,
)
from ...runtime import CompileClock, OnProgress, Progress
from ...sampling import draw_chains
from .._candidate import Candidate
from .._evaluation import judge
from ._pcn import FREE, with_returns

LENGTHS = (1, 2, 3, 4)
_LONGER = (6, 9, 14)
_ANGLES = 8
_CHAINS = 8
_DRAWS = 500
_WARMUP = 50
_JITTER = 0.25
_FINER = 1.35
GOOD_ENOUGH = 0.5
"""Effective draws per gradient from which on a gradient-free rotation and refined angles are not
tried.
"""
NO_NETWORKS = 0.25
"""Effective draws per gradient above which neither jitter nor networks are tried: where a kernel
without them lay between this and `GOOD_ENOUGH` on the bench, trained ones were 8 % better at most
(Cox process) or worse (logistic), and jittered ones always worse than the better of the two
rotations.
"""
_PROMISING = 0.25
_HARD = 0.1
_LONGEST = 2.2
_NOT_MUCH_WORSE = 0.6


type Build = Callable[[Array], AbstractTransition]


class Trial(NamedTuple):
    """The best of a grid of angles and what the grid cost; ``draws`` (dim, n), in the user's
    coordinates, are those of all angles at least half as good as the best, worth
    ``num_independent``.
    """

    angle: float
    score: float
    num_gradients: int
    draws: np.ndarray
    num_independent: float


class _Search(NamedTuple):
    """The best rotation and the best gradient-free one (None: not tried), in coordinates as white
    as their draws could make them.
    """

    target: Whitened
    sharp: bool
    num_leapfrogs: int
    turned: Trial
    free: Trial | None
    num_gradients: int


def rotations(
    key: Key,
    target: Whitened,
    position: Vector,
    *,
    sharp: Whitening | None = None,
    polish: int = 2,
    longer: bool = True,
    remap: bool = True,
    progress: OnProgress = None,
    prefix: str = "",
) -> list[Candidate]:
    """The best rotation, the same jittered, and the best gradient-free rotation; ``position`` (dim,
    chains), whitened.

    Every length in `LENGTHS` is tried with a grid of angles side by side, 8 chains each; the score
    is the worst dimension's bulk ESS of x and of x^2 per gradient, in the user's coordinates.
    ``sharp`` is another whitening, kept if the shortest rotation does better in it. Where no
    rotation is `GOOD_ENOUGH`, a gradient-free rotation is tried too, and up to ``polish`` times
    coordinates are estimated anew by the grid's draws, which are more and less dependent than the
    pilot's, and angles are refined there; what was better before stays, as does a transport map
    without ``remap``. The rotation is mixed into the gradient-free one if that may be held
    (`held`). Jitter is tried where both stay below `NO_NETWORKS`, and with ``longer`` and
    ``polish`` more leapfrogs where all stay below `_HARD`. Names of the candidates begin with
    ``prefix``.
    """
    with CompileClock() as clock:
        search = _search(key, target, sharp, position, clock, progress)
        position = _moved(position, target, search.target)
        for i in range(polish if search.free is not None else 0):
            old, search = (
                search,
                _polished(jax.random.fold_in(key, 300 + i), search, position, remap),
            )
            if search.target is old.target:
                break  # no better than before
            position = _moved(position, old.target, search.target)
    target = search.target
    crowd = _tiled(position)

    def candidate(
        i: int, name: str, trial: Trial, length: int, build: Build, gradients: int
    ) -> Candidate:
        kernel = build(jnp.asarray(trial.angle, position.dtype))
        judgement = judge(jax.random.fold_in(key, 200 + i), kernel, crowd)
        gradients += judgement.spent_gradients
        return Candidate(
            prefix + name,
            kernel,
            judgement,
            length,
            clock.seconds,
            clock.compile_seconds,
            gradients,
        )

    def rotation(length: int) -> Callable[[Array], Transition]:
        return lambda angle: Transition(target, _rotation(length, angle))

    best, spent = search.num_leapfrogs, search.num_gradients
    found = [candidate(0, "rotation", search.turned, best, rotation(best), spent)]
    if search.free is None:
        return found
    free = candidate(
        2,
        FREE,
        search.free,
        1,
        lambda a: Transition(target, CrankNicolson(a)),
        search.free.num_gradients,
    )
    if free.judgement.worst > found[0].judgement.worst:
        places = np.concatenate(
            [to_user(target, np.asarray(position)), search.turned.draws], axis=1
        )
        free = with_returns(jax.random.fold_in(key, 500), free, found[0], places, crowd)
    if max(c.judgement.worst for c in (*found, free)) < NO_NETWORKS:
        turn = rotation(best)
        jittered = candidate(
            1,
            "jittered rotation",
            search.turned,
            best,
            lambda a: Jittered(turn(a), 1 - _JITTER, 1 + _JITTER),
            0,
        )
        found.append(jittered._replace(shared_gradients=spent))
    if longer and polish and max(c.judgement.worst for c in (*found, free)) < _HARD:
        length, trial = _longer(jax.random.fold_in(key, 400), target, position)
        found.append(
            candidate(3, "longer rotation", trial, length, rotation(length), trial.num_gradients)
        )
    return [*found, free]


def _longer(key: Key, target: Whitened, position: Vector) -> tuple[int, Trial]:
    """More leapfrogs, and so smaller steps: chains of larger ones may stick in a long run, which a
    grid is too short to show. So the longest that is not much worse than the best.
    """
    found: dict[int, Trial] = {}
    for m in _LONGER:
        angles = np.geomspace(0.3, _LONGEST, _ANGLES)
        found[m] = _best_angle(
            jax.random.fold_in(key, m), target, position, partial(_rotation, m), m, angles
        )
        top = max(trial.score for trial in found.values())
        if found[m].score < _NOT_MUCH_WORSE * top:
            break
    length = max(m for m, trial in found.items() if trial.score >= _NOT_MUCH_WORSE * top)
    return length, found[length]._replace(
        num_gradients=sum(trial.num_gradients for trial in found.values())
    )


def _search(
    key: Key,
    target: Whitened,
    sharp: Whitening | None,
    position: Vector,
    clock: CompileClock,
    progress: OnProgress,
) -> _Search:
    """Grids of angles for every length, and for the gradient-free rotation."""
    trials: dict[int, Trial] = {}
    spent, chosen = 0, False
    for m in LENGTHS:
        # Squares of a rotation's draws are not antithetic, so m gradients give one effective draw
        # of x^2 at most.
        if trials and max(t.score for t in trials.values()) >= 1 / m:
            break
        angles = np.geomspace(0.3, min(_LONGEST, 1.65 * m), _ANGLES)
        trial = partial(_best_angle, jax.random.fold_in(key, m))
        trials[m] = trial(target, position, partial(_rotation, m), m, angles)
        spent += trials[m].num_gradients
        if m == 1 and sharp is not None:
            other = Whitened(target.logdensity, sharp)
            start = _moved(position, target, other)
            second = trial(other, start, partial(_rotation, m), m, angles)
            spent += second.num_gradients
            if second.score > trials[m].score:
                trials[m], target, position, chosen = second, other, start, True
        if progress is not None:
            figures = {"angle": trials[m].angle, "ess_per_gradient": trials[m].score}
            progress(Progress("rotations", m, len(LENGTHS), clock.elapsed, figures))
        if m > 1 and trials[m].score < 0.8 * max(t.score for t in trials.values()):
            break
    best = max(trials, key=lambda m: trials[m].score)
    free = None
    if trials[best].score < GOOD_ENOUGH:
        angles = np.geomspace(0.3, 1.65, _ANGLES)
        free = _best_angle(jax.random.fold_in(key, 100), target, position, CrankNicolson, 1, angles)
    return _Search(target, chosen, best, trials[best], free, spent)


def _polished(key: Key, search: _Search, position: Vector, remap: bool) -> _Search:
    """Coordinates by the best draws so far, with ``remap`` a transport map first, with a finer grid
    of angles around each best one.
    """
    source = max(
        (t for t in (search.turned, search.free) if t), key=lambda trial: trial.num_independent
    )
    inner = search.target.logdensity
    if remap and isinstance(inner, Transported):
        inner = Transported(
            inner.logdensity, refitted(inner.transport, source.draws, dtype=position.dtype)
        )
    inside = from_user(inner, source.draws)
    if search.sharp:
        whitening, spent = by_gradients(inner, inside, position)
        search = search._replace(num_gradients=search.num_gradients + spent)
        if whitening is None:
            return search
    else:
        rank = search.target.whitening.stretches.shape[0]
        whitening = estimate_whitening(
            inside, num_independent=source.num_independent, dtype=position.dtype
        )
        whitening = padded(whitening, max(rank, whitening.stretches.shape[0]))
    target = Whitened(inner, whitening)
    start = _moved(position, search.target, target)
    if not np.isfinite(np.asarray(start)).all():
        return search
    m = search.num_leapfrogs
    angles = _around(search.turned.angle, 2.8 * m)
    turned = _best_angle(
        jax.random.fold_in(key, 0), target, start, partial(_rotation, m), m, angles
    )
    spent, free = search.num_gradients + turned.num_gradients, None
    if search.free is not None:
        angles = _around(search.free.angle, math.pi / 2)
        free = _best_angle(jax.random.fold_in(key, 1), target, start, CrankNicolson, 1, angles)
        free = free._replace(num_gradients=search.free.num_gradients + free.num_gradients)
        search = search._replace(free=search.free._replace(num_gradients=free.num_gradients))
    before = max(t.score for t in (search.turned, search.free) if t)
    if max(t.score for t in (turned, free) if t) < before:
        return search._replace(num_gradients=spent)
    return _Search(target, search.sharp, m, turned, free, spent)


def _around(angle: float, limit: float) -> np.ndarray:
    return np.geomspace(angle / _FINER, min(angle * _FINER, limit), _ANGLES)


def _moved(position: Vector, old: Whitened, new: Whitened) -> Vector:
    return jnp.asarray(from_user(new, to_user(old, np.asarray(position))))


def _rotation(num_leapfrogs: int, angle: Array) -> Rotation:
    return Rotation(angle, jnp.asarray(num_leapfrogs))


def _tiled(position: Vector) -> Vector:
    """Positions repeated until every chain of every angle has one."""
    repeats = -(-_ANGLES * _CHAINS // position.shape[1])
    return jnp.asarray(np.tile(np.asarray(position), (1, repeats))[:, : _ANGLES * _CHAINS])


def _best_angle(
    key: Key,
    target: Whitened,
    position: Vector,
    build: Callable[[Array], AbstractDynamics],
    num_leapfrogs: int,
    angles: np.ndarray,
) -> Trial:
    """All angles of the grid in one compiled run, each with its own chains."""
    kernel = Transition(target, build(jnp.asarray(np.repeat(angles, _CHAINS), position.dtype)))
    state = start_state(kernel, _tiled(position))
    draws = draw_chains(key, kernel, state, num_draws=_WARMUP + _DRAWS, chunk_size=CHUNK)
    if not draws.completed:
        raise KeyboardInterrupt
    kept = draws.record.position[:, _WARMUP:]
    kept = to_user(target, kept.reshape(-1, kept.shape[-1]).T).T.reshape(
        _ANGLES, _CHAINS, _DRAWS, -1
    )
    quick = np.asarray([quick_ess(block) for block in kept])
    promising = (
        quick >= _PROMISING * quick.max()
    )  # the others are far below half of the best, and left out anyway
    ess = np.asarray(
        [_both(block) if hope else (0.0, 0.0) for block, hope in zip(kept, promising, strict=True)]
    )
    worst = ess.min(axis=1)
    good = worst >= 0.5 * worst.max()
    angle, value = smoothed_best(angles[good], ess[good])
    return Trial(
        angle=angle,
        score=value / (_CHAINS * _DRAWS * num_leapfrogs),
        num_gradients=draws.num_gradients,
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
    return tuple(float(np.nan_to_num(ess).min()) for ess in worst_ess(draws))  # type: ignore[return-value]
