"""The one place where the choice between candidates is made."""

from collections.abc import Sequence

import numpy as np

from ._candidate import SamplerReport
from ._context import SearchContext
from ._thresholds import THRESHOLDS


def is_reliable(row: SamplerReport) -> bool:
    """Whether a row's figure may be believed.

    Args:
        row: A sampler as measured.

    Returns:
        Whether its chains met, and few of its proposals were not finite.
    """
    limits = THRESHOLDS
    return row.rhat_max < limits.unmixed_rhat and not row.nonfinite > limits.risky_nonfinite


def choose(rows: Sequence[SamplerReport], criterion: str) -> SamplerReport:
    """The best sampler by the criterion; of those within a tenth of it the first.

    Samplers without networks come first, so they win ties. Chains that stay where they started have
    an ESS of about their number, more than chains that slowly mix: rows that are not reliable come
    after all others, and so do those whose chains stood still. One that missed an end of a funnel
    has as much less of its figure as it has of that end.

    Args:
        rows: The samplers, simpler ones first.
        criterion: "gradients" or "seconds": per which an effective draw counts.

    Returns:
        The chosen row.
    """

    def score(row: SamplerReport) -> float:
        value = row.worst if criterion == "gradients" else row.ess_per_second
        return float(np.nan_to_num(value)) * (max(row.reach, 1e-9) if is_reliable(row) else 1e-9)

    top = max(score(row) for row in rows)
    return next(row for row in rows if score(row) >= THRESHOLDS.tie * top)


def nuts_cannot_win(rows: Sequence[SamplerReport], context: SearchContext) -> bool:
    """Whether NUTS need not be measured before the choice.

    It is no choice where chains of plain HMC sat in several modes, and it cannot win where the best
    candidate has a higher rate than NUTS is known to reach.

    Args:
        rows: The candidates.
        context: What the search knows.

    Returns:
        Whether the choice can be made without it.
    """
    if context.is_multimodal:
        return True
    best = choose(rows, context.settings.criterion)
    beats = best.reach * best.worst > THRESHOLDS.nuts_rate
    counts_gradients = context.settings.criterion == "gradients"
    return counts_gradients and context.warmup.agreed and is_reliable(best) and beats


def may_be_chosen(rows: Sequence[SamplerReport], *, agreed: bool) -> list[SamplerReport]:
    """The rows among which the choice is made.

    NUTS is none of them where chains of the warm-up disagreed and those of a candidate, from every
    place that any chain found, met and missed no end: NUTS's few chains in a short run may all have
    gone to one of several modes, whose ESS and R-hat are fine.

    Args:
        rows: All samplers.
        agreed: Whether chains of the warm-up agreed.

    Returns:
        Those that may be chosen.
    """
    ours = [row for row in rows if not row.is_nuts]
    limit = THRESHOLDS.mixed_rhat
    met = any(is_reliable(row) and row.rhat_max < limit and row.reach == 1 for row in ours)
    return list(rows) if agreed or not met else ours
