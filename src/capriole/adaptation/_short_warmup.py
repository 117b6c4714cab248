"""A short warm-up: few chains, short windows, coordinates by gradients after each."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..coordinates import Whitened, Whitening, estimate_whitening, on_host, padded
from ..diagnostics import farthest, fast_max_rhat, find_modes
from ..kernels import AbstractLogDensity, Key, Vector, state_at
from ..runtime import CompileClock, Progress
from ._thresholds import SHORT_WARMUP
from ._warmup import Meter, WarmupResult, change, hmc_step_size, hmc_window, whiten_by_gradients


def explore_briefly(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> WarmupResult:
    """From rough starts to white coordinates, in a few thousand gradients.

    Each window is a few steps of HMC in the white coordinates so far. The next coordinates are
    those of the least Fisher divergence, by the draws of its second half and their gradients. They
    are exact for a Gaussian, however few and dependent the draws. The first ones are the scales::

        sd_i^2 = sd(x_i) / sd(grad_i)     over the starts

    The warm-up ends when the coordinates stay and the chains roughly agree. Whether they do is for
    longer runs to say.

    Args:
        key: Key of everything random.
        logdensity: The log density.
        position: Starts (dim, chains).
        progress: Called after every window.

    Returns:
        Positions, draws, coordinates, and how the chains did.

    References:
        Seyboldt, Carlson and Carpenter 2026 (nutpie).
    """
    dim, chains = position.shape
    windows = SHORT_WARMUP.windows
    with CompileClock() as clock:
        start = state_at(logdensity, position)
        whitening = _from_starts(position, np.asarray(start.logdensity_grad))
        gradients, angle = chains, SHORT_WARMUP.first_angle
        meter = Meter(sum(windows[: SHORT_WARMUP.fewest_windows]))
        for count, steps in enumerate(windows, start=1):
            host = on_host(whitening)
            window = hmc_window(
                jax.random.fold_in(key, count),
                Whitened(logdensity, whitening),
                jnp.asarray(host.inverse(np.asarray(position))),
                steps,
                meter=meter,
                first_angle=angle,
                leapfrogs=SHORT_WARMUP.leapfrogs,
                update=SHORT_WARMUP.update,
            )
            position = jnp.asarray(host.forward(window.last))
            pooled = host.forward(window.draws.reshape(dim, -1))
            draws = pooled.reshape(window.draws.shape).transpose(2, 1, 0)
            updated, spent = _whitened_by(logdensity, pooled, position)
            gradients += window.num_gradients + spent
            rhat, moved = fast_max_rhat(draws), change(whitening, updated)
            whitening, angle = updated, window.turn
            settled = moved < SHORT_WARMUP.settled_change and rhat < SHORT_WARMUP.settled_rhat
            is_last = settled and count >= SHORT_WARMUP.fewest_windows
            if not is_last and SHORT_WARMUP.fewest_windows <= count < len(windows):
                meter.planned += windows[count]
            if progress is not None:
                figures = {"acceptance_rate": window.acceptance_rate, "rhat": rhat}
                progress(Progress("short warmup", *meter.steps, clock.elapsed, figures))
            if is_last:
                break
        max_separation, num_stuck = farthest(draws)
    return WarmupResult(
        position=position,
        draws=np.ascontiguousarray(draws),
        lp=np.ascontiguousarray(window.lp.T),
        whitening=whitening,
        fisher=None,
        rhat_max=rhat,
        max_separation=max_separation,
        step_size=hmc_step_size(window.turn),
        acceptance_rate=window.acceptance_rate,
        num_windows=count,
        num_negligible=0,
        num_stuck=num_stuck,
        num_missed=0,
        modes=find_modes(draws, window.lp.T),
        num_gradients=gradients,
        seconds=clock.seconds,
        compile_seconds=clock.compile_seconds,
    )


def _from_starts(position: Vector, grads: np.ndarray) -> Whitening:
    """Scales by the spread of the starts and of their gradients, padded to full rank."""
    dim, dtype = position.shape[0], position.dtype
    places = np.asarray(position, np.float64)
    finite = np.isfinite(grads).all(axis=0)
    force = np.asarray(grads[:, finite], np.float64)
    tiny = np.finfo(np.float64).tiny
    variance = places.std(axis=1) / np.maximum(force.std(axis=1), tiny) if finite.sum() > 1 else 0
    usable = np.isfinite(variance) & (variance > 0)
    scale = np.where(usable, np.sqrt(np.where(usable, variance, 1.0)), places.std(axis=1))
    plain = Whitening(
        jnp.asarray(places.mean(axis=1), dtype),
        jnp.asarray(np.maximum(scale, np.sqrt(tiny)), dtype),
        jnp.zeros((dim, 0), dtype),
        jnp.zeros(0, dtype),
    )
    return padded(plain, dim)


def _whitened_by(
    logdensity: AbstractLogDensity, draws: np.ndarray, position: Vector
) -> tuple[Whitening, int]:
    """Coordinates by draws (dim, n) and their gradients, by the draws alone where those fail."""
    found, spent = whiten_by_gradients(logdensity, draws, position)
    if found is None:
        independent = draws.shape[1] / SHORT_WARMUP.dependence
        found = estimate_whitening(draws, num_independent=independent, dtype=position.dtype)
        found = padded(found, len(draws))
    return found, spent
