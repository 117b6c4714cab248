"""Candidates in a transport map's coordinates: for funnels, and tails far from Gaussian."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...adaptation import CHUNK, Profile, WarmupResult, bending, explore, profile, start_state
from ...coordinates import (
    Estimate,
    Transported,
    Whitened,
    Whitening,
    draws_to_user,
    estimate_transport,
    estimate_whitening,
    from_user,
    pad_for_reuse,
    padded,
    parent_candidates,
    refitted,
    to_user,
)
from ...kernels import AbstractLogDensity, Key, SecondDerivatives, per_chain
from ...models import labels
from ...sampling import draw_chains
from .._budget import Cost
from .._candidate import Addition, Candidate, Coordinates
from .._context import NoteKind, SearchContext, Stream
from .._evaluation import validate_best
from .._thresholds import LADDER, SHORT, THRESHOLDS
from ._rotations import grids_cost, rotations

_ROUNDS = 6
"""Maps that are tried while chains disagree in the coordinates of the last."""
_WINDOWS = 4
"""Windows of a warm-up in a map's coordinates."""
_REFINEMENTS = 4
"""How often coordinates may be estimated anew by draws of a grid of angles."""
_AGAIN = 2
"""How often a map is estimated anew by draws of the best kernel."""
_DRAWS = 500
"""Draws of each chain that a map is estimated anew from."""
_PROFILE_DRAWS = 8000
"""Draws of a parent's marginal that a map is estimated from."""
_EVEN = 0.5
"""Share of them that is spread evenly along the marginal."""


class TransportMaps:
    """Proposes rotations in a transport map's coordinates where plain ones are slow, or held."""

    name = "transport map"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: two windows of a warm-up there, and all short rotations.

        Less where the draws ask for no map, and more where chains disagree in several.
        """
        if not self._applies(context):
            return Cost()
        warmup = context.warmup
        windows = 2 * warmup.num_gradients / max(warmup.num_windows, 1)
        return context.expected(windows + grids_cost(SHORT))

    @staticmethod
    def _applies(context: SearchContext) -> bool:
        if context.jumps_suffice:
            return False
        is_held = any(c.additions[-1:] == (Addition.ROTATION,) for c in context.candidates)
        return context.best_rate <= THRESHOLDS.no_networks_rate or is_held

    def propose(self, context: SearchContext) -> SearchContext:
        """Rotations in the coordinates of the map that the warm-up's draws ask for.

        Args:
            context: What the search knows.

        Returns:
            The context, with these candidates first and the warm-up there if they are better.
        """
        if not self._applies(context):
            return context
        there = transported(context)
        if there is None:
            return context
        theirs = replace(context, candidates=tuple(there.candidates), warmup=there.warmup)
        positions = np.asarray(there.warmup.position)
        theirs = validate_best(theirs, Stream.TRANSPORT, positions)
        disagrees = context.warmup.agreed and not there.warmup.agreed
        if disagrees or theirs.best_rate <= context.best_rate:
            for candidate in theirs.candidates:
                context.budget.absorb(candidate.account)
            context = replace(context, notes=theirs.notes).with_notes(
                NoteKind.TRANSPORT_MAP,
                "a transport map was tried and left: kernels in its coordinates gained nothing",
            )
            # What was learnt of the parents stays.
            known = context.warmup._replace(profile=there.warmup.profile)
            return replace(context, warmup=known)
        names = labels(context.target, len(context.warmup.position))
        parents = ", ".join(names[parent] for parent in there.parents)
        about = f" with {parents} as parent" if parents else ""
        text = f"a transport map{about} makes the draws {there.gain:.1f} nats more probable "
        theirs = theirs.with_candidates((*theirs.candidates, *context.candidates))
        return theirs.with_notes(NoteKind.TRANSPORT_MAP, f"{text}under a Gaussian")


class TransportSearch(NamedTuple):
    """Candidates in a map's coordinates.

    Attributes:
        warmup: The warm-up there, in the user's coordinates again but for its whitenings.
        candidates: The candidates.
        gain: By how many nats the map makes the draws more probable under a Gaussian.
        parents: The map's parents.
    """

    warmup: WarmupResult
    candidates: list[Candidate]
    gain: float
    parents: tuple[int, ...]


def transported(context: SearchContext) -> TransportSearch | None:
    """Rotations in the coordinates of the transport map that the warm-up's draws ask for.

    The search for rotations estimates the map anew by its own draws, and is repeated with those of
    the best kernel that it found while that gains something. A map made of the draws of a `Profile`
    stays as it is: no chain has better ones.

    Args:
        context: What the search knows.

    Returns:
        The candidates there; None if the draws ask for no map.
    """
    key, common = context.stream(Stream.TRANSPORT), context.budget.common
    reached = _settled(key, context)
    if reached is None:
        return None
    inside, estimate, there, warmup = reached
    dim, dtype = warmup.draws.shape[-1], warmup.position.dtype
    if warmup.profile is not None:
        rng = _generator(key, _ROUNDS)
        drawn = from_user(there, warmup.profile.draws(rng, _PROFILE_DRAWS))
        whitening = estimate_whitening(drawn, num_independent=_PROFILE_DRAWS, dtype=dtype)
        inside = inside._replace(whitening=whitening, fisher=None)
    white = Whitened(there, pad_for_reuse(inside.whitening, inside.fisher))
    fisher = inside.fisher if warmup.agreed else None
    context = replace(context, warmup=warmup)
    found = _searched(jax.random.fold_in(key, 100), white, context, fisher, LADDER[:-1])
    for i in range(_AGAIN if warmup.profile is None else 0):
        best = max(found, key=lambda c: c.worst)
        if best.worst > THRESHOLDS.good_rate:
            break
        draws, spent = _drawn(jax.random.fold_in(key, 200 + i), best, warmup)
        common.charge(spent)
        anew = _anew(estimate, draws, warmup)
        again = Transported(context.target, anew.transport)
        num = draws.shape[1] / 10
        whitening = estimate_whitening(from_user(again, draws), num_independent=num)
        white = Whitened(again, padded(whitening, dim))
        if not np.isfinite(from_user(white, np.asarray(warmup.position))).all():
            break
        others = _searched(jax.random.fold_in(key, 101 + i), white, context, None, SHORT)
        is_better = max(c.worst for c in others) > best.worst
        for candidate in found if is_better else others:
            context.budget.absorb(candidate.account)
        if not is_better:
            break
        found, estimate = others, anew
    parents = tuple(int(k) for k in np.asarray(estimate.transport.parents))
    return TransportSearch(warmup, found, estimate.gain, parents)


def _anew(estimate: Estimate, draws: np.ndarray, warmup: WarmupResult) -> Estimate:
    """The map by better ``draws`` (dim, n), which may name parents if the map had none."""
    dtype = warmup.position.dtype
    if not estimate.transport.parents.size:
        found = estimate_transport(draws, reliable=warmup.agreed, dtype=dtype)
        if found is not None and found.transport.parents.size:
            return found
    return estimate._replace(transport=refitted(estimate.transport, draws, dtype=dtype))


class _Reached(NamedTuple):
    """The last warm-up in a map's coordinates, the map, and that warm-up in the user's."""

    inside: WarmupResult
    estimate: Estimate
    there: Transported
    warmup: WarmupResult


def _settled(key: Key, context: SearchContext) -> _Reached | None:
    """The map that chains agree in, or the last that was tried; None if the draws ask for none.

    Draws of chains that hardly reach into a funnel make a map in which others reach further: while
    the chains still disagree, once more. Where a parent's `Profile` can be had, its draws take the
    place of the chains' from there on, and half of the chains start at some of them.
    """
    target, warmup, common = context.target, context.warmup, context.budget.common
    reached, dtype = None, warmup.position.dtype
    for i in range(_ROUNDS):
        draws = warmup.draws.reshape(-1, warmup.draws.shape[-1]).T
        estimate = estimate_transport(draws, reliable=warmup.agreed, dtype=dtype)
        if estimate is None:
            return reached
        if warmup.profile is None and context.second is SecondDerivatives.FULL:
            profile_key = jax.random.fold_in(key, 50 + i)
            marginal, spent = _profile_of(profile_key, target, draws, estimate)
            common.charge(spent)
            warmup = warmup._replace(profile=marginal)
        position = np.array(warmup.position)
        if warmup.profile is not None:
            estimate, drawn = _integrated(warmup.profile, _generator(key, i), estimate, dtype)
            position[:, ::2] = drawn[:, : position[:, ::2].shape[1]]
        there = Transported(target, estimate.transport)
        start = jnp.asarray(from_user(there, position), dtype)
        if not np.isfinite(np.asarray(start)).all():
            return reached
        inside = explore(
            jax.random.fold_in(key, i),
            there,
            start,
            num_chains=start.shape[1],
            max_windows=_WINDOWS,
            gaussianized=True,
            progress=context.progress,
        )
        common.add(Cost.of(inside))
        warmup = _outside(inside, there, warmup)
        reached = _Reached(inside, estimate, there, warmup)
        if warmup.agreed:
            break
    return reached


def _generator(key: Key, index: int) -> np.random.Generator:
    """NumPy's random numbers for the draws of a marginal, from the key of the fit."""
    key = jax.random.fold_in(key, 20 + index)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _integrated(
    marginal: Profile, rng: np.random.Generator, before: Estimate, dtype: Any
) -> tuple[Estimate, np.ndarray]:
    """The map by draws of a parent's marginal, and these draws (dim, n).

    The map must be right as far out as the marginal goes. If it errs where one draw in a thousand
    lies, it holds chains there or keeps them out. So some draws are spread evenly along the parent.
    """
    drawn = marginal.draws(rng, _PROFILE_DRAWS)
    even = marginal.draws(rng, _PROFILE_DRAWS, even=_EVEN)
    return estimate_transport(
        drawn, even=even, along=marginal.parents, dtype=dtype
    ) or before, drawn


def _profile_of(
    key: Key, target: AbstractLogDensity, draws: np.ndarray, estimate: Estimate
) -> tuple[Profile | None, int]:
    """The marginal of a likely parent, or of two; None if none can be had. And gradients spent.

    The map's own parents are asked first, then those that the ``draws`` (dim, n) name, then those
    along which the curvature changes most. The first marginal whose middle is where the draws are
    is taken.
    """
    if not estimate.transport.parents.size:
        return None, 0
    asked = list(
        dict.fromkeys([*np.asarray(estimate.transport.parents).tolist(), *parent_candidates(draws)])
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
    context: SearchContext,
    fisher: Whitening | None,
    lengths: Sequence[int],
) -> list[Candidate]:
    return rotations(
        key,
        white,
        context.start_in(white),
        context.budget,
        fisher=fisher,
        refinements=_REFINEMENTS,
        remap=context.warmup.profile is None,
        lengths=lengths,
        progress=context.progress,
        coordinates=Coordinates.TRANSPORT,
    )


def _drawn(key: Key, candidate: Candidate, warmup: WarmupResult) -> tuple[np.ndarray, int]:
    """Draws (dim, n) of a candidate from where the warm-up's chains are, in the user's coordinates;
    gradients.
    """
    kernel = per_chain(candidate.kernel, warmup.position.shape[1])
    start = jnp.asarray(from_user(kernel.target, np.asarray(warmup.position)))
    draws = draw_chains(key, kernel, start_state(kernel, start), num_draws=_DRAWS, chunk_size=CHUNK)
    if not draws.completed:
        raise KeyboardInterrupt
    moved = draws_to_user(kernel.target, draws.record.position[:, _DRAWS // 5 :])
    return moved.reshape(-1, moved.shape[-1]).T, draws.num_gradients


def _outside(inside: WarmupResult, there: Transported, before: WarmupResult) -> WarmupResult:
    """The warm-up in a map's coordinates with positions and draws in the user's."""
    draws = inside.draws
    moved = to_user(there, draws.reshape(-1, draws.shape[-1]).T).T.reshape(draws.shape)
    return inside._replace(
        position=jnp.asarray(to_user(there, np.asarray(inside.position))),
        draws=np.ascontiguousarray(moved),
        num_negligible=before.num_negligible + inside.num_negligible,
        profile=before.profile,
        search=before.search,
        weighed=before.weighed,
    )
