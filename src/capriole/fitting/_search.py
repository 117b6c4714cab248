"""The search of `fit`: pilot, whitening, candidates, measurement, choice."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from ..adaptation import LOST, Exploration, explore, refuse_improper
from ..coordinates import Whitened, diagonal, from_user, reusable
from ..diagnostics import spread_out
from ..kernels import AbstractLogDensity, AbstractTransition, Key, Vector, state_at
from ..runtime import CompileClock, OnProgress
from ..training import TrainingDivergedError
from ._candidate import Candidate
from ._reference_check import facts
from ._settings import Settings
from ._validation import RISKY, choose, confirmed, judged_again, row_of, sound
from ._verdict import MIXED, NUTS, Row, sat_apart
from .proposers._mode_jumps import jumps
from .proposers._networks import MOST_MOVED, mixed_candidate, plans, train_candidate
from .proposers._nuts import in_short, nuts_row
from .proposers._pcn import RETURNS, gradient_free
from .proposers._rotations import NO_NETWORKS, rotations
from .proposers._transport import TRANSPORTED, TRANSPORTED_ENOUGH, transported

NUTS_AT_MOST = 0.2
"""Effective draws of x and of x^2 per gradient that NUTS did not reach on any target of the peers
bench (0.14).
"""
NUTS_STARTS = 8


class Spent(NamedTuple):
    """``seconds`` exclude ``compile_seconds``."""

    num_gradients: int
    seconds: float
    compile_seconds: float

    @classmethod
    def of(cls, *runs: Any) -> Self:
        """What ``runs``, of anything that has these fields, took together."""
        return cls(*(sum(getattr(run, name) for run in runs) for name in cls._fields))


class Found(NamedTuple):
    """What the search found: all that the final run and the verdict need, so that it can be stored
    and read back.

    ``chosen`` is the sampler whose draws are returned, ``own`` the best of the candidates, whose
    ``kernel`` stands by where NUTS was chosen (None: it failed, or is not kept). ``starts`` and
    ``crowd`` (dim, n), in the user's coordinates, are where the final chains and those of NUTS's
    measurement start; ``compared`` is what that took (None: not measured) and ``decided`` says
    whether the choice waited for it. ``pilot`` holds plain values for the verdict, what training
    took among them.
    """

    chosen: str
    own: str
    kernel: AbstractTransition | None
    rows: tuple[Row, ...]
    starts: Vector
    crowd: Vector
    notes: tuple[str, ...]
    spent: Spent
    compared: Spent | None
    decided: bool
    pilot: dict[str, Any]

    @property
    def by_nuts(self) -> bool:
        """Whether NUTS was chosen."""
        return self.chosen == NUTS

    @property
    def apart(self) -> bool:
        """Whether chains of plain HMC sat apart, as NUTS's would, whatever a run of it says."""
        return sat_apart(self.pilot)

    @property
    def marginals(self) -> list[dict[str, Any]]:
        """Those of a funnel's parents, as `Marginal.read` takes them; empty if none was found."""
        return self.pilot.get("marginals", [])


def search(
    keys: Sequence[Key],
    target: AbstractLogDensity,
    position: Vector,
    settings: Settings,
    progress: OnProgress,
) -> Found:
    """The best kernel for ``target`` that pilot chains from ``position`` (dim, chains) lead to, and
    what it is worth.

    ``keys`` are those of the pilot, of the candidates without and with networks, and of NUTS.
    """
    with CompileClock() as clock:
        pilot = _explored(keys[0], target, position, settings, progress)
        white = Whitened(target, reusable(pilot.whitening, pilot.sharp))
        candidates, pilot, notes = _candidates(keys[1], keys[2], white, pilot, settings, progress)
        candidates, places = _from_everywhere(keys[1], target, candidates, pilot)
        candidates = confirmed(
            jax.random.fold_in(keys[1], 99), candidates, places, settings.criterion, pilot, notes
        )
    notes.extend(
        f"the {c.name} was the last choice: {c.judgement.nonfinite:.1%} of its proposals were not "
        "finite"
        for c in candidates
        if c.judgement.nonfinite > RISKY
    )
    notes.extend(
        f"the {c.name} {f'counted for {c.reach:.1%}' if c.reach else 'was the last choice'}: "
        f"{c.faults[0].removeprefix('error: ')}"
        for c in candidates
        if c.faults
    )
    if pilot.num_lost:
        notes.append(
            f"{pilot.num_lost} times a pilot chain was taken out of a place that holds next to no "
            "mass (less than "
            f"exp(-{LOST:.0f}), as estimated there), or, in a map's coordinates, far out where it "
            "stood still"
        )
    # Where chains agree, their far places are the tails: chains started there alone would not be
    # draws of the target.
    num_far = 1 if pilot.agreed else None
    gradients = pilot.num_gradients + sum(c.num_gradients for c in candidates)
    found = Found(
        chosen="",
        own="",
        kernel=None,
        rows=tuple(row_of(candidate, pilot) for candidate in candidates),
        starts=jnp.asarray(spread_out(places, settings.num_chains, num_far), position.dtype),
        crowd=jnp.asarray(spread_out(places, NUTS_STARTS, num_far), position.dtype),
        notes=tuple(notes),
        spent=Spent(gradients, clock.seconds, clock.compile_seconds),
        compared=None,
        decided=False,
        pilot=_facts(pilot)
        | {"training": Spent.of(*(c for c in candidates if "network" in c.name))._asdict()},
    )
    if settings.compare and not _sure(found.rows, pilot, settings.criterion):
        found = with_nuts(keys[3], target, found)._replace(decided=True)
    chosen = choose(_choices(found.rows, pilot), settings.criterion)
    own = choose([row for row in found.rows if row.name != NUTS], settings.criterion)
    kernel = next(c.transition for c in candidates if c.name == own)
    return found._replace(chosen=chosen, own=own, kernel=kernel)


def _explored(
    key: Key, target: AbstractLogDensity, position: Vector, settings: Settings, progress: OnProgress
) -> Exploration:
    """The pilot; where its chains disagree, or leave the numbers, the density may be no density:
    ValueError.
    """
    try:
        pilot = explore(
            key, target, position, num_chains=settings.num_pilot_chains, progress=progress
        )
    except (ValueError, np.linalg.LinAlgError):
        refuse_improper(target, position)
        raise
    spent = 0 if pilot.agreed else refuse_improper(target, position)
    return pilot._replace(num_gradients=pilot.num_gradients + spent)


def with_nuts(key: Key, target: AbstractLogDensity, found: Found) -> Found:
    """NUTS's row added, and what measuring it took; a note instead where the log density raised an
    error on its way.
    """
    rows, notes, spent = found.rows, found.notes, 0
    with CompileClock() as clock:
        try:
            row = nuts_row(key, target, found.crowd, found.marginals)
            rows, spent = (*rows, row), row.measured_gradients
        except Exception as error:  # the user's own, so any: what was found must not be lost by it
            notes = (*notes, f"NUTS could not be measured: {in_short(error)}")
    return found._replace(
        rows=rows, notes=notes, compared=Spent(spent, clock.seconds, clock.compile_seconds)
    )


def _choices(rows: Sequence[Row], pilot: Exploration) -> Sequence[Row]:
    """The rows that may be chosen: NUTS's is none where the pilot's chains disagreed and those of a
    candidate, from every place that any chain found, met. NUTS's few chains in a short run may all
    have gone to one of several modes, whose ESS and R-hat are fine.
    """
    ours = [row for row in rows if row.name != NUTS]
    met = any(sound(row) and row.rhat_max < MIXED for row in ours)
    return rows if pilot.agreed or not met else ours


def _sure(rows: Sequence[Row], pilot: Exploration, criterion: str) -> bool:
    """Whether NUTS cannot be the choice: the best beats whatever it may reach, or plain HMC's
    chains sat apart.
    """
    if sat_apart({"apart": pilot.apart, "num_modes": len(pilot.modes.log_mass)}):
        return True
    name = choose(rows, criterion)
    best = next(row for row in rows if row.name == name)
    return (
        criterion == "gradients"
        and pilot.agreed
        and sound(best)
        and best.reach * best.worst > NUTS_AT_MOST
    )


def _from_everywhere(
    key: Key, target: AbstractLogDensity, candidates: list[Candidate], pilot: Exploration
) -> tuple[list[Candidate], np.ndarray]:
    """The candidates as they are to be compared, and all places (dim, n) that any chain found.

    Where chains disagree, every sampler is measured from all those places: else one that sits in
    the mode where it started would win, with a fine ESS and R-hat.
    """
    places = np.asarray(pilot.position)
    if found := [c.found for c in candidates if c.found is not None]:
        places = np.concatenate(
            [places, _worth_a_visit(target, np.concatenate(found, axis=1), pilot)], axis=1
        )
    if not pilot.agreed:
        crowd = spread_out(places, pilot.position.shape[1])
        candidates = [judged_again(key, c, crowd, pilot) for c in candidates]
    return candidates, places


def _worth_a_visit(
    target: AbstractLogDensity, places: np.ndarray, pilot: Exploration
) -> np.ndarray:
    """Those of ``places`` (dim, n), where chains that trained a kernel ended, that are not far from
    all mass.

    A kernel in training may run away: left out is where log density or gradient is not finite, or
    the former more than `LOST` below the lowest of the pilot's chains.
    """
    end = state_at(target, jnp.asarray(places, pilot.position.dtype))
    lowest = np.min(state_at(target, pilot.position).logdensity)
    finite = np.isfinite(np.asarray(end.logdensity_grad)).all(axis=0)
    return places[:, finite & (np.asarray(end.logdensity) > lowest - LOST)]


def _candidates(
    search_key: Key,
    train_key: Key,
    white: Whitened,
    pilot: Exploration,
    settings: Settings,
    progress: OnProgress,
) -> tuple[list[Candidate], Exploration, list[str]]:
    """All candidates, measured; the pilot whose coordinates they have; and notes on what was left
    out.
    """
    start = jnp.asarray(from_user(white, np.asarray(pilot.position)))
    agreed = pilot.agreed
    sharp = (
        pilot.sharp if agreed else None
    )  # gradients of one mode, or of a rough surface, would mislead
    found = rotations(search_key, white, start, sharp=sharp, polish=2 * agreed, progress=progress)
    notes: list[str] = []
    long_key = jax.random.fold_in(search_key, 98)
    found = confirmed(long_key, found, np.asarray(pilot.position), settings.criterion, pilot, notes)
    if max(c.judgement.worst for c in found) <= NO_NETWORKS or any(
        c.name.endswith(RETURNS) for c in found
    ):
        move_key = jax.random.fold_in(search_key, 97)
        found, pilot = _or_transported(
            move_key, white.logdensity, found, pilot, notes, settings.criterion, progress
        )
        agreed = pilot.agreed
    if not agreed:
        jumping, spent = jumps(jax.random.fold_in(search_key, 96), white.logdensity, pilot)
        found = found if jumping is None else [*found, jumping]
        pilot = pilot._replace(num_gradients=pilot.num_gradients + spent)
    if not settings.train_steps:
        return found, pilot, notes
    enough = TRANSPORTED_ENOUGH if found[0].name.startswith(TRANSPORTED) else NO_NETWORKS
    if max(c.judgement.worst for c in found) > enough:
        notes.append(
            f"no network was trained: a kernel without one gives over {enough} effective draws per "
            "gradient"
        )
        return found, pilot, notes
    start_from = found[0]
    angle = float(start_from.transition.dynamics.angle)  # type: ignore[attr-defined]
    white = start_from.transition.target  # type: ignore[assignment]
    to_beat = max(c.judgement.worst for c in found)
    pool = pilot.draws.reshape(-1, pilot.draws.shape[-1]).T
    if not agreed:
        white = Whitened(
            white.logdensity, diagonal(from_user(white.logdensity, pool), dtype=start.dtype)
        )
    dim = pool.shape[0]
    trained: list[Candidate] = []
    for i, plan in enumerate(
        plans(
            dim=dim,
            best=start_from,
            angle=angle,
            agreed=agreed,
            step_size=pilot.step_size,
            num_steps=settings.train_steps,
        )
    ):
        if plan.moved(dim) > MOST_MOVED:
            notes.append(f"no {plan.name} was trained: in {dim} dimensions that takes too long")
            continue
        key = jax.random.fold_in(train_key, i)
        pick_key = jax.random.fold_in(train_key, 1000 + i)
        chosen = np.asarray(jax.random.choice(pick_key, pool.shape[1], (plan.num_chains,)))
        position = jnp.asarray(from_user(white, pool[:, chosen]))
        if agreed and trained and trained[-1].judgement.worst < 1.1 * to_beat:
            notes.append(f"no {plan.name} was trained: the smaller one gained less than 10 %")
            break
        try:
            trained.append(
                train_candidate(
                    key,
                    plan,
                    white,
                    position,
                    step_size=pilot.step_size,
                    to_beat=to_beat,
                    progress=progress,
                )
            )
        except TrainingDivergedError as error:
            notes.append(str(error))
            pilot = pilot._replace(num_gradients=pilot.num_gradients + error.num_gradients)
    found = [*found, *trained]
    if agreed:
        found = _with_mixture(jax.random.fold_in(train_key, 99), found, pilot)
    return found, pilot, notes


def _or_transported(
    key: Key,
    target: AbstractLogDensity,
    found: list[Candidate],
    pilot: Exploration,
    notes: list[str],
    criterion: str,
    progress: OnProgress,
) -> tuple[list[Candidate], Exploration]:
    """The candidates with those of a transport map before them, and the pilot there, if they are
    better.
    """
    there = transported(key, target, pilot, progress)
    if there is None:
        return found, pilot
    best = max(c.judgement.worst for c in found)
    others = confirmed(
        key, there.candidates, np.asarray(there.pilot.position), criterion, there.pilot, notes
    )
    if (pilot.agreed and not there.pilot.agreed) or max(c.judgement.worst for c in others) <= best:
        notes.append(
            "a transport map was tried and left: kernels in its coordinates gained nothing"
        )
        spent = there.pilot.num_gradients + sum(c.num_gradients for c in others)
        return found, pilot._replace(num_gradients=spent, profile=there.pilot.profile)
    about = (
        f" with dimension {', '.join(map(str, there.parents))} as parent" if there.parents else ""
    )
    notes.append(
        f"a transport map{about} makes the draws {there.gain:.1f} nats more probable under a "
        "Gaussian"
    )
    return [*others, *found], there.pilot


def _with_mixture(key: Key, found: list[Candidate], pilot: Exploration) -> list[Candidate]:
    """The candidates, and the best network with the gradient-free rotation mixed in; before the
    networks if better.
    """
    trained = [c for c in found if "network" in c.name]
    if not trained:
        return found
    best = max(trained, key=lambda c: c.judgement.worst)
    same = [
        c for c in found if c.transition.target is best.transition.target
    ]  # parts of a mixture share coordinates
    free = gradient_free(same)
    if free is None:
        return found
    start = jnp.asarray(from_user(best.transition.target, np.asarray(pilot.position)))
    mixed = mixed_candidate(key, best, free, start)
    better = mixed.judgement.worst >= best.judgement.worst
    first = len(found) - len(trained) if better else len(found)
    return [*found[:first], mixed, *found[first:]]


def _facts(pilot: Exploration) -> dict[str, Any]:
    return {
        "windows": pilot.num_windows,
        "rhat_max": pilot.rhat_max,
        "apart": pilot.apart,
        "agreed": pilot.agreed,
        "num_lost": pilot.num_lost,
        "num_frozen": pilot.num_frozen,
        "num_left": pilot.num_left,
        "step_size": pilot.step_size,
        "acceptance_rate": pilot.acceptance_rate,
        "num_gradients": pilot.num_gradients,
        "seconds": pilot.seconds,
        "compile_seconds": pilot.compile_seconds,
    } | facts(pilot)
