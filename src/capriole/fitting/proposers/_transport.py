"""Candidates in the coordinates of a transport map: for funnels, and for tails that are far from
Gaussian.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...adaptation import CHUNK, Exploration, Profile, bending, explore, profile, start_state
from ...coordinates import (
    Estimate,
    Transported,
    Whitened,
    Whitening,
    draws_to_user,
    estimate_transport,
    estimate_whitening,
    from_user,
    likely_parents,
    padded,
    refitted,
    reusable,
    to_user,
)
from ...kernels import AbstractLogDensity, Key, per_chain
from ...runtime import OnProgress
from ...sampling import draw_chains
from .._candidate import Candidate
from ._rotations import GOOD_ENOUGH, rotations

_ROUNDS = 6
_WINDOWS = 4
_POLISHED = 4
_AGAIN = 2
_DRAWS = 500
_PROFILE_DRAWS = 8000
_EVEN = 0.5
TRANSPORTED = "transported"
"""First word of the candidates' names."""
TRANSPORTED_ENOUGH = 0.35
"""`NO_NETWORKS` for them: on garch11 0.21 effective draws per gradient became 0.39 with networks."""


class Elsewhere(NamedTuple):
    """Candidates in other coordinates and the exploration there, in the user's again but for its
    whitenings.
    """

    pilot: Exploration
    candidates: list[Candidate]
    gain: float
    parents: tuple[int, ...]


def transported(
    key: Key, target: AbstractLogDensity, pilot: Exploration, progress: OnProgress = None
) -> Elsewhere | None:
    """Rotations in the coordinates of the transport map that the pilot's draws ask for; None if
    they ask for none.

    The search for rotations estimates the map anew by its own draws, and is repeated with those of
    the best kernel that it found, from all over, while that gains something. A map made of the
    draws of a `Profile` stays as it is: no chain has better ones.
    """
    reached = _settled(key, target, pilot, progress)
    if reached is None:
        return None
    inside, estimate, there, pilot = reached
    dim, spent = pilot.draws.shape[-1], pilot.num_gradients
    if pilot.profile is not None:
        drawn = from_user(
            there, pilot.profile.draws(np.random.default_rng(_ROUNDS), _PROFILE_DRAWS)
        )
        whitening = estimate_whitening(
            drawn, num_independent=_PROFILE_DRAWS, dtype=pilot.position.dtype
        )
        inside = inside._replace(whitening=whitening, sharp=None)
    white = Whitened(there, reusable(inside.whitening, inside.sharp))
    sharp = inside.sharp if pilot.agreed else None
    found = _searched(jax.random.fold_in(key, 100), white, pilot, sharp, progress, longer=True)
    for i in range(_AGAIN if pilot.profile is None else 0):
        best = max(found, key=lambda c: c.judgement.worst)
        if best.judgement.worst > GOOD_ENOUGH:
            break
        draws, gradients = _drawn(jax.random.fold_in(key, 200 + i), best, pilot)
        anew = _anew(estimate, draws, pilot)
        again = Transported(target, anew.transport)
        whitening = estimate_whitening(from_user(again, draws), num_independent=draws.shape[1] / 10)
        white = Whitened(again, padded(whitening, dim))
        if not np.isfinite(from_user(white, np.asarray(pilot.position))).all():
            break
        others = _searched(
            jax.random.fold_in(key, 101 + i), white, pilot, None, progress, longer=False
        )
        better = max(c.judgement.worst for c in others) > best.judgement.worst
        spent += gradients + sum(c.num_gradients for c in (found if better else others))
        if not better:
            break
        found, estimate = others, anew
    parents = tuple(int(k) for k in np.asarray(estimate.transport.parents))
    return Elsewhere(pilot._replace(num_gradients=spent), found, estimate.gain, parents)


def _anew(estimate: Estimate, draws: np.ndarray, pilot: Exploration) -> Estimate:
    """The map by better ``draws`` (dim, n): with the same parents, or with those that they ask for
    if it had none.
    """
    dtype = pilot.position.dtype
    if not estimate.transport.parents.size:
        found = estimate_transport(draws, sharp=pilot.agreed, dtype=dtype)
        if found is not None and found.transport.parents.size:
            return found
    return estimate._replace(transport=refitted(estimate.transport, draws, dtype=dtype))


class _Reached(NamedTuple):
    """The last exploration in a map's coordinates, the map, and the pilot: it in the user's, at the
    cost of all.
    """

    inside: Exploration
    estimate: Estimate
    there: Transported
    pilot: Exploration


def _settled(
    key: Key, target: AbstractLogDensity, pilot: Exploration, progress: OnProgress
) -> _Reached | None:
    """The map that chains agree in, or the last that was tried; None if the draws ask for none.

    Draws of chains that hardly reach into a funnel make a map in which others reach further: while
    the chains still disagree, once more, `_ROUNDS` times at most. Where a parent's `Profile` can be
    had, its draws take the place of the chains' from there on, and half of the chains start at some
    of them.
    """
    reached = None
    for i in range(_ROUNDS):
        draws = pilot.draws.reshape(-1, pilot.draws.shape[-1]).T
        estimate = estimate_transport(draws, sharp=pilot.agreed, dtype=pilot.position.dtype)
        if estimate is None:
            return reached
        if pilot.profile is None:
            marginal, spent = _profile_of(jax.random.fold_in(key, 50 + i), target, draws, estimate)
            pilot = pilot._replace(profile=marginal, num_gradients=pilot.num_gradients + spent)
        position = np.array(pilot.position)
        if pilot.profile is not None:
            estimate, drawn = _integrated(pilot.profile, i, estimate, pilot.position.dtype)
            position[:, ::2] = drawn[:, : position[:, ::2].shape[1]]
        there = Transported(target, estimate.transport)
        start = jnp.asarray(from_user(there, position), pilot.position.dtype)
        if not np.isfinite(np.asarray(start)).all():
            return reached
        inside = explore(
            jax.random.fold_in(key, i),
            there,
            start,
            num_chains=start.shape[1],
            max_windows=_WINDOWS,
            bell=True,
            progress=progress,
        )
        pilot = _outside(inside, there, pilot)
        reached = _Reached(inside, estimate, there, pilot)
        if pilot.agreed:
            break
    return reached


def _integrated(
    marginal: Profile, seed: int, before: Estimate, dtype: Any
) -> tuple[Estimate, np.ndarray]:
    """The map by draws of a parent's marginal, and those (dim, n); what the parent does to the
    others as far out as the marginal goes, for a map that errs where mass is one in a thousand
    holds chains there, or keeps them out.
    """
    rng = np.random.default_rng(seed)
    drawn = marginal.draws(rng, _PROFILE_DRAWS)
    even = marginal.draws(rng, _PROFILE_DRAWS, even=_EVEN)
    return estimate_transport(
        drawn, even=even, along=marginal.parents, dtype=dtype
    ) or before, drawn


def _profile_of(
    key: Key, target: AbstractLogDensity, draws: np.ndarray, estimate: Estimate
) -> tuple[Profile | None, int]:
    """That of the first of the map's parents, of other likely ones, or of two of them, which has
    one, if the middle of it is where the ``draws`` (dim, n) are; and gradients spent. Likely are
    those by the draws; if none of them has one, those along which the curvature changes most.
    """
    if not estimate.transport.parents.size:
        return None, 0
    asked = list(
        dict.fromkeys([*np.asarray(estimate.transport.parents).tolist(), *likely_parents(draws)])
    )
    before, spent = set[tuple[int, ...]](), 0
    for last in (False, True):
        if last:
            bent, gradients = bending(jax.random.fold_in(key, 1), target, draws)
            asked, spent = list(dict.fromkeys([*asked, *bent])), spent + gradients
        for parents in [*((k,) for k in asked), *itertools.combinations(asked, 2)]:
            if parents in before:
                continue
            before.add(parents)
            found, gradients = profile(key, target, draws, parents)
            spent += gradients
            if found is not None and found.agrees(draws):
                return found, spent
    return None, spent


def _searched(
    key: Key,
    white: Whitened,
    pilot: Exploration,
    sharp: Whitening | None,
    progress: OnProgress,
    *,
    longer: bool,
) -> list[Candidate]:
    start = jnp.asarray(from_user(white, np.asarray(pilot.position)))
    return rotations(
        key,
        white,
        start,
        sharp=sharp,
        polish=_POLISHED,
        longer=longer,
        remap=pilot.profile is None,
        progress=progress,
        prefix=f"{TRANSPORTED} ",
    )


def _drawn(key: Key, candidate: Candidate, pilot: Exploration) -> tuple[np.ndarray, int]:
    """Draws (dim, n) of a candidate from where the pilot's chains are, in the user's coordinates;
    gradients.
    """
    kernel = per_chain(candidate.transition, pilot.position.shape[1])
    start = jnp.asarray(from_user(kernel.target, np.asarray(pilot.position)))
    draws = draw_chains(key, kernel, start_state(kernel, start), num_draws=_DRAWS, chunk_size=CHUNK)
    if not draws.completed:
        raise KeyboardInterrupt
    moved = draws_to_user(kernel.target, draws.record.position[:, _DRAWS // 5 :])
    return moved.reshape(-1, moved.shape[-1]).T, draws.num_gradients


def _outside(inside: Exploration, there: Transported, before: Exploration) -> Exploration:
    """Positions and draws in the user's coordinates, at the cost of both explorations."""
    draws = inside.draws
    moved = to_user(there, draws.reshape(-1, draws.shape[-1]).T).T.reshape(draws.shape)
    return inside._replace(
        position=jnp.asarray(to_user(there, np.asarray(inside.position))),
        draws=np.ascontiguousarray(moved),
        num_lost=before.num_lost + inside.num_lost,
        num_gradients=before.num_gradients + inside.num_gradients,
        seconds=before.seconds + inside.seconds,
        compile_seconds=before.compile_seconds + inside.compile_seconds,
        profile=before.profile,
    )
