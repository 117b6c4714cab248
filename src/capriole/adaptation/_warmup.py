"""The warm-up of `capriole.fit`: from rough starts to the typical set, in white coordinates."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import chdtri

from ..coordinates import (
    Whitened,
    Whitening,
    estimate_whitening,
    fisher_whitening,
    identity,
    on_host,
    padded,
    spread,
)
from ..diagnostics import (
    SEPARATION,
    ExploredPoints,
    Modes,
    ModeSearch,
    ModeSummary,
    farthest,
    farthest_point_subset,
    fast_max_rhat,
    find_modes,
    missed_high_density_points,
    reseed_chains,
)
from ..kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Key,
    Rotation,
    State,
    Transition,
    Vector,
    state_at,
)
from ..runtime import CompileClock, Pace, Progress, pulse
from ..sampling import draw_chunks
from ._laplace_marginals import Profile
from ._logdensities import logdensities
from ._thresholds import CHUNK, WARMUP


class WarmupResult(NamedTuple):
    """What a warm-up found. Its draws are adaptive and are never returned as a sample.

    Attributes:
        position: The chains' last positions (dim, chains), in the user's coordinates.
        draws: Draws of the last window (chains, draws, dim), in the user's coordinates.
        lp: Log densities of the draws (chains, draws), in the coordinates of the warm-up.
        whitening: White coordinates by these draws.
        fisher: White coordinates by their gradients; None where they are too few.
        rhat_max: R-hat of the last window, worst dimension.
        max_separation: Largest distance of a chain's mean from that of the others, in its own
            standard deviations; chains that hardly moved are left out.
        step_size: The adapted step size of plain HMC, in white coordinates.
        acceptance_rate: Its mean acceptance.
        num_windows: Windows of adaptation.
        num_negligible: Chains that were taken out of places without mass.
        num_stuck: Chains that hardly moved.
        num_missed: Positions met early that are denser than all that the last window saw, as in a
            narrow mode that chains jumped out of.
        modes: The modes in which chains of the last window sit.
        num_gradients: Gradients spent.
        seconds: Seconds without compilation.
        compile_seconds: Seconds of compilation.
        profile: The marginal of a funnel's parents, if one was found.
        search: What was searched for modes that no chain met; None: nothing yet.
        weighed: Modes with masses by importance, the largest first, if that search found one that
            no chain had met, or made sure that chains sat in several.
        completed: False if it was stopped after some windows.
    """

    position: Vector
    draws: Float[np.ndarray, "chains draws dim"]
    lp: Float[np.ndarray, "chains draws"]
    whitening: Whitening
    fisher: Whitening | None
    rhat_max: float
    max_separation: float
    step_size: float
    acceptance_rate: float
    num_windows: int
    num_negligible: int
    num_stuck: int
    num_missed: int
    modes: Modes
    num_gradients: int
    seconds: float
    compile_seconds: float
    profile: Profile | None = None
    search: ModeSearch | None = None
    weighed: tuple[ModeSummary, ...] = ()
    completed: bool = True

    @property
    def agreed(self) -> bool:
        """Whether all chains saw the same distribution, so that there is one mode."""
        met = self.rhat_max < WARMUP.slow_rhat and self.max_separation < SEPARATION
        return met and not self.num_stuck and not self.num_missed and not self.weighed

    @property
    def is_multimodal(self) -> bool:
        """Whether chains sat in several modes, or were put there, and are not only slow."""
        is_apart = self.max_separation >= SEPARATION and len(self.modes.log_mass) != 1
        return is_apart or bool(self.weighed)


class Window(NamedTuple):
    """A window of the warm-up: draws (dim, draws, chains), their log densities and last positions,
    whitened.
    """

    draws: np.ndarray
    lp: np.ndarray
    last: np.ndarray
    turn: float
    acceptance_rate: float
    num_gradients: int


class Meter:
    """Steps of all windows so far, and of those that will surely come.

    Attributes:
        done: Steps done.
        planned: Steps in all, as far as is known: another window is added once it is needed.
        pace: Length of the compiled pieces, common to all windows.
    """

    def __init__(self, planned: int):
        self.done, self.planned, self.pace = 0, planned, Pace()

    @property
    def steps(self) -> tuple[int, int]:
        """Steps done and steps planned."""
        return self.done, self.planned


def explore(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    *,
    num_chains: int = 64,
    max_windows: int = 8,
    gaussianized: bool = False,
    progress: Callable[[Progress], None] | None = None,
    partial: bool = False,
) -> WarmupResult:
    """Windows of plain HMC: from rough starts to the typical set, in coordinates that are white.

    Exploratory chains run for a few steps, so that a mode which few starts lead to is met: the
    second window goes on from positions far apart among all. Each window steers the step size to
    acceptance 0.8 and pools the second half of its steps over all chains into the next whitening.
    It multiplies the ratio of scales that can be told apart, so that a few windows undo large
    condition numbers. The warm-up stops when the chains agree in coordinates that no longer change.
    HMC is written as `Rotation` by a small angle per leapfrog, run in chunks: the same compiled
    program then serves the search for rotations.

    Args:
        key: Key of everything random.
        logdensity: The log density.
        position: Starts (dim, n): those of the chains, then those of the exploratory chains.
        num_chains: Chains.
        max_windows: Windows at most.
        gaussianized: Whether the density should be nearly Gaussian here, as in a transport map's
            coordinates. A chain that stands still far out is then in a place without mass.
        progress: Called after every window.
        partial: Whether a warm-up that is stopped returns what its windows so far have found.

    Returns:
        Positions, draws, coordinates, and how the chains did.

    Raises:
        KeyboardInterrupt: It was stopped, and is not ``partial`` or has no whole window.
    """
    dim, chains = position.shape[0], min(num_chains, position.shape[1])
    with CompileClock() as clock:
        whitening, count, gradients, settled, num_negligible = (
            _from_starts(position),
            0,
            0,
            False,
            0,
        )
        met = ExploredPoints(np.zeros((dim, 0)), np.zeros(0))
        position, others = (
            jnp.asarray(np.asarray(position)[:, :chains]),
            np.asarray(position)[:, chains:],
        )
        completed = True
        meter = Meter(WARMUP.steps + others.shape[1] // chains * WARMUP.exploratory_steps)
        while not settled and count < max_windows:
            whitening = padded(whitening, dim)
            host = on_host(whitening)
            start = jnp.asarray(host.inverse(np.asarray(position)))
            white = Whitened(logdensity, whitening)
            try:
                window = hmc_window(
                    jax.random.fold_in(key, count), white, start, WARMUP.steps, meter=meter
                )
            except KeyboardInterrupt:
                if not (partial and count):
                    raise
                completed = False
                break
            gradients, count = gradients + window.num_gradients, count + 1
            if gaussianized or count >= WARMUP.leave_from:
                window, lost = _without_the_lost(window, gaussianized=gaussianized)
                num_negligible += lost
            rhat = fast_max_rhat(window.draws.transpose(2, 1, 0))
            position = jnp.asarray(host.forward(window.last))
            pooled = host.forward(window.draws.reshape(dim, -1))
            draws = pooled.reshape(window.draws.shape).transpose(2, 1, 0)
            updated = estimate_whitening(
                pooled, num_independent=chains * WARMUP.steps / 10, dtype=position.dtype
            )
            max_separation, num_stuck = farthest(draws)
            mixed = rhat < WARMUP.mixed_rhat and max_separation < SEPARATION and not num_stuck
            left = missed_high_density_points(met, window.lp)
            settled = (
                not others.size
                and mixed
                and change(whitening, updated) < WARMUP.settled_change
                and not left.size
            )
            whitening = updated
            if others.size:
                try:
                    ends, spent = _explored_ends(
                        jax.random.fold_in(key, 1000), white, host, others, chains, meter
                    )
                except KeyboardInterrupt:
                    if not partial:
                        raise
                    completed = False
                    break
                positions = np.concatenate([np.asarray(position), ends], axis=1)
                met = ExploredPoints(positions, logdensities(logdensity, positions, position))
                position = jnp.asarray(
                    farthest_point_subset(positions, chains, num_far=chains // 4)
                )
                gradients, others = gradients + spent + positions.shape[1], others[:, :0]
            elif left.size:
                position = jnp.asarray(reseed_chains(np.asarray(position), left))
            if not settled and count < max_windows:
                meter.planned += WARMUP.steps
            if progress is not None:
                figures = {"acceptance_rate": window.acceptance_rate, "rhat": rhat}
                figures["windows"] = count
                try:
                    progress(Progress("warmup", *meter.steps, clock.elapsed, figures))
                except KeyboardInterrupt:
                    if not partial:
                        raise
                    completed = False
                    break
        fisher, spent = None, 0
        if completed:
            fisher, spent = whiten_by_gradients(logdensity, pooled, position)
    return WarmupResult(
        position=position,
        draws=np.ascontiguousarray(draws),
        lp=np.ascontiguousarray(window.lp.T),
        whitening=whitening,
        fisher=fisher,
        rhat_max=rhat,
        max_separation=max_separation,
        step_size=hmc_step_size(window.turn),
        acceptance_rate=window.acceptance_rate,
        num_windows=count,
        num_negligible=num_negligible,
        num_stuck=num_stuck,
        num_missed=left.shape[1],
        modes=find_modes(draws, window.lp.T),
        num_gradients=gradients + spent,
        seconds=clock.seconds,
        compile_seconds=clock.compile_seconds,
        completed=completed,
    )


def hmc_window(
    key: Key,
    target: Whitened,
    position: Vector,
    num_steps: int,
    most: float = WARMUP.largest_angle,
    *,
    meter: Meter | None = None,
    first_angle: float = WARMUP.first_angle,
    leapfrogs: int = WARMUP.leapfrogs,
    update: int = WARMUP.update,
) -> Window:
    """One window of HMC, its angle per leapfrog steered after each update::

        log angle += 2 / sqrt(k + 1) (mean A - 0.8)

    at most ``most``, times a factor for each chain and update, against resonances.

    Args:
        key: Key of everything random.
        target: The target in white coordinates.
        position: Starts (dim, chains), in these coordinates.
        num_steps: Steps of each chain.
        most: Largest angle of one leapfrog, in radians.
        meter: Counts the steps of all windows; None: those of this one.
        first_angle: Its first value.
        leapfrogs: Leapfrogs of a step.
        update: Steps between two updates.

    Returns:
        What the second half of the steps saw.

    References:
        Andrieu and Thoms 2008, A tutorial on adaptive MCMC.
    """
    meter = meter or Meter(num_steps)
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    length, dtype = jnp.asarray(leapfrogs), position.dtype
    state: Any = None
    log_turn, kept, lp, rates, chunks = math.log(first_angle), [], [], [], num_steps // update
    for k in range(chunks):
        turns = np.exp(log_turn) * generator.uniform(*WARMUP.jitter, position.shape[1])
        kernel = Transition(target, Rotation(jnp.asarray(leapfrogs * turns, dtype), length))
        state = start_state(kernel, position) if state is None else state
        steps: dict[str, Any] = {
            "num_draws": update,
            "first_step": k * update,
            "chunk_size": CHUNK,
            "pace": meter.pace,
        }
        pulse(*meter.steps)
        ((state, record),) = draw_chunks(key, kernel, state, **steps)
        meter.done += update
        rate = float(record.acceptance_rate.mean())
        log_turn = min(log_turn + 2 / math.sqrt(k + 1) * (rate - WARMUP.acceptance), math.log(most))
        if k >= chunks // 2:
            kept.append(record.position)
            lp.append(record.lp)
            rates.append(rate)
    draws = np.concatenate(kept).transpose(1, 0, 2)
    spent = chunks * update * leapfrogs * position.shape[1]
    last = np.asarray(state.position)
    return Window(draws, np.concatenate(lp), last, math.exp(log_turn), float(np.mean(rates)), spent)


def hmc_step_size(turn: float) -> float:
    """The leapfrog's step size at the start of a rotation by ``turn`` radians per leapfrog."""
    return math.sqrt(2 * math.tan(turn / 2) * math.sin(turn))


def start_state(kernel: AbstractTransition, position: Vector) -> State:
    """The state of a kernel's chains at their starts.

    Where the target is whitened, the program that evaluates the user's own log density, compiled
    when starts were checked, serves it: the rest is done on the host.

    Args:
        kernel: A kernel of `State`s.
        position: Starts (dim, chains), in its coordinates.

    Returns:
        What ``kernel.init(position)`` returns.
    """
    if not isinstance(kernel.target, Whitened):
        return cast(State, kernel.init(position))
    host = on_host(kernel.target.whitening)
    there = state_at(kernel.target.logdensity, jnp.asarray(host.forward(np.asarray(position))))
    return State(
        position, there.logdensity, jnp.asarray(host.force(np.asarray(there.logdensity_grad)))
    )


def _without_the_lost(window: Window, *, gaussianized: bool) -> tuple[Window, int]:
    """The window with chains in places without mass replaced by others; and their number.

    With the mean log density of a chain and its deviations, the mass of its place is about::

        log mass = mean log p + sum_i log sd_i

    A chain that hardly moves gets the median of all for its deviations, which is generous only to
    one whose density is high, as in the neck of a funnel. Far below the median it is lost: in a
    minor mode that rough starts led to, which no sampler needs to visit. Where the density should
    be nearly Gaussian, one that hardly moves and is far out is lost as well, unless its density is
    above the median. Up to half of the chains are replaced.
    """
    moves = np.mean(np.any(np.diff(window.draws, axis=1) != 0, axis=0), axis=0)
    volume = np.sum(np.log(np.maximum(window.draws.std(axis=1, dtype=np.float64), 1e-300)), axis=0)
    mass = window.lp.mean(axis=0) + np.where(moves > 0.1, volume, np.median(volume))
    out = ~(mass > np.median(mass) - WARMUP.lost_nats)
    if gaussianized:
        middle, scale = spread(window.draws.reshape(len(window.draws), -1))
        distance = np.sum(((window.last - middle[:, None]) / scale[:, None]) ** 2, axis=0)
        far = distance > chdtri(len(middle), WARMUP.far_share)
        out |= far & (moves <= 0.1) & (mass < np.median(mass))
    lost = np.flatnonzero(out)
    if not lost.size or 2 * lost.size > mass.size:
        return window, 0
    source = np.arange(mass.size)
    source[lost] = np.resize(np.setdiff1d(source, lost), lost.size)
    draws, lp, last = window.draws[..., source], window.lp[:, source], window.last[:, source]
    return window._replace(draws=draws, lp=lp, last=last), int(lost.size)


def _explored_ends(
    key: Key, target: Whitened, host: Whitening, starts: np.ndarray, chains: int, meter: Meter
) -> tuple[np.ndarray, int]:
    """Where short runs from ``starts`` (dim, n), ``chains`` at a time, end, in the user's
    coordinates; gradients.

    In short steps: a step that suits a wide mode throws a chain out of a narrow one.
    Those that never moved tell nothing: they may have started outside the support.
    """
    ends, spent = [], 0
    for i in range(starts.shape[1] // chains):
        batch = host.inverse(starts[:, i * chains : (i + 1) * chains])
        window = hmc_window(
            jax.random.fold_in(key, i),
            target,
            jnp.asarray(batch),
            WARMUP.exploratory_steps,
            WARMUP.exploratory_angle,
            meter=meter,
        )
        ends.append(host.forward(window.last[:, (window.last != batch).any(axis=0)]))
        spent += window.num_gradients
    return np.concatenate(ends or [starts[:, :0]], axis=1), spent


def whiten_by_gradients(
    logdensity: AbstractLogDensity, draws: np.ndarray, position: Vector
) -> tuple[Whitening | None, int]:
    """The whitening by gradients at some of the draws.

    Args:
        logdensity: The log density whose coordinates the draws have.
        draws: Draws (dim, n).
        position: Positions (dim, chains): as many gradients are taken at a time, whose program is
            there already.

    Returns:
        The whitening, and gradients spent. None if draws are too few, or gradients are not finite
        or do not vary.
    """
    chains = position.shape[1]
    some = draws[:, :: max(1, draws.shape[1] // WARMUP.most_gradients)][:, : WARMUP.most_gradients]
    some = some[:, : some.shape[1] // chains * chains]
    if not some.size:
        return None, 0
    blocks = np.split(some.astype(position.dtype), some.shape[1] // chains, axis=1)
    grads = [
        np.asarray(state_at(logdensity, jnp.asarray(block)).logdensity_grad) for block in blocks
    ]
    try:
        return fisher_whitening(
            some, np.concatenate(grads, axis=1), dtype=position.dtype
        ), some.shape[1]
    except ValueError:  # too few draws, or gradients that are not finite or do not vary
        return None, some.shape[1]


def change(old: Whitening, new: Whitening) -> float:
    """Largest factor by which a scale differs between two whitenings, in any direction: 1 if they
    are the same.

    The singular values of ``L_old^-1 L_new``, or their reciprocals, at most.
    """
    old, new = on_host(old), on_host(new)
    columns = (
        new.forward(np.eye(len(old.location), dtype=old.location.dtype)) - new.location[:, None]
    )
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
