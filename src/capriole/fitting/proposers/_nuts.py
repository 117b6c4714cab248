"""NUTS as a candidate: BlackJAX's, with its own adaptation, from the warm-up's chains."""

import math
from collections.abc import Iterable
from dataclasses import replace

import jax
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
from .._thresholds import THRESHOLDS

CHAINS = 8
"""Chains with which NUTS is measured."""
_WARMUP = 1000
"""Steps of adaptation, as users give it: with 300 it does half as well on many targets."""
TARGET_ACCEPTANCES = (0.8, 0.95, 0.99)
"""Mean acceptances that its step sizes are adapted to: the next where many transitions diverge."""
_MEASURED_DRAWS = 300
"""Draws of each chain from which its rate is measured."""
_LONGER = 4
"""How many times as many draws are measured where its chains have not mixed."""
_DENSE_UP_TO = 100
"""Dimensions up to which its metric is dense."""


class Nuts:
    """Proposes NUTS where it may win; the last proposer, as it is measured against the others."""

    name = "measuring NUTS"

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
    key: Key,
    target: AbstractLogDensity,
    starts: Vector,
    *,
    num_draws: int,
    least_acceptance: float = TARGET_ACCEPTANCES[0],
) -> CountedDraws:
    """Draws of NUTS with a dense metric, diagonal in many dimensions.

    Where many transitions diverge, NUTS is run anew with a higher target acceptance, so smaller
    steps, as its users do. Of runs that all diverge the last is taken.

    Args:
        key: Key of adaptation and draws.
        target: The log density, in the user's coordinates.
        starts: Starts (dim, chains).
        num_draws: Draws of each chain.
        least_acceptance: The lowest target acceptance to use.

    Returns:
        The draws and what they cost; runs that were given up count as warm-up.
    """
    spent = Cost()
    for acceptance in TARGET_ACCEPTANCES:
        if acceptance < least_acceptance:
            continue
        run = run_nuts(
            key,
            target,
            starts,
            num_draws=num_draws,
            num_warmup=_WARMUP,
            dense=starts.shape[0] <= _DENSE_UP_TO,
            target_acceptance=acceptance,
        )
        run = run._replace(
            warmup_gradients=run.warmup_gradients + spent.num_gradients,
            warmup_seconds=run.warmup_seconds + spent.seconds,
            compile_seconds=run.compile_seconds + spent.compile_seconds,
        )
        few = run.divergences <= THRESHOLDS.nuts_diverging * num_draws * starts.shape[1]
        if few or not run.completed:
            break
        spent = Cost(
            run.warmup_gradients + run.num_gradients,
            run.warmup_seconds + run.seconds,
            run.compile_seconds,
        )
    return run


def measure_nuts(
    key: Key,
    target: AbstractLogDensity,
    dispersed_starts: Vector,
    marginals: Iterable[Marginal],
    account: Account,
    *,
    retry: bool = True,
) -> Candidate | Note:
    """Measure NUTS, as candidates are; once more and longer, in float64, where it has not mixed.

    Nothing is said of a rival by a run that failed: its chains may have been unlucky, or rounding
    may have misled the adaptation of one of them.

    Args:
        key: Key of the run.
        target: The log density, in the user's coordinates.
        dispersed_starts: Starts (dim, chains), far apart.
        marginals: Known marginals, whose ends the draws must not miss.
        account: Where the costs of adaptation and draws go.
        retry: Whether it may be measured again.

    Returns:
        The candidate. An error that the user's own log density raises is a note: what was found
        must not be lost by it.
    """
    starts, found = jnp.asarray(dispersed_starts[:, :CHAINS]), None
    with account.timed():
        try:
            draws = draw_nuts(key, target, starts, num_draws=_MEASURED_DRAWS)
            found = _candidate(draws, marginals, account)
            if retry and not found.metrics.rhat_max < THRESHOLDS.mixed_rhat:
                found = _candidate(_drawn_again(key, target, starts), marginals, account)
        except Exception as error:
            if found is None:
                text = f"NUTS could not be measured: {first_line(error)}"
                return Note(NoteKind.NUTS_NOT_MEASURED, text)
    return found


def _drawn_again(key: Key, target: AbstractLogDensity, starts: Vector) -> CountedDraws:
    """Longer draws with another key; in float64 where the log density can be had in it."""
    key, num_draws = jax.random.fold_in(key, 1), _LONGER * _MEASURED_DRAWS
    with jax.enable_x64(True):
        precise = jnp.asarray(np.asarray(starts), np.float64)
        try:
            return draw_nuts(key, target, precise, num_draws=num_draws)
        except (TypeError, ValueError):  # of another precision whatever its arguments have
            pass
    return draw_nuts(key, target, starts, num_draws=num_draws)


def _candidate(draws: CountedDraws, marginals: Iterable[Marginal], account: Account) -> Candidate:
    if not draws.completed:
        raise KeyboardInterrupt
    account.charge(draws.warmup_gradients + draws.num_gradients)
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
        spent_gradients=account.cost.num_gradients,
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
