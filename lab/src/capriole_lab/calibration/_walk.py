"""Exact draws stay exact draws: a few transitions from many of them, compared with fresh ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from capriole.coordinates import from_user, to_user
from capriole.kernels import AbstractLogDensity, AbstractTransition, Key, Vector
from capriole.sampling import draw_chains

from ._statistics import two_sample_p

_DIRECTIONS = 4


class Walk(NamedTuple):
    """Where the chains ended, (dim, n); mean acceptance; spread of the last log-dets."""

    end: np.ndarray
    acceptance_rate: float
    log_det_sd: float


def walk(key: Key, kernel: AbstractTransition, start: Vector, *, num_steps: int) -> Walk:
    """``num_steps`` transitions from ``start`` (dim, n), in the user's coordinates."""
    init_key, draw_key = jax.random.split(key)
    state = kernel.init(from_user(kernel.target, start), init_key)
    draws = draw_chains(draw_key, kernel, state, num_draws=1, thin=num_steps, chunk_size=1)
    log_det = draws.record.log_det[np.isfinite(draws.record.log_det)]
    end = np.asarray(to_user(kernel.target, draws.state.position))
    return Walk(end, float(draws.record.acceptance_rate.mean()), float(log_det.std()))


def invariance_p(
    target: AbstractLogDensity, end: np.ndarray, fresh: np.ndarray
) -> dict[str, float]:
    """Bounds on the p-values of the distances between chains' ends and fresh exact draws, both
    (dim, n).

    Compared are every coordinate, random directions and the radius in robustly scaled coordinates,
    and the log density.
    """
    low, middle, high = np.quantile(fresh, [0.25, 0.5, 0.75], axis=1)[..., None]
    scaled = [(x - middle) / (high - low) for x in (end, fresh)]
    directions = np.random.default_rng(9).normal(size=(_DIRECTIONS, len(end)))
    found = {f"x{i}": two_sample_p(*pair) for i, pair in enumerate(zip(end, fresh, strict=True))}
    found |= {
        f"direction {i}": two_sample_p(*(d @ z for z in scaled)) for i, d in enumerate(directions)
    }
    found["radius"] = two_sample_p(*(np.sum(z**2, axis=0) for z in scaled))
    found["log density"] = two_sample_p(*(np.asarray(target(jnp.asarray(x))) for x in (end, fresh)))
    return found
