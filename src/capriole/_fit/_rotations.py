"""Candidates without networks: rotations in whitened coordinates, their angle, length and jitter by measurement."""

import math
from collections.abc import Callable
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
            trials[m] = _best_angle(jax.random.fold_in(key, m), target, position, lambda a, m=m: Rotation(a, m), m)
            if progress is not None:
                figures = {"angle": trials[m].angle, "ess_per_gradient": trials[m].score}
                progress(Progress("rotations", m, len(LENGTHS), clock.elapsed, figures))
            if m > 2 and trials[m].score < 0.8 * max(t.score for t in trials.values()):
                break
        best = max(trials, key=lambda m: trials[m].score)
        free = _best_angle(jax.random.fold_in(key, 100), target, position, CrankNicolson, 1)
    spent = sum(t.num_gradients for t in trials.values())
    dtype = position.dtype
    rotation = Transition(target, Rotation(jnp.asarray(trials[best].angle, dtype), best))
    kernels: list[tuple[str, AbstractTransition, int, int]] = [
        ("rotation", rotation, best, spent),
        ("jittered rotation", Jittered(rotation, 1 - _JITTER, 1 + _JITTER), best, spent),
        ("Crank-Nicolson", Transition(target, CrankNicolson(jnp.asarray(free.angle, dtype))), 1, free.num_gradients),
    ]
    return [
        Candidate(
            name=name,
            transition=kernel,
            judgement=judge(jax.random.fold_in(key, 200 + i), kernel, position),
            num_leapfrogs=length,
            seconds=clock.seconds,
            compile_seconds=clock.compile_seconds,
            num_gradients=gradients,
        )
        for i, (name, kernel, length, gradients) in enumerate(kernels)
    ]


def _best_angle(
    key: Key, target: Whitened, position: Vector, build: Callable[[Array], AbstractDynamics], num_leapfrogs: int
) -> Trial:
    """All angles of the grid in one compiled run, each with its own chains."""
    angles = np.geomspace(0.25, min(2.2, 1.7 * num_leapfrogs), _ANGLES)
    chains = min(_CHAINS, position.shape[1])
    per_chain = jnp.repeat(jnp.asarray(angles, position.dtype), chains)
    kernel = Transition(target, build(per_chain))
    state = kernel.init(jnp.tile(position[:, :chains], (1, _ANGLES)))
    draws = draw_chains(key, kernel, state, num_draws=_WARMUP + _DRAWS, chunk_size=_WARMUP + _DRAWS)
    if not draws.completed:
        raise KeyboardInterrupt
    kept = draws.record.position[:, _WARMUP:]
    flat = jnp.asarray(kept.reshape(-1, kept.shape[-1]).T)
    kept = np.asarray(to_user(target, flat)).T.reshape(_ANGLES, chains, _DRAWS, -1)
    scores = [_worst(block) / (chains * _DRAWS * num_leapfrogs) for block in kept]
    best = int(np.argmax(scores))
    return Trial(float(angles[best]), scores[best], draws.num_gradients)


def _worst(draws: np.ndarray) -> float:
    value = float(min(np.min(diagnostics.bulk_ess(draws)), np.min(diagnostics.bulk_ess_sq(draws))))
    return value if math.isfinite(value) else 0.0
