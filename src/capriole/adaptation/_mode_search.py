"""A search for modes that no chain of the warm-up met: many points climb, maxima are weighed.

A wide cloud of points costs one gradient each where a known mode's Gaussian explains them: Newton's
step then leads to its centre. Only the others climb.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from ..coordinates import estimate_whitening
from ..diagnostics import (
    MAX_MODES,
    ModeSearch,
    ModeSummary,
    farthest,
    fast_max_rhat,
    find_modes,
    floored_scale,
)
from ..kernels import AbstractLogDensity, Key, Vector
from ..runtime import CompileClock
from ._climbing import Points, climb, top
from ._gaussians import Oracle, Place, Weighed, weigh
from ._thresholds import MODE_SEARCH, WARMUP
from ._warmup import WarmupResult


def search_modes(
    key: Key,
    target: AbstractLogDensity,
    starts: Vector,
    warmup: WarmupResult,
    share: float = 1.0,
) -> WarmupResult:
    """The warm-up, and what a search for modes finds that its chains did not meet.

    Points are drawn around the starts and around the draws, at widths spread evenly in their
    logarithm. Those that no Gaussian of a known mode explains climb; where they end the curvature
    makes a Gaussian, and importance sampling says what mass it holds. A mode counts if it holds
    over 1 % of the mass and the draws do not visit it. Some chains then take draws of it.

    Args:
        key: Key of everything random.
        target: The log density.
        starts: Starts (dim, n), whose spread is the unit of the search.
        warmup: What the chains found, in the user's coordinates.
        share: Share of the usual number of points, and of gradients at most.

    Returns:
        The warm-up with its field ``search``, and with chains in modes that were found. It is
        unchanged in too many dimensions, and where draws have no covariance.
    """
    if warmup.draws.shape[2] > MODE_SEARCH.most_dim:
        return warmup
    try:
        return _searched(key, target, starts, warmup, share)
    except np.linalg.LinAlgError:
        return warmup


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # far out there may be no numbers
def _searched(
    key: Key, target: AbstractLogDensity, starts: Vector, warmup: WarmupResult, share: float
) -> WarmupResult:
    with CompileClock() as clock:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        oracle = Oracle(target, warmup.position)
        known = known_places(warmup)
        own = [] if warmup.agreed else _own_modes(rng, oracle, known, warmup)
        known = [one.place for one in own] or known
        x = _cloud(rng, np.asarray(starts, np.float64), warmup.draws, share)
        points = Points(x, *oracle(x))
        points = points.where(np.isfinite(points.lp))
        num_finite = len(points.lp)
        points = points.unexplained(known)
        num_unexplained = len(points.lp)
        most = round(share * MODE_SEARCH.most_gradients)
        places, num_climbed = _climbed(oracle, points, known, most)
        found, num_maxima = _weighed(rng, oracle, places, known, own, warmup)
    low, high = np.quantile(x, [0.01, 0.99], axis=1)
    search = ModeSearch(
        num_points=x.shape[1],
        num_finite=num_finite,
        num_unexplained=num_unexplained,
        num_climbed=num_climbed,
        num_maxima=num_maxima,
        num_found=len(found),
        num_gradients=oracle.num_gradients,
        widths=(MODE_SEARCH.start_widths[0], MODE_SEARCH.far_widths[1]),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
    )
    if found:
        warmup = _seeded(rng, warmup, known, own, found)
    elif len(own) > 1:
        warmup = warmup._replace(weighed=_summaries(own))
    return warmup._replace(
        search=search,
        num_gradients=warmup.num_gradients + oracle.num_gradients,
        seconds=warmup.seconds + clock.seconds,
        compile_seconds=warmup.compile_seconds + clock.compile_seconds,
    )


def known_places(warmup: WarmupResult) -> list[Place]:
    """The modes of the warm-up's chains as Gaussians; one of all draws where none was made out."""
    groups = [warmup.modes.label == k for k in range(len(warmup.modes.log_mass))]
    groups = groups or [np.ones(len(warmup.draws), bool)]
    dim = warmup.draws.shape[2]
    return [
        Place.of_draws(
            warmup.draws[group].reshape(-1, dim).astype(np.float64), warmup.lp[group].ravel()
        )
        for group in groups
    ]


def _cloud(
    rng: np.random.Generator, starts: np.ndarray, draws: np.ndarray, share: float
) -> np.ndarray:
    """Points (dim, n) around the starts and around the draws, in random order."""
    own = draws.reshape(-1, draws.shape[2]).T.astype(np.float64)
    clouds = (
        (starts, MODE_SEARCH.around_starts, MODE_SEARCH.start_widths),
        (starts, MODE_SEARCH.far_out, MODE_SEARCH.far_widths),
        (own, MODE_SEARCH.around_draws, MODE_SEARCH.draw_widths),
    )
    parts = []
    for around, usual, widths in clouds:
        num = round(share * usual)
        centre = around.mean(axis=1)
        scale = floored_scale(around.std(axis=1), centre)
        narrow, wide = map(math.log, widths)
        width = np.exp(rng.uniform(narrow, wide, num))
        noise = rng.normal(size=(len(centre), num))
        parts.append(centre[:, None] + scale[:, None] * width * noise)
    every = np.concatenate(parts, axis=1)
    return every[:, rng.permutation(every.shape[1])]


def _climbed(
    oracle: Oracle, points: Points, known: list[Place], most_gradients: int
) -> tuple[list[Place], int]:
    """Gaussians at the maxima that points lead to, and how many points climbed."""
    unit = max(known, key=lambda place: place.log_mass)
    places: list[Place] = []
    num_climbed = 0
    while len(points.lp) and oracle.num_gradients < most_gradients:
        batch = np.arange(len(points.lp)) < MODE_SEARCH.batch
        ends = climb(oracle, points.where(batch), unit, [*known, *places], MODE_SEARCH.steps)
        num_climbed += int(batch.sum())
        places += _tops(oracle, ends, unit, [*known, *places])
        if len(places) > MAX_MODES:
            break
        points = points.where(~batch).unexplained(places)
    return places, num_climbed


def _tops(oracle: Oracle, ends: Points, unit: Place, known: list[Place]) -> list[Place]:
    """Gaussians at the tops that ends of climbs lead to, the highest and some below them first."""
    found: list[Place] = []
    for _ in range(MODE_SEARCH.rounds):
        ends = ends.where(np.argsort(-ends.lp)).unexplained(found)
        if not len(ends.lp) or oracle.num_gradients > MODE_SEARCH.most_gradients:
            break
        picked = np.linspace(0, len(ends.lp) - 1, MODE_SEARCH.tops).astype(int)
        some = np.isin(np.arange(len(ends.lp)), picked)
        tops = climb(oracle, ends.where(some), unit, [*known, *found], MODE_SEARCH.longer)
        ends = ends.where(~some)
        for i in np.argsort(-tops.lp):
            one = tops.where(np.array([i]))
            if not len(one.unexplained(found).lp):
                continue
            if oracle.num_gradients > MODE_SEARCH.most_gradients:
                break
            place = top(oracle, one, unit)
            if place is not None and not any(_same(place, other) for other in (*known, *found)):
                found.append(place)
    return found


def _same(place: Place, other: Place) -> bool:
    """Whether two Gaussians are one: each has the other's centre within a deviation."""
    there = float(np.sum(place.white(other.centre[:, None]) ** 2))
    back = float(np.sum(other.white(place.centre[:, None]) ** 2))
    return max(there, back) < 1


def _own_modes(
    rng: np.random.Generator, oracle: Oracle, known: list[Place], warmup: WarmupResult
) -> list[Weighed]:
    """The modes where chains ended, weighed; none if that cannot be believed of two or more.

    Chains that disagree may sit in parts of one funnel. Two maxima that both hold mass are two
    modes.
    """
    x = np.asarray(warmup.position, np.float64)
    unit = max(known, key=lambda place: place.log_mass)
    ends = climb(oracle, Points(x, *oracle(x)), unit, [], MODE_SEARCH.steps)
    tops = _tops(oracle, ends, unit, [])
    total = float(logsumexp([place.log_mass for place in tops])) if tops else 0.0
    found: list[Weighed] = []
    for place in tops:
        if place.log_mass - total < np.log(MODE_SEARCH.least_share):
            continue
        one = weigh(rng, oracle, place)
        if one is not None and one.effective > MODE_SEARCH.sure_effective:
            found.append(one)
    total = float(logsumexp([one.log_mass for one in found])) if found else 0.0
    least = total + np.log(MODE_SEARCH.least_share)
    found = [one for one in found if one.log_mass > least]
    # More come from a rough surface, as everywhere else.
    return found if 1 < len(found) <= MAX_MODES else []


def _weighed(
    rng: np.random.Generator,
    oracle: Oracle,
    places: list[Place],
    known: list[Place],
    own: list[Weighed],
    warmup: WarmupResult,
) -> tuple[list[Weighed], int]:
    """The maxima that hold mass which the draws do not visit; and how many were weighed."""
    draws = warmup.draws.reshape(-1, warmup.draws.shape[2]).T.astype(np.float64)
    total = float(logsumexp([place.log_mass for place in known]))
    worth = [
        place
        for place in sorted(places, key=lambda place: -place.log_mass)
        if _share(place.log_mass, total) > MODE_SEARCH.weighed_share
        and not _visited(place, place.log_mass, total, draws)
        and not any(_same(place, one.place) for one in own)
    ][:MAX_MODES]
    if not worth:
        return [], 0
    total = _known_mass(rng, oracle, known, own)
    found: list[Weighed] = []
    for place in worth:
        one = weigh(rng, oracle, place)
        if one is None or one.effective < MODE_SEARCH.least_effective:
            continue
        if _share(one.log_mass, total) < MODE_SEARCH.least_share:
            continue
        if _visited(one.place, one.log_mass, total, draws):
            continue
        if not any(_same(one.place, other.place) for other in (*own, *found)):
            found.append(one)
    return found, len(worth)


def _share(log_mass: float, total: float) -> float:
    """The share of a mass of it and what is known."""
    return float(1 / (1 + np.exp(min(total - log_mass, 700.0))))


def _visited(place: Place, log_mass: float, total: float, draws: np.ndarray) -> bool:
    """Whether draws (dim, n) visit a mode's ellipsoid about as often as its mass asks for."""
    here = float(np.mean(place.contains(draws)))
    return here > MODE_SEARCH.visited * _share(log_mass, total)


def _known_mass(
    rng: np.random.Generator, oracle: Oracle, known: list[Place], own: list[Weighed]
) -> float:
    """Log mass of what the chains know: by importance where that can be believed.

    The Gaussian of the draws has no less mass than the density, as no density of this covariance
    has a larger entropy.
    """
    masses = [one.log_mass for one in own]
    for place in () if own else known:
        one = weigh(rng, oracle, place)
        is_sure = one is not None and one.effective > MODE_SEARCH.sure_effective
        masses.append(one.log_mass if one is not None and is_sure else place.log_mass)
    return float(logsumexp(masses))


def _seeded(
    rng: np.random.Generator,
    warmup: WarmupResult,
    known: list[Place],
    own: list[Weighed],
    found: list[Weighed],
) -> WarmupResult:
    """The warm-up with draws of the modes that were found in the place of some chains."""
    draws, lp = warmup.draws.copy(), warmup.lp.copy()
    chains, length, dim = draws.shape
    modes = _summaries([*(own or known), *found])
    there = [tuple(one.place.centre.tolist()) for one in found]
    shares = np.array([mode.share for c in there for mode in modes if mode.centre == c])
    least, most = MODE_SEARCH.seeded
    counts = np.maximum(np.round(shares * chains), least * chains)
    counts = np.maximum(1, counts * min(1, most * chains / counts.sum())).astype(int)
    # Evenly through the chains in the order of their modes, so that none loses all of its chains.
    order = np.argsort(warmup.modes.label, kind="stable")
    taken = order[np.linspace(0, chains - 1, counts.sum()).astype(int)]
    position = np.array(warmup.position)
    for one, members in zip(found, np.split(taken, np.cumsum(counts)[:-1]), strict=True):
        for chain in members.tolist():
            picked = rng.integers(one.draws.shape[1], size=length)
            draws[chain], lp[chain] = one.draws[:, picked].T, one.lp[picked]
            position[:, chain] = draws[chain, -1]
    separation, num_stuck = farthest(draws)
    num = chains * WARMUP.steps / 10
    pool = draws.reshape(-1, dim).T
    return warmup._replace(
        position=jnp.asarray(position),
        draws=draws,
        lp=lp,
        whitening=estimate_whitening(pool, num_independent=num, dtype=warmup.position.dtype),
        fisher=None,
        rhat_max=fast_max_rhat(draws),
        max_separation=separation,
        num_stuck=num_stuck,
        modes=find_modes(draws, lp),
        weighed=modes,
    )


def _summaries(modes: Sequence[Place | Weighed]) -> tuple[ModeSummary, ...]:
    """Modes for people, the largest mass first."""
    masses = np.array([mode.log_mass for mode in modes])
    shares = np.exp(masses - logsumexp(masses))
    places = [mode.place if isinstance(mode, Weighed) else mode for mode in modes]
    return tuple(
        ModeSummary(
            tuple(places[k].centre.tolist()),
            tuple(np.sqrt(np.sum(places[k].factor ** 2, axis=1)).tolist()),
            float(shares[k]),
        )
        for k in np.argsort(-shares)
    )
