"""Candidates in long runs from everywhere, and what frees those that are held somewhere."""

import jax.numpy as jnp
import numpy as np

from ...adaptation import NEGLIGIBLE_NATS, WarmupResult
from ...kernels import AbstractLogDensity, state_at
from .._budget import Cost
from .._context import NoteKind, SearchContext, Stream
from .._evaluation import LONG_RUN, SHORT_RUN, may_stick, revalidated, validate_best
from .._selection import choose
from .._thresholds import THRESHOLDS, WARMUP_DRAWS


class LongRuns:
    """Measures the others' candidates in long runs; proposes small or finer steps where they fail.

    Where chains of the warm-up disagree, every candidate is measured from all positions that any
    chain found: else one that sits in the mode where it started would win, with a fine ESS and
    R-hat.
    """

    name = "long runs of the best"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: one long run of the best candidate, of all where chains disagree."""
        name = choose(context.rows, context.settings.criterion).name
        best = next(c for c in context.candidates if c.name == name)
        short = () if context.warmup.agreed else context.candidates
        runs = [(c, SHORT_RUN) for c in short] + [(best, LONG_RUN)] * may_stick(best)
        chains = context.warmup.position.shape[1]
        moves = sum((WARMUP_DRAWS + num_draws) * (c.num_leapfrogs or 1) for c, num_draws in runs)
        return context.expected(chains * moves)

    def propose(self, context: SearchContext) -> SearchContext:
        """Measure candidates again, the best ones longest.

        Args:
            context: What the search knows.

        Returns:
            The context with candidates as measured again, and with what was made of them.
        """
        context = _from_everywhere(context)
        return _noted(validate_best(context, Stream.VALIDATE_ALL, context.positions))


def _from_everywhere(context: SearchContext) -> SearchContext:
    """The context with the ends of training chains, candidates measured from there if need be."""
    warmup = context.warmup
    if ends := [c.found for c in context.candidates if c.found is not None]:
        worthy = worth_a_visit(context.target, np.concatenate(ends, axis=1), warmup)
        context = context.with_visited(worthy)
    if warmup.agreed:
        return context
    starts = context.far_positions(warmup.position.shape[1])
    marginals = context.marginals
    return context.with_candidates(
        revalidated(
            context.key, c, np.asarray(starts), marginals, is_multimodal=context.is_multimodal
        )
        for c in context.candidates
    )


def worth_a_visit(
    target: AbstractLogDensity, positions: np.ndarray, warmup: WarmupResult
) -> np.ndarray:
    """Those ends of training chains that are not far from all mass.

    A kernel in training may run away: left out is where log density or gradient is not finite, or
    the former far below the lowest of the warm-up's chains.

    Args:
        target: The log density, in the user's coordinates.
        positions: The ends (dim, n).
        warmup: The warm-up.

    Returns:
        Some of the ``positions``.
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
    if context.warmup.search is None:
        text = (
            "modes that no chain met were not searched for: there are too many dimensions, or the "
            "draws of the warm-up have no covariance"
        )
        context = context.with_notes(NoteKind.WARMUP, text)
    if lost := context.warmup.num_negligible:
        text = (
            f"{lost} times a chain of the warm-up was taken out of a place that holds next to no "
            f"mass (less than exp(-{NEGLIGIBLE_NATS:.0f}), as estimated there), or, in a map's "
            "coordinates, "
            "far out where it stood still"
        )
        context = context.with_notes(NoteKind.WARMUP, text)
    return context
