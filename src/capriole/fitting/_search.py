"""The search of `fit` as one loop: warm-up, proposers, measurement from everywhere, choice."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from ..adaptation import NEGLIGIBLE_NATS, WarmupResult, explore, refuse_improper
from ..diagnostics import Marginal, farthest_point_subset
from ..kernels import AbstractLogDensity, AbstractTransition, Key, Vector, state_at
from ..runtime import OnProgress
from ._budget import Budget, Cost
from ._candidate import NUTS, SamplerReport
from ._context import Note, NoteKind, SearchContext, Stream, WarmupFacts
from ._evaluation import revalidated, validate_best
from ._selection import choose, may_be_chosen, nuts_cannot_win
from ._settings import Settings
from ._thresholds import THRESHOLDS
from .proposers import PROPOSERS
from .proposers._nuts import CHAINS, measure_nuts


class Proposer(Protocol):
    """Whoever adds candidates to a search: one file of `proposers`, one interface."""

    def propose(self, context: SearchContext) -> SearchContext:
        """The context with more candidates, or with a note that says why there are none."""


class SearchResult(NamedTuple):
    """What a search found: all that the final run and the verdict need, so that it can be stored.

    Attributes:
        chosen: Name of the sampler whose draws are returned.
        best_candidate: Name of the best candidate with a frozen kernel, which draws where NUTS was
            chosen and fails.
        kernel: Its kernel. None: it failed, or was not kept.
        rows: All samplers as measured.
        starts: Where the final chains start (dim, chains), in the user's coordinates.
        dispersed_starts: Where chains of NUTS's measurement start.
        notes: Notes for people.
        spent: What the search took.
        compared: What measuring NUTS took; None: it was not measured.
        decided: Whether the choice waited for NUTS.
        training: What training networks took, a part of ``spent``.
        warmup: What the verdict needs of the warm-up.
    """

    chosen: str
    best_candidate: str
    kernel: AbstractTransition | None
    rows: tuple[SamplerReport, ...]
    starts: Vector
    dispersed_starts: Vector
    notes: tuple[Note, ...]
    spent: Cost
    compared: Cost | None
    decided: bool
    training: Cost
    warmup: WarmupFacts

    @property
    def uses_nuts(self) -> bool:
        """Whether NUTS was chosen."""
        return self.chosen == NUTS

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Marginals of a funnel's parents; empty if none was found."""
        return self.warmup.marginals

    def with_note(self, kind: NoteKind, text: str) -> "SearchResult":
        """The same with one more note."""
        return self._replace(notes=(*self.notes, Note(kind, text)))


def search(
    keys: Sequence[Key],
    target: AbstractLogDensity,
    position: Vector,
    settings: Settings,
    progress: OnProgress,
    proposers: Sequence[Proposer] = PROPOSERS,
) -> SearchResult:
    """The best kernel for ``target`` that a warm-up from ``position`` leads to.

    Args:
        keys: Keys of the warm-up, of candidates without and with networks, and of NUTS.
        target: The log density, in the user's coordinates.
        position: Starts (dim, n): those of the chains, then those of exploratory chains.
        settings: What `fit` was asked for.
        progress: Whom to tell.
        proposers: Who proposes candidates, in this order; the first must propose a rotation.

    Returns:
        What was chosen, all samplers as measured, and what that took.

    Raises:
        ValueError: The density has no finite integral along some line.
    """
    with Budget() as budget:
        warmup = _warm_up(keys[0], target, position, settings, progress, budget)
        context = SearchContext(
            target, settings, budget, keys[1], keys[2], keys[3], progress, warmup
        )
        for proposer in proposers:
            context = proposer.propose(context)
        context, positions = _from_everywhere(context)
        context = validate_best(context, Stream.VALIDATE_ALL, positions)
        context = _noted(context)
        found = _found(context, positions)
    if settings.compare and not nuts_cannot_win(found.rows, context):
        found = with_nuts(keys[3], target, found)._replace(decided=True)
    choices = may_be_chosen(found.rows, agreed=context.warmup.agreed)
    # The choice among candidates stands, whatever NUTS does to ties: one kernel is kept.
    chosen = NUTS if choose(choices, settings.criterion).is_nuts else found.best_candidate
    return found._replace(chosen=chosen)


def _warm_up(
    key: Key,
    target: AbstractLogDensity,
    position: Vector,
    settings: Settings,
    progress: OnProgress,
    budget: Budget,
) -> WarmupResult:
    """The warm-up; where its chains disagree, or leave the numbers, the density may be improper."""
    chains = settings.num_warmup_chains
    try:
        warmup = explore(key, target, position, num_chains=chains, progress=progress)
    except (ValueError, np.linalg.LinAlgError):
        refuse_improper(target, position)
        raise
    budget.common.add(warmup)
    if not warmup.agreed:
        budget.common.charge(refuse_improper(target, position))
    return warmup


def with_nuts(key: Key, target: AbstractLogDensity, found: SearchResult) -> SearchResult:
    """The search with NUTS's row added, or a note that says why it could not be measured.

    Args:
        key: Key of the measurement.
        target: The log density, in the user's coordinates.
        found: What the search found without it.

    Returns:
        The same with its row, and what measuring it took.
    """
    measured = measure_nuts(key, target, found.dispersed_starts, found.marginals)
    found = found._replace(compared=measured.cost)
    if measured.row is None:
        text = f"NUTS could not be measured: {measured.error}"
        return found.with_note(NoteKind.NUTS_NOT_MEASURED, text)
    return found._replace(rows=(*found.rows, measured.row))


def _from_everywhere(context: SearchContext) -> tuple[SearchContext, np.ndarray]:
    """Candidates as they are to be compared, and all positions (dim, n) that any chain found.

    Where chains disagree, every sampler is measured from all those positions: else one that sits in
    the mode where it started would win, with a fine ESS and R-hat.
    """
    warmup = context.warmup
    positions = np.asarray(warmup.position)
    if ends := [c.found for c in context.candidates if c.found is not None]:
        worthy = _worth_a_visit(context.target, np.concatenate(ends, axis=1), warmup)
        positions = np.concatenate([positions, worthy], axis=1)
    if not warmup.agreed:
        dispersed_starts = farthest_point_subset(positions, warmup.position.shape[1]).astype(
            warmup.position.dtype
        )
        context = context.with_candidates(
            revalidated(
                context.key,
                c,
                dispersed_starts,
                context.marginals,
                is_multimodal=context.is_multimodal,
            )
            for c in context.candidates
        )
    return context, positions


def _worth_a_visit(
    target: AbstractLogDensity, positions: np.ndarray, warmup: WarmupResult
) -> np.ndarray:
    """Those ends of training chains (dim, n) that are not far from all mass.

    A kernel in training may run away: left out is where log density or gradient is not finite, or
    the former far below the lowest of the warm-up's chains.
    """
    end = state_at(target, jnp.asarray(positions, warmup.position.dtype))
    lowest = np.min(state_at(target, warmup.position).logdensity)
    finite = np.isfinite(np.asarray(end.logdensity_grad)).all(axis=0)
    return positions[:, finite & (np.asarray(end.logdensity) > lowest - NEGLIGIBLE_NATS)]


def _noted(context: SearchContext) -> SearchContext:
    """The context with notes on candidates that are the last choice, and on lost chains."""
    risky = [
        f"the {c.name} was the last choice: {c.metrics.nonfinite:.1%} of its proposals were not "
        "finite"
        for c in context.candidates
        if c.metrics.nonfinite > THRESHOLDS.risky_nonfinite
    ]
    faulty = [
        f"the {c.name} {f'counted for {c.reach:.1%}' if c.reach else 'was the last choice'}: "
        f"{c.faults[0]}"
        for c in context.candidates
        if c.faults
    ]
    context = context.with_notes(NoteKind.LAST_CHOICE, *risky, *faulty)
    if lost := context.warmup.num_negligible:
        text = (
            f"{lost} times a chain of the warm-up was taken out of a place that holds next to no "
            f"mass (less than exp(-{NEGLIGIBLE_NATS:.0f}), as estimated there), or, in a map's "
            "coordinates, "
            "far out where it stood still"
        )
        context = context.with_notes(NoteKind.WARMUP, text)
    return context


def _found(context: SearchContext, positions: np.ndarray) -> SearchResult:
    """What is stored of the search, the best candidate chosen."""
    warmup, budget = context.warmup, context.budget
    # Where chains agree, their far places are the tails: chains started there alone would not be
    # draws of the target.
    num_far, dtype = 1 if warmup.agreed else None, warmup.position.dtype
    rows = tuple(candidate.report(budget.common.cost) for candidate in context.candidates)
    best = choose(rows, context.settings.criterion).name
    num_chains = context.settings.num_chains
    return SearchResult(
        chosen=best,
        best_candidate=best,
        kernel=next(c.transition for c in context.candidates if c.name == best),
        rows=rows,
        starts=jnp.asarray(farthest_point_subset(positions, num_chains, num_far), dtype),
        dispersed_starts=jnp.asarray(farthest_point_subset(positions, CHAINS, num_far), dtype),
        notes=context.notes,
        spent=budget.total,
        compared=None,
        decided=False,
        training=Cost.of(*(c.account.cost for c in context.networks)),
        warmup=context.facts,
    )
