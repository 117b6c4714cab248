"""The search of `fit` as one loop: warm-up, proposers, choice."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import jax
import numpy as np

from ..adaptation import (
    WarmupResult,
    explore,
    explore_briefly,
    refuse_improper,
    search_modes,
)
from ..diagnostics import Marginal
from ..kernels import (
    AbstractLogDensity,
    AbstractTransition,
    Key,
    SecondDerivatives,
    Vector,
    second_derivatives,
)
from ..runtime import OnProgress, begin_stage, check_stop
from ._budget import Account, Budget, Cost, Stage
from ._candidate import NUTS, Kind, SamplerReport
from ._context import Note, NoteKind, SearchContext, Stream, WarmupFacts
from ._selection import choose, may_be_chosen
from ._settings import Settings
from ._thresholds import DIRECT
from .proposers import PROPOSERS, DirectRotation, Nuts
from .proposers._nuts import CHAINS, measure_nuts
from .proposers._rotations import plain_rotation


class Proposer(Protocol):
    """Whoever adds candidates to a search: one file of `proposers`, one interface.

    Attributes:
        name: Its name for people, in the table of costs.
    """

    name: str

    def cost(self, context: SearchContext) -> Cost:
        """What proposing may cost, as far as it can be told before; nothing where it would not.

        Seconds are those of the gradients, without compilation.
        """

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
        stages: What each stage of the search took, NUTS's among them.
        is_direct: Whether the direct way sufficed, so that nothing else was tried.
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
    stages: tuple[Stage, ...] = ()
    is_direct: bool = False

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
    *,
    partial: bool = False,
) -> SearchResult:
    """The best kernel for ``target`` that a warm-up from ``position`` leads to.

    Args:
        keys: Keys of the warm-up, of candidates without and with networks, and of NUTS.
        target: The log density, in the user's coordinates.
        position: Starts (dim, n): those of the chains, then those of exploratory chains.
        settings: What `fit` was asked for.
        progress: Whom to tell.
        proposers: Who proposes candidates, in this order; one must propose a
            rotation, or jumps that need none.
        partial: Whether a search that is stopped chooses among what it has found, with a note.

    Returns:
        What was chosen, all samplers as measured, and what that took.

    Raises:
        KeyboardInterrupt: It was stopped, and is not ``partial`` or has found nothing yet.
        ValueError: The density has no finite integral along some line.
    """
    with Budget() as budget:
        notes: tuple[Note, ...] = ()
        if settings.num_effective is not None:
            context = _directly(keys, target, position, settings, progress, budget, partial)
            if not context.is_left:
                return _chosen(context)._replace(is_direct=True)
            for candidate in context.candidates:
                budget.absorb(candidate.account)
            notes = context.notes
        begin_stage("warmup")
        with budget.stage("warm-up"):
            warmup = _warm_up(keys[0], target, position, settings, progress, budget, partial)
        context = SearchContext(
            target, settings, budget, keys[1], keys[2], keys[3], progress, warmup, notes=notes
        )
        if not warmup.completed:
            return _chosen(_stopped(context, "warmup"))
        context = _with_second_derivatives(context)
        for proposer in proposers:
            expected = proposer.cost(context)
            try:
                if expected.num_gradients:
                    begin_stage(proposer.name, expected.seconds)
                check_stop()
                with budget.stage(proposer.name, expected):
                    context = proposer.propose(context)
            except KeyboardInterrupt:
                if not partial:
                    raise
                return _chosen(_stopped(context, proposer.name))
        return _chosen(context)


def _directly(
    keys: Sequence[Key],
    target: AbstractLogDensity,
    position: Vector,
    settings: Settings,
    progress: OnProgress,
    budget: Budget,
    partial: bool,
) -> SearchContext:
    """A short warm-up and one rotation; notes say why that does not suffice."""
    start = position[:, : max(settings.num_chains, DIRECT.fewest_chains)]
    begin_stage("short warmup")
    try:
        key = jax.random.fold_in(keys[0], Stream.DIRECT)
        with budget.stage("short warm-up"):
            warmup = explore_briefly(key, target, start, progress=progress)
            budget.common.add(warmup)
    except (ValueError, np.linalg.LinAlgError):
        refuse_improper(target, position)
        raise
    context = SearchContext(target, settings, budget, keys[1], keys[2], keys[3], progress, warmup)
    if not warmup.rhat_max < DIRECT.most_warmup_rhat:
        text = f"chains of the short warm-up disagreed (R-hat {warmup.rhat_max:.3g})"
        return context.with_notes(NoteKind.NOT_DIRECT, text)
    direct = DirectRotation()
    try:
        begin_stage(direct.name)
        with budget.stage(direct.name, direct.cost(context)):
            context = direct.propose(context)
        if context.is_left:
            return context
        begin_stage("search for modes")
        return _with_modes_searched(keys[0], context, position)
    except KeyboardInterrupt:
        if not partial:
            raise
        return _stopped(context, direct.name)


def _with_modes_searched(key: Key, context: SearchContext, position: Vector) -> SearchContext:
    """The context after the search for modes, with a note where it found one."""
    budget, before = context.budget, context.warmup
    with budget.stage("search for modes"):
        share, key = DIRECT.search_share, jax.random.fold_in(key, 2000)
        after = search_modes(key, context.target, position, before, share)
        budget.common.add(
            Cost(
                after.num_gradients - before.num_gradients,
                after.seconds - before.seconds,
                after.compile_seconds - before.compile_seconds,
            )
        )
    context = replace(context, warmup=after)
    if after.search is not None and after.search.num_found:
        text = f"{after.search.num_found} modes that no chain had met were found"
        return context.with_notes(NoteKind.NOT_DIRECT, text)
    return context


def _stopped(context: SearchContext, stage: str) -> SearchContext:
    """The context of a search that was stopped in a stage, with a kernel at least, and a note."""
    text = f"stopped in the stage {stage!r}: what it and later stages would have found is missing"
    context = context.with_notes(NoteKind.INTERRUPTED, text)
    if any(c.kind is not Kind.NUTS for c in context.candidates):
        return context
    return context.with_candidates((*context.candidates, plain_rotation(context)))


def _warm_up(
    key: Key,
    target: AbstractLogDensity,
    position: Vector,
    settings: Settings,
    progress: OnProgress,
    budget: Budget,
    partial: bool,
) -> WarmupResult:
    """The warm-up; where its chains disagree, or leave the numbers, the density may be improper."""
    chains = settings.num_warmup_chains
    try:
        warmup = explore(
            key, target, position, num_chains=chains, progress=progress, partial=partial
        )
    except (ValueError, np.linalg.LinAlgError):
        refuse_improper(target, position)
        raise
    if warmup.completed:
        warmup = search_modes(jax.random.fold_in(key, 2000), target, position, warmup)
    budget.common.add(warmup)
    if warmup.completed and not warmup.agreed:
        budget.common.charge(refuse_improper(target, position))
    return warmup


def _chosen(context: SearchContext) -> SearchResult:
    """What is stored of the search, with the choice."""
    warmup, budget, rows = context.warmup, context.budget, context.rows
    criterion, comparison = context.settings.criterion, budget.comparison
    best = choose([row for row in rows if not row.is_nuts], criterion)
    # The choice among candidates stands, whatever NUTS does to ties: one kernel is kept.
    first = choose(may_be_chosen(rows, agreed=warmup.agreed), criterion)
    return SearchResult(
        chosen=first.name if first.is_nuts else best.name,
        best_candidate=best.name,
        kernel=next(c.transition for c in context.candidates if c.name == best.name),
        rows=tuple(rows),
        starts=context.far_positions(context.settings.num_chains),
        dispersed_starts=context.far_positions(CHAINS),
        notes=context.notes,
        spent=budget.total,
        compared=None if comparison is None else comparison.cost,
        decided=comparison is not None,
        training=Cost.of(*(c.account.cost for c in context.networks)),
        warmup=context.facts,
        stages=tuple(budget.stages),
    )


def _with_second_derivatives(context: SearchContext) -> SearchContext:
    """The context that knows which second derivatives there are, with a note on what is missing."""
    second = second_derivatives(context.target, context.warmup.position[:, 0])
    context = replace(context, second=second)
    if second is SecondDerivatives.FULL:
        return context
    text = (
        f"second derivatives of the log density: {second.value} (a while loop, a callback or "
        "jax.custom_vjp in it): marginals of a funnel's parents are not computed"
    )
    if second is SecondDerivatives.NONE:
        text += ", jumps between modes are not proposed, and networks train with a constant force"
    return context.with_notes(NoteKind.SECOND_DERIVATIVES, text)


def with_nuts(key: Key, target: AbstractLogDensity, found: SearchResult) -> SearchResult:
    """The search with NUTS's row added afterwards, or a note why it could not be measured.

    Args:
        key: Key of the measurement.
        target: The log density, in the user's coordinates.
        found: What the search found without it.

    Returns:
        The same with its row, and what measuring it took.
    """
    account, starts = Account(), found.dispersed_starts
    retry = not found.warmup.is_multimodal  # where chains stay apart, however long they run
    nuts = measure_nuts(key, target, starts, found.marginals, account, retry=retry)
    stages = (*found.stages, Stage(Nuts.name, account.cost))
    found = found._replace(compared=account.cost, stages=stages)
    if isinstance(nuts, Note):
        return found.with_note(*nuts)
    return found._replace(rows=(*found.rows, nuts.report(Cost())))
