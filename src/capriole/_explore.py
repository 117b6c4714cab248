"""The pilot of `capriole.fit`: from rough starts to chains in the typical set and coordinates that are white."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from . import diagnostics
from ._clock import CompileClock
from ._logdensity import AbstractLogDensity
from ._pilot import run_pilot
from ._train import Progress
from ._types import Key, Vector
from ._whitening import Whitened, Whitening, estimate_whitening, identity, padded

MIXED = 1.05
"""R-hat of a pilot window below which the chains agree with one another."""


class Exploration(NamedTuple):
    """What the pilot found.

    ``position`` (dim, chains) are the chains' last positions and ``draws`` (chains, draws, dim) those of the last
    window, both in the user's coordinates; ``rhat_max`` is theirs: above `MIXED` the target has several modes, or
    places where HMC sticks.
    """

    position: Vector
    draws: Float[np.ndarray, "chains draws dim"]
    whitening: Whitening
    rhat_max: float
    step_size: float
    acceptance_rate: float
    num_windows: int
    num_gradients: int
    seconds: float
    compile_seconds: float


def explore(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    *,
    num_steps: int = 200,
    num_leapfrogs: int = 8,
    max_windows: int = 8,
    progress: Callable[[Progress], None] | None = None,
) -> Exploration:
    """Windows of plain HMC on all chains, each in the coordinates that the one before found white.

    Each window steers the step size to acceptance 0.8 and pools the second half of its steps over all chains into the
    next whitening; it multiplies the ratio of scales that can be told apart, so that a few windows undo large
    condition numbers. Stops when the chains agree (R-hat below `MIXED`) in coordinates that no longer change, or after
    ``max_windows``.
    Its draws are adaptive: they set scales and starts and are never returned as a sample.
    """
    dim, chains = position.shape
    with CompileClock() as clock:
        whitening, window, gradients, settled = _from_starts(position), 0, 0, False
        while not settled and window < max_windows:
            white = Whitened(logdensity, padded(whitening, dim))
            pilot = run_pilot(
                jax.random.fold_in(key, window),
                white,
                whitening.inverse(position),
                num_leapfrogs=num_leapfrogs,
                num_steps=num_steps,
                keep_positions=True,
            )
            position = whitening.forward(pilot.state.position)
            draws = np.asarray(jax.vmap(whitening.forward)(jnp.asarray(pilot.positions)))
            gradients, window = gradients + int(pilot.num_gradients), window + 1
            rhat = float(np.max(diagnostics.rhat(np.asarray(pilot.positions).transpose(2, 0, 1))))
            pooled = draws.transpose(1, 0, 2).reshape(dim, -1)
            updated = estimate_whitening(pooled, num_independent=chains * num_steps / 10, dtype=position.dtype)
            settled = rhat < MIXED and change(whitening, updated) < 1.5
            whitening = updated
            if progress is not None:
                figures = {"acceptance_rate": float(pilot.acceptance_rate), "rhat": rhat}
                progress(Progress("pilot", window, max_windows, clock.elapsed, figures))
    return Exploration(
        position=position,
        draws=np.ascontiguousarray(draws.transpose(2, 0, 1)),
        whitening=whitening,
        rhat_max=rhat,
        step_size=float(pilot.step_size),
        acceptance_rate=float(pilot.acceptance_rate),
        num_windows=window,
        num_gradients=gradients,
        seconds=clock.seconds,
        compile_seconds=clock.compile_seconds,
    )


def change(old: Whitening, new: Whitening) -> float:
    """Largest factor by which a scale differs between two whitenings, in any direction: 1 if they are the same.

    The singular values of ``L_old^-1 L_new``, or their reciprocals, at most.
    """
    dim = old.location.shape[0]
    eye = jnp.eye(dim, dtype=old.location.dtype)
    columns = new.forward(eye) - new.location[:, None]
    ratio = np.asarray(old.inverse(columns + old.location[:, None]), np.float64)
    if not np.isfinite(ratio).all():
        return float("inf")
    singular = np.linalg.svd(ratio, compute_uv=False)
    return float(max(singular[0], 1 / max(singular[-1], 1e-300)))


def _from_starts(position: Vector) -> Whitening:
    """Scales of the starts themselves, if there are enough of them and they differ."""
    dim, chains = position.shape
    if chains < 4:
        return identity(dim, position.dtype)
    return estimate_whitening(np.asarray(position), num_independent=chains, dtype=position.dtype)
