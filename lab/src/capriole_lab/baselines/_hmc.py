"""HMC at a fixed trajectory length, tuned on a fine grid of step sizes by measured ESS."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from capriole.kernels import AbstractLogDensity, AbstractTransition, Key, Vector, hmc
from capriole.runtime import Progress
from capriole.sampling import Record, draw_chains

from ._trial import Score, Trial, TuningError


class HMCTuning(NamedTuple):
    """The winner and the whole grid: a row per step size, and the gradients of the tuning."""

    transition: AbstractTransition
    step_size: float
    step_sizes: np.ndarray
    scores: np.ndarray
    acceptance_rates: np.ndarray
    num_gradients: int


def tune_hmc(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    score: Score,
    *,
    num_leapfrogs: int,
    step_sizes: Sequence[float] | np.ndarray | None = None,
    jitter: float = 0.0,
    num_draws: int = 1000,
    num_warmup: int = 200,
    progress: Callable[[Progress, Record], None] | None = None,
) -> HMCTuning:
    """Run HMC with every step size of a grid side by side, refine around the best, keep the best.

    ``position`` (dim, chains) are the starts; each step size gets all of them, in one compiled run.
    ``score`` maps draws (chains, draws, dim) to a figure of merit, higher is better; NaN never
    wins. Without ``step_sizes`` the first grid has 24 points over a factor of 1,000 up to the
    largest step size that is ever accepted. The second grid has as many points between the
    neighbours of the first one's best, so the final spacing is about 2 %. ``progress`` is that of
    `draw_chains`, once for each grid. Raises TuningError if no step size gives a finite score.
    """
    grid_key, first_key, second_key = jax.random.split(key, 3)
    if step_sizes is None:
        step_sizes = _grid(grid_key, logdensity, position, num_leapfrogs=num_leapfrogs)

    def build(sizes: Array) -> AbstractTransition:
        return hmc(logdensity, step_size=sizes, num_leapfrogs=num_leapfrogs, jitter=jitter)

    trial = Trial(build, position, score, num_draws, num_warmup, progress)
    coarse = np.sort(np.asarray(step_sizes, np.float64))
    first = trial.run(first_key, coarse)
    best = _best(coarse, first.scores)
    low, high = coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)]
    fine = np.geomspace(low, high, len(coarse) + 2)[1:-1] if high > low else coarse
    second = trial.run(second_key, fine)
    sizes, scores = np.concatenate([coarse, fine]), np.concatenate([first.scores, second.scores])
    rates, spent = (
        np.concatenate([first.acceptance_rates, second.acceptance_rates]),
        first.num_gradients,
    )
    winner = float(sizes[_best(sizes, scores)])
    kernel = build(jnp.asarray(winner, position.dtype))
    return HMCTuning(kernel, winner, sizes, scores, rates, spent + second.num_gradients)


def _best(sizes: np.ndarray, scores: np.ndarray) -> int:
    if not np.isfinite(scores).any():
        raise TuningError(
            f"no step size between {sizes.min():.3g} and {sizes.max():.3g} gave HMC a finite "
            "score; pass step_sizes"
        )
    return int(np.nanargmax(scores))


def _grid(
    key: Key, logdensity: AbstractLogDensity, position: Vector, *, num_leapfrogs: int
) -> np.ndarray:
    """24 step sizes, log-spaced over a factor 1,000 up to the largest that a scan sees accepted."""
    coarse = np.geomspace(1e-6, 1e3, 64)
    chains = position.shape[1]
    per_chain = jnp.repeat(jnp.asarray(coarse, position.dtype), chains)
    kernel = hmc(logdensity, step_size=per_chain, num_leapfrogs=num_leapfrogs)
    draws = draw_chains(
        key, kernel, kernel.init(jnp.tile(position, (1, 64))), num_draws=20, chunk_size=20
    )
    rates = draws.record.acceptance_rate.reshape(64, -1).mean(axis=1)
    largest = coarse[np.flatnonzero(rates > 0.05)[-1]] if (rates > 0.05).any() else 1.0
    return np.geomspace(largest * 1.4 / 1000, largest * 1.4, 24)
