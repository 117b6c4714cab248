"""NUTS as a candidate: BlackJAX's, with its own adaptation, from the warm-up's chains."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from ... import diagnostics
from ...diagnostics import Marginal, tail_problems
from ...kernels import AbstractLogDensity, Key, Vector
from ...runtime import CompileClock
from ...sampling import CountedDraws, run_nuts
from .._budget import Cost
from .._candidate import Coordinates, Kind, SamplerReport
from .._thresholds import THRESHOLDS

CHAINS = 8
"""Chains with which NUTS is measured."""
_WARMUP = 1000
"""Steps of adaptation, as users give it: with 300 it does half as well on many targets."""
TARGET_ACCEPTANCES = (0.8, 0.95, 0.99)
"""Mean acceptances that its step sizes are adapted to: the next where many transitions diverge."""
_MEASURED_DRAWS = 300
"""Draws of each chain from which its rate is measured."""
_DENSE_UP_TO = 100
"""Dimensions up to which its metric is dense."""


@dataclass(frozen=True)
class NutsMeasurement:
    """NUTS as a row of the verdict, or why it could not be measured, and what that took."""

    row: SamplerReport | None
    error: str
    cost: Cost


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
        if run.divergences <= THRESHOLDS.nuts_diverging * num_draws * starts.shape[1]:
            break
        spent = Cost(
            run.warmup_gradients + run.num_gradients,
            run.warmup_seconds + run.seconds,
            run.compile_seconds,
        )
    return run


def measure_nuts(
    key: Key, target: AbstractLogDensity, dispersed_starts: Vector, marginals: tuple[Marginal, ...]
) -> NutsMeasurement:
    """Measure NUTS, as candidates are.

    Args:
        key: Key of the run.
        target: The log density, in the user's coordinates.
        dispersed_starts: Starts (dim, chains), far apart.
        marginals: Known marginals, whose ends the draws must not miss.

    Returns:
        Its row. An error that the user's own log density raises is part of the result: what was
        found must not be lost by it.
    """
    with CompileClock() as clock:
        try:
            row, error = _row(key, target, dispersed_starts[:, :CHAINS], marginals), ""
        except Exception as raised:
            row, error = None, first_line(raised)
    spent = 0 if row is None else row.measured_gradients
    return NutsMeasurement(row, error, Cost(spent, clock.seconds, clock.compile_seconds))


def _row(
    key: Key, target: AbstractLogDensity, starts: Vector, marginals: tuple[Marginal, ...]
) -> SamplerReport:
    draws = draw_nuts(key, target, jnp.asarray(starts), num_draws=_MEASURED_DRAWS)
    bulk = float(np.min(diagnostics.bulk_ess(draws.position)))
    bulk_sq = float(np.min(diagnostics.bulk_ess_sq(draws.position)))
    ends = tail_problems(draws.position, marginals)
    return SamplerReport(
        kind=Kind.NUTS,
        coordinates=Coordinates.AFFINE,
        additions=(),
        num_leapfrogs=None,
        ess_per_gradient=bulk / draws.num_gradients,
        ess_sq_per_gradient=bulk_sq / draws.num_gradients,
        ess_per_second=min(bulk, bulk_sq) / max(draws.seconds, 1e-9),
        acceptance_rate=draws.acceptance_rate,
        rhat_max=float(np.max(diagnostics.rhat(draws.position))),
        fixed_gradients=draws.warmup_gradients,
        fixed_seconds=draws.warmup_seconds + draws.compile_seconds,
        measured_gradients=draws.warmup_gradients + draws.num_gradients,
        reach=min((end.reach for end in ends), default=1.0),
    )


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of its words."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
