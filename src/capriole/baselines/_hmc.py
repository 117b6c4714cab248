"""HMC at a fixed trajectory length, tuned on a fine grid of step sizes. The best measured ESS wins."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._logdensity import AbstractLogDensity
from .._sample import draw_chains
from .._transition import AbstractTransition, hmc
from .._types import Key, Vector

type Score = Callable[[np.ndarray], float]


class HMCTuning(NamedTuple):
    """The winner and the whole grid: one row per step size, scores as measured, gradients spent on tuning."""

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
    step_sizes: Sequence[float] | None = None,
    jitter: float = 0.0,
    num_draws: int = 1000,
    num_warmup: int = 200,
) -> HMCTuning:
    """Run HMC with every step size of the grid side by side and keep the one with the best score.

    ``position`` (dim, chains) are the starts; each step size gets all of them, in one compiled run.
    ``score`` maps draws (chains, draws, dim) to a figure of merit, higher is better; NaN never wins. Without
    ``step_sizes`` the grid has 32 points over a factor of 1,000 below the largest step size that is ever accepted.
    Raises RuntimeError if no step size gives a finite score.
    """
    grid_key, run_key = jax.random.split(key)
    if step_sizes is None:
        step_sizes = _grid(grid_key, logdensity, position, num_leapfrogs=num_leapfrogs)
    sizes = np.asarray(step_sizes, np.float64)
    chains = position.shape[1]
    per_chain = jnp.repeat(jnp.asarray(sizes, position.dtype), chains)
    kernel = hmc(logdensity, step_size=per_chain, num_leapfrogs=num_leapfrogs, jitter=jitter)
    state = kernel.init(jnp.tile(position, (1, len(sizes))))
    draws = draw_chains(run_key, kernel, state, num_draws=num_warmup + num_draws)
    kept = draws.record.position[:, num_warmup:].reshape(len(sizes), chains, num_draws, -1)
    rates = draws.record.acceptance_rate[:, num_warmup:].reshape(len(sizes), -1).mean(axis=1)
    scores = np.array([score(block) if rate > 1e-3 else np.nan for block, rate in zip(kept, rates, strict=True)])
    if not np.isfinite(scores).any():
        raise RuntimeError(
            f"no step size between {sizes.min():.3g} and {sizes.max():.3g} gave HMC a finite score; pass step_sizes"
        )
    best = float(sizes[int(np.nanargmax(scores))])
    winner = hmc(logdensity, step_size=jnp.asarray(best, position.dtype), num_leapfrogs=num_leapfrogs, jitter=jitter)
    return HMCTuning(winner, best, sizes, scores, rates, draws.num_gradients)


def _grid(key: Key, logdensity: AbstractLogDensity, position: Vector, *, num_leapfrogs: int) -> np.ndarray:
    """32 step sizes, log-spaced over a factor 1,000 below the largest that a coarse scan sees accepted."""
    coarse = np.geomspace(1e-6, 1e3, 64)
    chains = position.shape[1]
    per_chain = jnp.repeat(jnp.asarray(coarse, position.dtype), chains)
    kernel = hmc(logdensity, step_size=per_chain, num_leapfrogs=num_leapfrogs)
    draws = draw_chains(key, kernel, kernel.init(jnp.tile(position, (1, 64))), num_draws=20, chunk_size=20)
    rates = draws.record.acceptance_rate.reshape(64, -1).mean(axis=1)
    largest = coarse[np.flatnonzero(rates > 0.05)[-1]] if (rates > 0.05).any() else 1.0
    return np.geomspace(largest * 1.4 / 1000, largest * 1.4, 32)
