"""NUTS as a candidate: BlackJAX's, with its own adaptation, from the warm-up's chains."""

import math
from collections.abc import Iterable
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from ... import diagnostics
from ...diagnostics import Marginal, tail_problems
from ...kernels import AbstractLogDensity, Key, Vector
from ...sampling import CountedDraws, run_nuts
from .._budget import Account, Cost
from .._candidate import Candidate, KernelMetrics, Kind
from .._context import Note, NoteKind, SearchContext
from .._selection import nuts_cannot_win

CHAINS = 8
"""Chains with which NUTS is measured."""
_WARMUP = 1000
"""Steps of adaptation, as users give it: with 300 it does half as well on many targets."""
_MEASURED_DRAWS = 300
"""Draws of each chain from which its rate is measured."""
_DENSE_UP_TO = 100
"""Dimensions up to which its metric is dense."""


class Nuts:
    """Proposes NUTS where it may win; the last proposer, as it is measured against the others."""

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: trees as long as half a turn at the warm-up's step size."""
        if _is_no_choice(context):
            return Cost()
        halvings = math.ceil(math.log2(max(math.pi / context.warmup.step_size, 2.0)))
        return context.expected(CHAINS * (_WARMUP + _MEASURED_DRAWS) * (2**halvings - 1))

    def propose(self, context: SearchContext) -> SearchContext:
        """NUTS, measured from far positions.

        Args:
            context: What the search knows.

        Returns:
            The context with NUTS as the last candidate, or with a note that says why it could not
            be measured.
        """
        if _is_no_choice(context):
            return context
        account = context.budget.comparison = Account()
        starts, marginals = context.far_positions(CHAINS), context.marginals
        found = measure_nuts(context.nuts_key, context.target, starts, marginals, account)
        if isinstance(found, Note):
            return replace(context, notes=(*context.notes, found))
        return context.with_candidates((*context.candidates, found))


def _is_no_choice(context: SearchContext) -> bool:
    return not context.settings.compare or nuts_cannot_win(context.rows, context)


def draw_nuts(
    key: Key, target: AbstractLogDensity, starts: Vector, *, num_draws: int
) -> CountedDraws:
    """Draws of NUTS with a dense metric, diagonal in many dimensions.

    Args:
        key: Key of adaptation and draws.
        target: The log density, in the user's coordinates.
        starts: Starts (dim, chains).
        num_draws: Draws of each chain.

    Returns:
        The draws and what they cost.
    """
    dense = starts.shape[0] <= _DENSE_UP_TO
    return run_nuts(key, target, starts, num_draws=num_draws, num_warmup=_WARMUP, dense=dense)


def measure_nuts(
    key: Key,
    target: AbstractLogDensity,
    dispersed_starts: Vector,
    marginals: Iterable[Marginal],
    account: Account,
) -> Candidate | Note:
    """Measure NUTS, as candidates are.

    Args:
        key: Key of the run.
        target: The log density, in the user's coordinates.
        dispersed_starts: Starts (dim, chains), far apart.
        marginals: Known marginals, whose ends the draws must not miss.
        account: Where the costs of adaptation and draws go.

    Returns:
        The candidate. An error that the user's own log density raises is a note: what was found
        must not be lost by it.
    """
    with account.timed():
        try:
            draws = draw_nuts(
                key, target, jnp.asarray(dispersed_starts[:, :CHAINS]), num_draws=_MEASURED_DRAWS
            )
            found = _candidate(draws, marginals)
        except Exception as error:
            text = f"NUTS could not be measured: {first_line(error)}"
            return Note(NoteKind.NUTS_NOT_MEASURED, text)
    account.charge(found.metrics.spent_gradients)
    return found


def _candidate(draws: CountedDraws, marginals: Iterable[Marginal]) -> Candidate:
    bulk = float(np.min(diagnostics.bulk_ess(draws.position)))
    bulk_sq = float(np.min(diagnostics.bulk_ess_sq(draws.position)))
    ends = tail_problems(draws.position, marginals)
    metrics = KernelMetrics(
        ess_per_gradient=bulk / draws.num_gradients,
        ess_sq_per_gradient=bulk_sq / draws.num_gradients,
        ess_per_second=min(bulk, bulk_sq) / max(draws.seconds, 1e-9),
        acceptance_rate=draws.acceptance_rate,
        rhat_max=float(np.max(diagnostics.rhat(draws.position))),
        nonfinite=0.0,
        num_gradients=draws.num_gradients,
        spent_gradients=draws.warmup_gradients + draws.num_gradients,
        seconds=draws.seconds,
        compile_seconds=draws.compile_seconds,
    )
    adaptation = Account()
    adaptation.add(Cost(draws.warmup_gradients, draws.warmup_seconds, draws.compile_seconds))
    return Candidate(
        kind=Kind.NUTS,
        transition=None,
        metrics=metrics,
        num_leapfrogs=None,
        account=adaptation,
        faults=tuple(ends),
        reach=min((end.reach for end in ends), default=1.0),
    )


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its words."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
