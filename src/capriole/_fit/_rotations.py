"""Candidates without networks: rotations in whitened coordinates, their angle, length and jitter by measurement."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import diagnostics
from .._clock import CompileClock
from .._dynamics import AbstractDynamics, CrankNicolson, Rotation
from .._judge import judge
from .._sample import draw_chains
from .._train import Progress
from .._transition import AbstractTransition, Jittered, Transition
from .._types import Key, Vector
from .._whitening import Whitened, to_user
from ._candidate import Candidate

LENGTHS = (1, 2, 3, 4)
_ANGLES = 8
_CHAINS = 16
_DRAWS = 250
_WARMUP = 50
_JITTER = 0.25


class Trial(NamedTuple):
    """The best of a grid of angles, and what the grid cost."""

    angle: float
    score: float
    num_gradients: int


def rotations(
    key: Key, target: Whitened, position: Vector, *, progress: Callable[[Progress], None] | None = None
) -> list[Candidate]:
    """The best rotation, the same jittered, and the best gradient-free rotation; ``position`` (dim, chains), whitened.

    Every length in `LENGTHS` is tried with a grid of angles side by side, 16 chains each; the score is the worst
    dimension's bulk ESS of x and of x^2 per gradient, in the user's coordinates.
    """
    with CompileClock() as clock:
        trials = {}
        for m in LENGTHS:
            trials[m] = _best_angle(jax.random.fold_in(key, m), target, position, partial(_rotation, m), m)
            if progress is not None:
                figures = {"angle": trials[m].angle, "ess_per_gradient": trials[m].score}
                progress(Progress("rotations", m, len(LENGTHS), clock.elapsed, figures))
            if m > 2 and trials[m].score < 0.8 * max(t.score for t in trials.values()):
                break
        best = max(trials, key=lambda m: trials[m].score)
        free = _best_angle(jax.random.fold_in(key, 100), target, position, CrankNicolson, 1)
    spent = sum(t.num_gradients for t in trials.values())
    angle, free_angle = (jnp.asarray(t.angle, position.dtype) for t in (trials[best], free))
    # Judged with one angle per chain, like the grid, so that the same compiled program serves.
    crowd = _tiled(position)
    wide, wide_free = (jnp.full(crowd.shape[1], a) for a in (angle, free_angle))

    def candidate(
        i: int, name: str, build: Callable[[Array], AbstractTransition], one: Array, many: Array
    ) -> Candidate:
        gradients, length = (free.num_gradients, 1) if many is wide_free else (spent, best)
        judgement = judge(jax.random.fold_in(key, 200 + i), build(many), crowd)
        return Candidate(name, build(one), judgement, length, clock.seconds, clock.compile_seconds, gradients)

    def rotation(a: Array) -> Transition:
        return Transition(target, _rotation(best, a))

    return [
        candidate(0, "rotation", rotation, angle, wide),
        candidate(1, "jittered rotation", lambda a: Jittered(rotation(a), 1 - _JITTER, 1 + _JITTER), angle, wide),
        candidate(2, "Crank-Nicolson", lambda a: Transition(target, CrankNicolson(a)), free_angle, wide_free),
    ]


def _rotation(num_leapfrogs: int, angle: Array) -> Rotation:
    return Rotation(angle, jnp.asarray(num_leapfrogs))


def _tiled(position: Vector) -> Vector:
    """Positions repeated until every chain of every angle has one."""
    repeats = -(-_ANGLES * _CHAINS // position.shape[1])
    return jnp.tile(position, (1, repeats))[:, : _ANGLES * _CHAINS]


def _best_angle(
    key: Key, target: Whitened, position: Vector, build: Callable[[Array], AbstractDynamics], num_leapfrogs: int
) -> Trial:
    """All angles of the grid in one compiled run, each with its own chains."""
    angles = np.geomspace(0.3, min(2.2, 1.65 * num_leapfrogs), _ANGLES)
    kernel = Transition(target, build(jnp.repeat(jnp.asarray(angles, position.dtype), _CHAINS)))
    state = kernel.init(_tiled(position))
    draws = draw_chains(key, kernel, state, num_draws=_WARMUP + _DRAWS, chunk_size=_WARMUP + _DRAWS)
    if not draws.completed:
        raise KeyboardInterrupt
    kept = draws.record.position[:, _WARMUP:]
    flat = jnp.asarray(kept.reshape(-1, kept.shape[-1]).T)
    kept = np.asarray(to_user(target, flat)).T.reshape(_ANGLES, _CHAINS, _DRAWS, -1)
    scores = [_worst(block) / (_CHAINS * _DRAWS * num_leapfrogs) for block in kept]
    best = int(np.argmax(scores))
    return Trial(float(angles[best]), scores[best], draws.num_gradients)


def _worst(draws: np.ndarray) -> float:
    value = float(min(np.min(diagnostics.bulk_ess(draws)), np.min(diagnostics.bulk_ess_sq(draws))))
    return value if math.isfinite(value) else 0.0
