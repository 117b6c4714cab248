"""Which candidate is the best, by short runs and by long ones."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..adaptation import Exploration
from ..coordinates import from_user
from ..diagnostics import FITTED, MOST_NONFINITE, health, spread_out
from ..kernels import Key
from ..sampling import health_arrays
from ._candidate import JUMPS, Candidate
from ._evaluation import measured
from ._tail_coverage import marginals, unreached
from ._verdict import Row, grave
from .proposers._networks import HMC, with_finer_steps, with_small_steps
from .proposers._pcn import FREE
from .proposers._rotations import GOOD_ENOUGH
from .proposers._transport import TRANSPORTED

WARMUP = 200
"""Draws left out of runs that start far out on purpose."""
STICKY = 0.1
"""Effective draws per gradient below which any kernel's chains may have stuck, unseen in a short
run.
"""
RISKY = MOST_NONFINITE / 5
"""Share of proposals that are not finite above which a kernel is the last choice: one with 1.8 %,
on stochastic volatility, came to an end of a funnel half as often as it should.
"""
UNMIXED = 1.5
"""R-hat from which on chains have told nothing of one another."""


def confirmed(
    key: Key,
    candidates: list[Candidate],
    places: np.ndarray,
    criterion: str,
    pilot: Exploration,
    notes: list[str],
) -> list[Candidate]:
    """The candidates, the best of them, if its chains may stick, measured again in a long run from
    far places.

    A kernel whose chains stick in a rare place looks better in a short run than it is: networks,
    kernels in the coordinates of a transport map, the rotation that no gradient steers unless it is
    `GOOD_ENOUGH`, and all that are slow (`STICKY`). Once one was measured so, whoever takes its
    place is as well. One that lost half of its figure, or has faults, is measured with small steps
    mixed in too; one with faults also in finer steps, twice at most.
    """
    crowd = spread_out(places, pilot.position.shape[1])
    seen: set[str] = set()
    while True:
        name = choose([row_of(c, pilot) for c in candidates], criterion)
        i = next(i for i, c in enumerate(candidates) if c.name == name)
        before = candidates[i].judgement.worst
        free = name.endswith(FREE) and before < GOOD_ENOUGH
        sticky = (
            free or "network" in name or name.startswith((TRANSPORTED, JUMPS)) or before < STICKY
        )
        if name in seen or not (seen or sticky):
            return candidates
        again = judged_again(key, candidates[i], crowd, pilot, num_draws=2000 if free else 1000)
        freed: list[Candidate] = []
        lost = again.judgement.worst < 0.5 * before
        if lost:
            notes.append(
                f"the {name} gave {before:.2g} effective draws per gradient in a short run, "
                f"{again.judgement.worst:.2g} in a long one"
            )
        if lost or again.faults:
            with_hmc = with_small_steps(again, pilot.step_size)
            if with_hmc.name not in {c.name for c in candidates} and not name.endswith(HMC):
                freed = [judged_again(key, with_hmc, crowd, pilot, num_draws=1000)]
        if (
            (made := with_finer_steps(again))
            and again.faults
            and made.name not in {c.name for c in candidates}
        ):
            finer = judged_again(key, made, crowd, pilot, num_draws=1000)
            if finer.faults and (made := with_finer_steps(finer)):
                finer = judged_again(key, made, crowd, pilot, num_draws=1000)
            freed.append(finer)
        candidates = [*candidates[:i], again, *freed, *candidates[i + 1 :]]
        seen.update(c.name for c in (again, *freed))


def row_of(candidate: Candidate, pilot: Exploration) -> Row:
    j = candidate.judgement
    return Row(
        name=candidate.name,
        num_leapfrogs=candidate.num_leapfrogs,
        ess_per_gradient=j.ess_per_gradient,
        ess_sq_per_gradient=j.ess_sq_per_gradient,
        ess_per_second=j.ess_per_second,
        acceptance_rate=j.acceptance_rate,
        rhat_max=j.rhat_max,
        nonfinite=j.nonfinite,
        reach=candidate.reach,
        fixed_gradients=pilot.num_gradients + candidate.num_gradients + candidate.shared_gradients,
        fixed_seconds=pilot.seconds
        + pilot.compile_seconds
        + candidate.seconds
        + candidate.compile_seconds,
    )


def sound(row: Row) -> bool:
    """Whether a row's figure may be believed: chains mixed, or at least met, and few proposals were
    not finite.
    """
    return row.rhat_max < UNMIXED and not row.nonfinite > RISKY


def choose(rows: Sequence[Row], criterion: str) -> str:
    """The best by the criterion; of those within 10 % of it the first, so kernels without networks
    come first.

    Chains that stay where they started have an ESS of about their number, more than chains that
    slowly mix: rows whose R-hat is `UNMIXED` or more come after all others, and so do `RISKY` ones
    and those whose chains stood still. One that missed an end of a funnel has as much less of its
    figure as it has of that end.
    """

    def score(row: Row) -> float:
        value = row.worst if criterion == "gradients" else row.ess_per_second
        return float(np.nan_to_num(value)) * (max(row.reach, 1e-9) if sound(row) else 1e-9)

    top = max(score(row) for row in rows)
    return next(row.name for row in rows if score(row) >= 0.9 * top)


def judged_again(
    key: Key, candidate: Candidate, places: np.ndarray, pilot: Exploration, *, num_draws: int = 500
) -> Candidate:
    """The candidate with what it does from ``places`` (dim, chains), and the faults of those draws."""
    start = jnp.asarray(from_user(candidate.transition.target, places.astype(pilot.position.dtype)))
    run_key = jax.random.fold_in(key, 7)
    judgement, record = measured(
        run_key, candidate.transition, start, num_draws=num_draws, num_warmup=WARMUP
    )
    still = grave(health(*health_arrays(record), remedies=FITTED))
    ends = unreached(record.position, marginals(pilot.profile))
    return candidate._replace(
        judgement=judgement,
        num_gradients=candidate.num_gradients + judgement.spent_gradients,
        faults=(*still, *(end.words for end in ends)),
        reach=0.0 if still else min((end.reach for end in ends), default=1.0),
    )
