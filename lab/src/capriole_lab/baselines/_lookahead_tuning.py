"""Look-Ahead HMC tuned over step sizes and refresh rates, by measured ESS per gradient."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from capriole.kernels import AbstractLogDensity, Key, Vector

from ._lookahead import LookAhead
from ._trial import Score, Trial, TuningError


class LookAheadTuning(NamedTuple):
    """The winner and the whole grid, one row per pair of step size and refresh rate; gradients
    spent on tuning.

    ``scores`` are those per gradient: a step costs M gradients where the first look will do, up to
    K M.
    """

    transition: LookAhead
    step_size: float
    refresh: float
    step_sizes: np.ndarray
    refreshes: np.ndarray
    scores: np.ndarray
    acceptance_rates: np.ndarray
    num_gradients: int


def tune_lookahead(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    score: Score,
    *,
    step_sizes: Sequence[float] | np.ndarray,
    refreshes: Sequence[float] | np.ndarray = (0.03, 0.1, 0.3, 1.0),
    num_leapfrogs: int = 10,
    num_looks: int = 4,
    num_draws: int = 1000,
    num_warmup: int = 200,
) -> LookAheadTuning:
    """Run look-ahead HMC with all pairs of step size and refresh rate side by side, keep the best
    score per gradient.

    ``position`` (dim, chains) are the starts; each pair gets all of them, in one compiled run.
    Gradients counted are those a chain needs (see `LookAhead`). Raises TuningError if no pair gives
    a finite score.
    """

    def build(sizes: Array, rates: Array) -> LookAhead:
        return LookAhead(logdensity, sizes, rates, num_leapfrogs, num_looks)

    sizes, rates = (
        a.ravel() for a in np.meshgrid(np.asarray(step_sizes, float), np.asarray(refreshes, float))
    )
    tried = Trial(build, position, score, num_draws, num_warmup).run(key, sizes, rates)
    scores = tried.scores / tried.costs
    if not np.isfinite(scores).any():
        raise TuningError(
            f"no step size in {step_sizes} gave look-ahead HMC a finite score; pass smaller ones"
        )
    best = int(np.nanargmax(scores))
    step_size, refresh, dtype = float(sizes[best]), float(rates[best]), position.dtype
    kernel = build(jnp.asarray(step_size, dtype), jnp.asarray(refresh, dtype))
    spent = tried.num_gradients
    return LookAheadTuning(
        kernel, step_size, refresh, sizes, rates, scores, tried.acceptance_rates, spent
    )
