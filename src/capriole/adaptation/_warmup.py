"""The pilot of `capriole.fit`: from rough starts to chains in the typical set and coordinates that
are white.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.stats import chi2

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
    APART,
    Met,
    Modes,
    farthest,
    find_modes,
    left_behind,
    put_back,
    spread_out,
    worst_rhat,
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
from ..runtime import CompileClock, Progress
from ..sampling import draw_chunks
from ._laplace_marginals import Profile
from ._logdensities import logdensities

MIXED = 1.05
"""R-hat of a pilot window below which the chains agree with one another, and the pilot may end."""
SLOW = 1.1
"""R-hat below which chains that are only slow still count as agreeing when the pilot's windows are
used up.
"""
LOST = 50.0
"""Nats below the median of all chains from which on the estimated mass of a chain's place counts as
none.
"""
CHUNK = 100
"""Steps of a compiled run of the pilot and of the search after it."""
_STEPS = 200
_LEAPFROGS = 8
_UPDATE = 4
_MOST = 1.2
_MOST_GRADIENTS = 4096
_SCOUT_STEPS = 40
_GENTLY = 0.025
_LEAVE_FROM = 3
_ONE_IN = 1e6


class Exploration(NamedTuple):
    """What the pilot found.

    ``position`` (dim, chains) are the chains' last positions and ``draws`` (chains, draws, dim)
    those of the last window, both in the user's coordinates; ``rhat_max`` and ``apart`` are theirs.
    ``num_lost`` counts chains that were taken out of places without mass, ``num_frozen`` those that
    hardly moved, of which ``apart`` knows nothing. ``num_left`` counts places met early that are
    denser than all that the last window saw: a narrow mode that chains jumped out of, ``modes`` the
    places where chains of the last window sit. ``sharp`` is the whitening that their gradients give
    (None: too few draws). Where the chains have not ``agreed``, the target has several modes, or
    places where HMC sticks. ``profile`` is the marginal of a funnel's parent, if one was found.
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
    num_lost: int
    num_frozen: int
    num_left: int
    modes: Modes
    num_gradients: int
    seconds: float
    compile_seconds: float
    profile: Profile | None = None

    @property
    def agreed(self) -> bool:
        """Whether all chains saw the same distribution: R-hat below `SLOW`, none `APART` or frozen,
        no place left.
        """
        return (
            self.rhat_max < SLOW
            and self.apart < APART
            and not self.num_frozen
            and not self.num_left
        )


class _Window(NamedTuple):
    """A window of the pilot: draws (dim, draws, chains), their log densities and last positions,
    whitened.
    """

    draws: np.ndarray
    lp: np.ndarray
    last: np.ndarray
    turn: float
    acceptance_rate: float
    num_gradients: int


def explore(
    key: Key,
    logdensity: AbstractLogDensity,
    position: Vector,
    *,
    num_chains: int = 64,
    max_windows: int = 8,
    bell: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Exploration:
    """Windows of plain HMC on ``num_chains`` chains, each in the coordinates that the one before
    found white.

    The first of them start from the first of ``position`` (dim, starts); the other starts are
    scouts, run for a few steps, so that a mode which few starts lead to is met: the second window
    goes on from places far apart among all.

    Each window steers the step size to acceptance 0.8 and pools the second half of its steps over
    all chains into the next whitening; it multiplies the ratio of scales that can be told apart, so
    that a few windows undo large condition numbers. Stops when the chains agree (R-hat below
    `MIXED`) in coordinates that no longer change, or after ``max_windows``. HMC is written as
    `Rotation` by a small angle per leapfrog, run in chunks of `CHUNK` steps: the same compiled
    program then serves the search for rotations. ``bell`` says that the density should be nearly
    Gaussian here, so that a frozen chain far out is lost (`_without_the_lost`). Its draws are
    adaptive: they set scales and starts and are never returned as a sample.
    """
    dim, chains = position.shape[0], min(num_chains, position.shape[1])
    with CompileClock() as clock:
        whitening, count, gradients, settled, num_lost = _from_starts(position), 0, 0, False, 0
        met = Met(np.zeros((dim, 0)), np.zeros(0))
        position, others = (
            jnp.asarray(np.asarray(position)[:, :chains]),
            np.asarray(position)[:, chains:],
        )
        while not settled and count < max_windows:
            whitening = padded(whitening, dim)
            host = on_host(whitening)
            start = jnp.asarray(host.inverse(np.asarray(position)))
            white = Whitened(logdensity, whitening)
            window = _window(jax.random.fold_in(key, count), white, start, _STEPS)
            gradients, count = gradients + window.num_gradients, count + 1
            if bell or count >= _LEAVE_FROM:
                window, lost = _without_the_lost(window, bell=bell)
                num_lost += lost
            rhat = worst_rhat(window.draws.transpose(2, 1, 0))
            position = jnp.asarray(host.forward(window.last))
            pooled = host.forward(window.draws.reshape(dim, -1))
            draws = pooled.reshape(window.draws.shape).transpose(2, 1, 0)
            updated = estimate_whitening(
                pooled, num_independent=chains * _STEPS / 10, dtype=position.dtype
            )
            apart, num_frozen = farthest(draws)
            mixed = rhat < MIXED and apart < APART and not num_frozen
            left = left_behind(met, window.lp)
            settled = (
                not others.size and mixed and change(whitening, updated) < 1.5 and not left.size
            )
            if others.size:
                ends, spent = _scouted(jax.random.fold_in(key, 1000), white, host, others, chains)
                places = np.concatenate([np.asarray(position), ends], axis=1)
                met = Met(places, logdensities(logdensity, places, position))
                position = jnp.asarray(spread_out(places, chains, num_far=chains // 4))
                gradients, others = gradients + spent + places.shape[1], others[:, :0]
            elif left.size:
                position = jnp.asarray(put_back(np.asarray(position), left))
            whitening = updated
            if progress is not None:
                figures = {"acceptance_rate": window.acceptance_rate, "rhat": rhat}
                progress(Progress("pilot", count, max_windows, clock.elapsed, figures))
        sharp, spent = by_gradients(logdensity, pooled, position)
    return Exploration(
        position=position,
        draws=np.ascontiguousarray(draws),
        whitening=whitening,
        sharp=sharp,
        rhat_max=rhat,
        apart=apart,
        step_size=math.sqrt(2 * math.tan(window.turn / 2) * math.sin(window.turn)),
        acceptance_rate=window.acceptance_rate,
        num_windows=count,
        num_lost=num_lost,
        num_frozen=num_frozen,
        num_left=left.shape[1],
        modes=find_modes(draws, window.lp.T),
        num_gradients=gradients + spent,
        seconds=clock.seconds,
        compile_seconds=clock.compile_seconds,
    )


def _window(
    key: Key, target: Whitened, position: Vector, num_steps: int, most: float = _MOST
) -> _Window:
    """Chunks of `_UPDATE` steps, after each of which the angle per leapfrog is steered to
    acceptance 0.8::

        log turn += 2 / sqrt(k + 1) (mean A - 0.8)

    at most ``most``, times a factor from 0.6 to 1.2 for each chain and chunk, against resonances
    (Andrieu and Thoms 2008).
    """
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    length, dtype = jnp.asarray(_LEAPFROGS), position.dtype
    state: Any = None
    log_turn, kept, lp, rates, chunks = math.log(0.1), [], [], [], num_steps // _UPDATE
    for k in range(chunks):
        turns = np.exp(log_turn) * generator.uniform(0.6, 1.2, position.shape[1])
        kernel = Transition(target, Rotation(jnp.asarray(_LEAPFROGS * turns, dtype), length))
        state = start_state(kernel, position) if state is None else state
        steps: dict[str, Any] = {
            "num_draws": _UPDATE,
            "first_step": k * _UPDATE,
            "chunk_size": CHUNK,
        }
        ((state, record),) = draw_chunks(key, kernel, state, **steps)
        rate = float(record.acceptance_rate.mean())
        log_turn = min(log_turn + 2 / math.sqrt(k + 1) * (rate - 0.8), math.log(most))
        if k >= chunks // 2:
            kept.append(record.position)
            lp.append(record.lp)
            rates.append(rate)
    draws = np.concatenate(kept).transpose(1, 0, 2)
    spent = chunks * _UPDATE * _LEAPFROGS * position.shape[1]
    last = np.asarray(state.position)
    return _Window(
        draws, np.concatenate(lp), last, math.exp(log_turn), float(np.mean(rates)), spent
    )


def start_state(kernel: AbstractTransition, position: Vector) -> State:
    """``kernel.init(position)`` for a kernel of `State`s.

    Where the target is whitened, the program that evaluates the user's own log density, compiled
    when starts were checked, serves it: the rest is done on the host.
    """
    if not isinstance(kernel.target, Whitened):
        return cast(State, kernel.init(position))
    host = on_host(kernel.target.whitening)
    there = state_at(kernel.target.logdensity, jnp.asarray(host.forward(np.asarray(position))))
    return State(
        position, there.logdensity, jnp.asarray(host.force(np.asarray(there.logdensity_grad)))
    )


def _without_the_lost(window: _Window, *, bell: bool) -> tuple[_Window, int]:
    """The window with chains that sit where next to no mass is replaced by others of its chains;
    and their number.

    With the mean log density of a chain and its deviations, the mass of the place where it sits is
    about::

        log mass = mean log p + sum_i log sd_i

    A chain that hardly moves has no deviations to speak of; it gets the median of all, which is
    generous only to one whose density is high, as in the neck of a funnel. Below the median by more
    than `LOST` nats it is lost: in a minor mode that rough starts led to, which no sampler needs to
    visit. Under a ``bell`` one that hardly moves is lost as well if no draw in `_ONE_IN` should be
    as far out, unless its density is above the median: it came from where HMC in other coordinates
    got stuck. Up to half of the chains are replaced.
    """
    moves = np.mean(np.any(np.diff(window.draws, axis=1) != 0, axis=0), axis=0)
    volume = np.sum(np.log(np.maximum(window.draws.std(axis=1, dtype=np.float64), 1e-300)), axis=0)
    mass = window.lp.mean(axis=0) + np.where(moves > 0.1, volume, np.median(volume))
    out = ~(mass > np.median(mass) - LOST)
    if bell:
        middle, scale = spread(window.draws.reshape(len(window.draws), -1))
        distance = np.sum(((window.last - middle[:, None]) / scale[:, None]) ** 2, axis=0)
        far = distance > chi2.isf(1 / _ONE_IN, len(middle))
        out |= far & (moves <= 0.1) & (mass < np.median(mass))
    lost = np.flatnonzero(out)
    if not lost.size or 2 * lost.size > mass.size:
        return window, 0
    source = np.arange(mass.size)
    source[lost] = np.resize(np.setdiff1d(source, lost), lost.size)
    draws, lp, last = window.draws[..., source], window.lp[:, source], window.last[:, source]
    return window._replace(draws=draws, lp=lp, last=last), int(lost.size)


def _scouted(
    key: Key, target: Whitened, host: Whitening, starts: np.ndarray, chains: int
) -> tuple[np.ndarray, int]:
    """Where short runs from ``starts`` (dim, n), ``chains`` at a time, end, in the user's
    coordinates; gradients.

    In short steps: a step that suits a wide mode throws a chain out of a narrow one.
    Those that never moved tell nothing: they may have started outside the support.
    """
    ends, spent = [], 0
    for i in range(starts.shape[1] // chains):
        batch = host.inverse(starts[:, i * chains : (i + 1) * chains])
        window = _window(
            jax.random.fold_in(key, i), target, jnp.asarray(batch), _SCOUT_STEPS, _GENTLY
        )
        ends.append(host.forward(window.last[:, (window.last != batch).any(axis=0)]))
        spent += window.num_gradients
    return np.concatenate(ends or [starts[:, :0]], axis=1), spent


def by_gradients(
    logdensity: AbstractLogDensity, draws: np.ndarray, position: Vector
) -> tuple[Whitening | None, int]:
    """The whitening by gradients at up to `_MOST_GRADIENTS` of the draws (dim, n), and their
    number.

    None if they are too few, one is not finite, or the gradients do not vary. They are evaluated as
    many at a time as there are chains in ``position``: that program is there already.
    """
    chains = position.shape[1]
    some = draws[:, :: max(1, draws.shape[1] // _MOST_GRADIENTS)][:, :_MOST_GRADIENTS]
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
