"""The pilot of `capriole.fit`: from rough starts to chains in the typical set and coordinates that are white."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from . import diagnostics
from ._clock import CompileClock
from ._logdensity import AbstractLogDensity
from ._pilot import Pilot, run_pilot
from ._train import Progress
from ._types import Key, Vector
from ._whitening import Whitened, Whitening, estimate_whitening, fisher_whitening, identity, on_host, padded

MIXED = 1.05
"""R-hat of a pilot window below which the chains agree with one another, and the pilot may end."""
SLOW = 1.1
"""R-hat below which chains that are only slow still count as agreeing when the pilot's windows are used up."""
APART = 6.0
"""Distance of a chain's mean from the mean of all, in its own standard deviations, from which on it sits elsewhere."""


class Exploration(NamedTuple):
    """What the pilot found.

    ``position`` (dim, chains) are the chains' last positions and ``draws`` (chains, draws, dim) those of the last
    window, both in the user's coordinates; ``rhat_max`` and ``apart`` are theirs. ``sharp`` is the whitening that
    their gradients give (None: too few draws). Where the chains have not ``agreed``, the target has several modes, or
    places where HMC sticks.
    """

    position: Vector
    draws: Float[np.ndarray, "chains draws dim"]
    whitening: Whitening
    sharp: Whitening | None
    rhat_max: float
    apart: float
    step_size: float
    acceptance_rate: float
    num_windows: int
    num_gradients: int
    seconds: float
    compile_seconds: float

    @property
    def agreed(self) -> bool:
        """Whether all chains saw the same distribution: R-hat below `SLOW` and no chain `APART`."""
        return self.rhat_max < SLOW and self.apart < APART


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
            whitening = padded(whitening, dim)
            white = Whitened(logdensity, whitening)
            pilot = run_pilot(
                jax.random.fold_in(key, window),
                white,
                jnp.asarray(on_host(whitening).inverse(np.asarray(position))),
                num_leapfrogs=num_leapfrogs,
                num_steps=num_steps,
                keep_positions=True,
            )
            position, draws, grads = _in_user_coordinates(on_host(whitening), pilot)
            gradients, window = gradients + int(pilot.num_gradients), window + 1
            rhat = float(np.max(diagnostics.rhat(np.asarray(pilot.positions).transpose(2, 0, 1))))
            pooled = draws.reshape(dim, -1)
            updated = estimate_whitening(pooled, num_independent=chains * num_steps / 10, dtype=position.dtype)
            apart = farthest(draws.transpose(2, 1, 0))
            settled = rhat < MIXED and apart < APART and change(whitening, updated) < 1.5
            whitening = updated
            if progress is not None:
                figures = {"acceptance_rate": float(pilot.acceptance_rate), "rhat": rhat}
                progress(Progress("pilot", window, max_windows, clock.elapsed, figures))
    return Exploration(
        position=position,
        draws=np.ascontiguousarray(draws.transpose(2, 1, 0)),
        whitening=whitening,
        sharp=_sharp(pooled, grads.reshape(dim, -1), position.dtype),
        rhat_max=rhat,
        apart=apart,
        step_size=float(pilot.step_size),
        acceptance_rate=float(pilot.acceptance_rate),
        num_windows=window,
        num_gradients=gradients,
        seconds=clock.seconds,
        compile_seconds=clock.compile_seconds,
    )


def _in_user_coordinates(host: Whitening, pilot: Pilot) -> tuple[Vector, np.ndarray, np.ndarray]:
    """Last positions (dim, chains), and a window's positions and gradients (dim, steps, chains)."""

    def flat(values: Any) -> np.ndarray:
        return np.asarray(values).transpose(1, 0, 2).reshape(values.shape[1], -1)

    steps, dim, chains = pilot.positions.shape  # type: ignore[union-attr]
    draws, grads = host.forward(flat(pilot.positions)), host.gradient(flat(pilot.grads))
    last = jnp.asarray(host.forward(np.asarray(pilot.state.position)))
    return last, draws.reshape(dim, steps, chains), grads.reshape(dim, steps, chains)


def _sharp(draws: np.ndarray, grads: np.ndarray, dtype: Any) -> Whitening | None:
    try:
        return fisher_whitening(draws, grads, dtype=dtype)
    except ValueError:  # too few draws, or a gradient that is not finite
        return None


def farthest(draws: Float[np.ndarray, "chains draws dim"]) -> float:
    """Largest distance of a chain's mean from the median of all chains' means, in standard deviations of that chain.

    R-hat hardly notices one chain of 64 in another mode; this does.
    """
    means = draws.mean(axis=1)
    spread = np.maximum(draws.std(axis=1), 1e-12 * (1 + np.abs(means)))
    return float(np.max(np.abs(means - np.median(means, axis=0)) / spread))


def change(old: Whitening, new: Whitening) -> float:
    """Largest factor by which a scale differs between two whitenings, in any direction: 1 if they are the same.

    The singular values of ``L_old^-1 L_new``, or their reciprocals, at most.
    """
    old, new = on_host(old), on_host(new)
    columns = new.forward(np.eye(len(old.location), dtype=old.location.dtype)) - new.location[:, None]
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
