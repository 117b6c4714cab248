"""What a kernel achieves on fresh chains: the figure by which candidates are kept or dropped."""

from collections.abc import Iterable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from .. import diagnostics
from ..adaptation import CHUNK, start_state
from ..coordinates import from_user, to_user
from ..diagnostics import (
    FIT_REMEDIES,
    Marginal,
    farthest_point_subset,
    fast_max_rhat,
    fast_min_ess,
    fatal,
    health,
    sticky_tails,
    tail_problems,
)
from ..kernels import AbstractTransition, Key, Vector, per_chain
from ..sampling import Draws, Record, draw_chains, tally_arguments
from ._additions import with_finer_steps, with_small_steps
from ._candidate import Addition, Candidate, Coordinates, Family, KernelMetrics
from ._context import NoteKind, SearchContext, Stream
from ._selection import choose
from ._thresholds import LADDER, THRESHOLDS, WARMUP_DRAWS

SHORT_RUN, SHORT_WARMUP = 500, 50
"""Draws of each chain of a short run that are measured, and that are left out."""
LONG_RUN = 1000
"""Draws of each chain of a long run that are measured."""


def evaluate(
    key: Key,
    transition: AbstractTransition,
    position: Vector,
    *,
    num_draws: int = SHORT_RUN,
    num_warmup: int = SHORT_WARMUP,
) -> KernelMetrics:
    """Measure a kernel on fresh chains.

    Args:
        key: Key of the run.
        transition: The frozen kernel.
        position: Starts (dim, chains), in the kernel's coordinates.
        num_draws: Draws of each chain that are measured.
        num_warmup: Draws of each chain before them that are left out.

    Returns:
        What it achieved.
    """
    return evaluate_with_record(
        key, transition, position, num_draws=num_draws, num_warmup=num_warmup
    )[0]


def evaluate_with_record(
    key: Key, transition: AbstractTransition, position: Vector, *, num_draws: int, num_warmup: int
) -> tuple[KernelMetrics, Record]:
    """As `evaluate`; and the record of what was measured, positions in the user's coordinates."""
    # As in a search's grids, whose programs then serve.
    transition = per_chain(transition, position.shape[1])
    total = num_warmup + num_draws
    draws = draw_chains(
        key, transition, start_state(transition, position), num_draws=total, chunk_size=CHUNK
    )
    if not draws.completed:
        raise KeyboardInterrupt
    record = Record(*(field[:, num_warmup:] for field in draws.record))
    flat = record.position.reshape(-1, record.position.shape[-1]).T
    record = record._replace(
        position=to_user(transition.target, flat).T.reshape(record.position.shape)
    )
    return metrics_of(draws, record.position, every_rhat=False), record


def metrics_of(draws: Draws, kept: np.ndarray, *, every_rhat: bool = True) -> KernelMetrics:
    """The figures of the last of the ``draws``; ``kept`` (chains, draws, dim) are those in the
    user's coordinates.

    R-hat is that of all dimensions, or of those where a quick look finds the chains furthest apart.
    """
    record, keep_from = draws.record, draws.record.position.shape[1] - kept.shape[1]
    share = kept.shape[1] / record.position.shape[1]
    bulk, bulk_sq = fast_min_ess(kept)
    gradients = max(int(record.n_steps[:, keep_from:].sum()), 1)
    return KernelMetrics(
        ess_per_gradient=float(np.min(bulk)) / gradients,
        ess_sq_per_gradient=float(np.min(bulk_sq)) / gradients,
        ess_per_second=float(min(np.min(bulk), np.min(bulk_sq))) / max(draws.seconds * share, 1e-9),
        acceptance_rate=float(record.acceptance_rate[:, keep_from:].mean()),
        rhat_max=float(np.max(diagnostics.rhat(kept))) if every_rhat else fast_max_rhat(kept),
        nonfinite=float(record.nonfinite[:, keep_from:].mean()) / draws.thin,
        num_gradients=gradients,
        spent_gradients=draws.num_gradients,
        seconds=draws.seconds * share,
        compile_seconds=draws.compile_seconds,
    )


def revalidated(
    key: Key,
    candidate: Candidate,
    positions: np.ndarray,
    marginals: Iterable[Marginal],
    *,
    num_draws: int = SHORT_RUN,
    is_multimodal: bool = False,
) -> Candidate:
    """The candidate with what a run from ``positions`` shows, and the faults of its draws.

    Args:
        key: Key of the run.
        candidate: What is measured.
        positions: Starts (dim, chains), in the user's coordinates.
        marginals: Known marginals, whose ends the draws must not miss.
        num_draws: Draws of each chain after the warm-up.
        is_multimodal: Whether far ends may be narrow modes, so that they may hold chains.

    Returns:
        The candidate, measured anew; the cost is in its account.
    """
    kernel = candidate.kernel
    start = from_user(kernel.target, positions)
    run_key = jax.random.fold_in(key, 7)
    metrics, record = evaluate_with_record(
        run_key, kernel, jnp.asarray(start), num_draws=num_draws, num_warmup=WARMUP_DRAWS
    )
    candidate.account.charge(metrics.spent_gradients)
    still = fatal(health(*tally_arguments(record), remedies=FIT_REMEDIES))
    ends = tail_problems(record.position, marginals)
    if not is_multimodal:
        ends += sticky_tails(record.position, record.acceptance_rate, record.diverging)
    reach = 0.0 if still else min((end.reach for end in ends), default=1.0)
    return replace(candidate, metrics=metrics, faults=(*still, *ends), reach=reach)


def validate_best(context: SearchContext, stream: Stream, positions: np.ndarray) -> SearchContext:
    """Measure the best candidate again in a long run from far places, until the best one has been.

    A kernel whose chains stick in a rare place looks better in a short run than it is. So the best
    candidate is measured again if it is of a kind that may stick, or slow. Once one was, whoever
    takes its place is, too. One that loses half of its figure, or has faults, is measured with
    small HMC steps mixed in as well. One with faults, or with many proposals that are not finite,
    is also measured in finer steps, up the ladder of lengths while that helps.

    Args:
        context: What the search knows.
        stream: The stream of random numbers.
        positions: Positions (dim, n), in the user's coordinates, that any chain found.

    Returns:
        The context with candidates as measured again.
    """
    key, num_chains = context.stream(stream), context.warmup.position.shape[1]
    # A transport map may follow, and be cheaper than the longest rotations without one.
    max_rungs = 2 if stream is Stream.VALIDATE_ROTATIONS else len(LADDER)
    dispersed_starts = farthest_point_subset(positions, num_chains)
    validator = _Validator(context, key, dispersed_starts, max_rungs)
    seen: set[str] = set()
    while True:
        name = choose(context.rows, context.settings.criterion).name
        i = next(i for i, c in enumerate(context.candidates) if c.name == name)
        best = context.candidates[i]
        if name in seen or not (seen or may_stick(best)):
            return context
        again, others = validator.measured_again(best)
        if again.worst < THRESHOLDS.short_run_share * best.worst:
            context = context.with_notes(
                NoteKind.SHORT_RUN,
                f"the {name} gave {best.worst:.2g} effective draws per gradient in a short run, "
                f"{again.worst:.2g} in a long one",
            )
        seen.update(c.name for c in (again, *others))
        before, after = context.candidates[:i], context.candidates[i + 1 :]
        context = context.with_candidates((*before, again, *others, *after))


def may_stick(candidate: Candidate) -> bool:
    """Whether chains of a candidate may stick in a rare place, unseen in a short run.

    Args:
        candidate: The candidate.

    Returns:
        Whether its figure must be that of a long run.
    """
    if candidate.is_gradient_free and candidate.worst < THRESHOLDS.good_rate:
        return True
    is_bold = candidate.family in (Family.NETWORK, Family.MODE_JUMP)
    is_transported = candidate.coordinates is Coordinates.TRANSPORT
    return is_bold or is_transported or candidate.worst < THRESHOLDS.hard_rate


class _Validator:
    """Long runs of candidates from the same far places."""

    def __init__(
        self, context: SearchContext, key: Key, dispersed_starts: np.ndarray, max_rungs: int
    ):
        self.context, self.key, self.dispersed_starts = context, key, dispersed_starts
        self.max_rungs, self.is_multimodal = max_rungs, context.is_multimodal
        self.marginals = context.marginals
        self.dtype = context.warmup.position.dtype

    def run(self, candidate: Candidate, num_draws: int = LONG_RUN) -> Candidate:
        """The candidate as a long run shows it."""
        dispersed_starts = self.dispersed_starts.astype(self.dtype)
        return revalidated(
            self.key,
            candidate,
            dispersed_starts,
            self.marginals,
            num_draws=num_draws,
            is_multimodal=self.is_multimodal,
        )

    def measured_again(self, best: Candidate) -> tuple[Candidate, list[Candidate]]:
        """The best candidate in a long run, and what may do better if that disappoints."""
        open_account = self.context.budget.open
        free = best.is_gradient_free and best.worst < THRESHOLDS.good_rate
        again, others = self.run(best, 2 * LONG_RUN if free else LONG_RUN), []
        names = {c.name for c in self.context.candidates}
        lost = again.worst < THRESHOLDS.short_run_share * best.worst
        if (lost or _is_faulty(again)) and best.additions[-1:] != (Addition.HMC,):
            small = with_small_steps(again, self.context.warmup.step_size, open_account())
            if small.name not in names:
                others.append(self.run(small))
        finer = with_finer_steps(again, open_account()) if _is_faulty(again) else None
        if finer is not None and finer.name == again.name:
            again = self.finer_while_faulty(finer, again)
        elif finer is not None and finer.name not in names:
            others.append(self.finer_while_faulty(finer, again))
        return again, others

    def finer_while_faulty(self, finer: Candidate | None, before: Candidate) -> Candidate:
        """The candidate up the ladder of lengths, while it has faults; past two, if it helps.

        ``before`` is what it was made of.
        """
        for rung in range(self.max_rungs):
            if finer is None:
                break
            now = self.run(finer)
            helps = now.reach > before.reach or now.metrics.nonfinite < before.metrics.nonfinite
            goes_on = _is_faulty(now) and (helps or rung == 0)
            before, finer = now, with_finer_steps(now, now.account) if goes_on else None
        return before


def _is_faulty(candidate: Candidate) -> bool:
    """Whether its draws have faults, or too many of its proposals were not finite."""
    return bool(candidate.faults) or candidate.metrics.nonfinite > THRESHOLDS.risky_nonfinite
