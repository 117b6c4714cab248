"""``fit``: one call from a log density to draws and a verdict."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import diagnostics
from .._check import check_starts
from .._clock import CompileClock
from .._explore import CHUNK, Exploration, explore
from .._front import as_key, prepare, to_datatree
from .._judge import Judgement, judge, judged
from .._logdensity import AbstractLogDensity
from .._sample import Draws, draw_chains
from .._train import Progress, TrainingDivergedError
from .._transition import AbstractTransition, state_at
from .._types import Key, Vector
from .._whitening import Whitened, diagonal, from_user, padded
from ..baselines import PeerDraws
from ._candidate import Candidate
from ._nuts import nuts_row, nuts_tree
from ._rotations import per_chain, rotations
from ._training import plans, train_candidate
from ._verdict import Row, Verdict

if TYPE_CHECKING:
    import xarray

MAX_RHAT = 1.01
NO_NETWORKS = 0.25
"""Effective draws per gradient from which on no trained network gained anything on any target of the peers bench."""
NUTS_AT_MOST = 0.2
"""Effective draws of x and of x^2 per gradient that NUTS did not reach on any target of the peers bench (0.14)."""
_THINS = (1, 4, 16)
_WARMUP = 100


class Fit(NamedTuple):
    """Draws as an ArviZ DataTree, the `Verdict`, and the frozen kernel (None where the verdict chose NUTS)."""

    tree: "xarray.DataTree"
    verdict: Verdict
    transition: AbstractTransition | None


def fit(
    logdensity: Callable,
    init: Any = None,
    *,
    seed: int | Key = 0,
    num_chains: int = 16,
    num_draws: int = 1000,
    spread: float = 1.0,
    train_steps: int = 1500,
    num_pilot_chains: int = 64,
    compare: bool = True,
    criterion: str = "gradients",
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    """Find a good kernel for ``logdensity``, say what it is worth, and draw ``num_draws`` from each of ``num_chains``.

    ``logdensity`` and ``init`` are as in `capriole.train`. A pilot of many short HMC chains, started at
    ``init + spread * N(0, I)``, finds white coordinates; rotations in them need no networks and often suffice; a small
    and a larger network are trained from the best of them for ``train_steps`` (0: none), others with tempering where
    the pilot's chains disagree. Every candidate, and NUTS, is measured on fresh chains; the best ESS per
    gradient wins (``criterion="seconds"``: per second, for cheap log densities), its kernel is frozen, and the draws
    are its own. If NUTS is the best, the draws are NUTS's. Where a candidate gives more effective draws per gradient
    than NUTS is known to (`NUTS_AT_MOST`), NUTS is compared after the draws are there, for the verdict only;
    ``compare=False`` leaves it out.

    If chains of the final run disagree (R-hat above 1.01) they go on 4 and then 16 times as long, thinned to
    the same number of draws. If they still do, or chains are stuck, the verdict says ``failed`` and why.
    Raises ValueError for a log density or init that cannot work.
    """
    if criterion not in ("gradients", "seconds"):
        raise ValueError(f"criterion must be 'gradients' or 'seconds', got {criterion!r}")
    if num_chains < 4 or num_pilot_chains < 16:
        raise ValueError(f"need at least 4 chains and 16 pilot chains, got {num_chains} and {num_pilot_chains}")
    keys = jax.random.split(as_key(seed), 6)
    target, position = prepare(logdensity, init, keys[0], num_chains=num_pilot_chains, spread=spread)
    check_starts(state_at(target, position))
    with CompileClock() as clock:
        pilot = explore(keys[1], target, position, progress=progress)
        white = Whitened(target, padded(pilot.whitening, len(position)) if pilot.sharp is not None else pilot.whitening)
        candidates, notes = _candidates(keys[2], keys[3], white, pilot, train_steps, progress)
        candidates, places = _from_everywhere(keys[2], candidates, pilot)
    total = _Spent(
        pilot.num_gradients + sum(c.num_gradients for c in _paid(candidates)), clock.seconds, clock.compile_seconds
    )
    rows = [_row(candidate, pilot) for candidate in candidates]
    starts = spread_out(places, num_chains).astype(position.dtype)
    nuts = partial(_measured_nuts, keys[4], target, jnp.asarray(spread_out(places, 8), position.dtype))
    decided = not compare or _sure(rows, pilot, criterion)
    compared = _Spent(0, 0.0, 0.0)
    if not decided:
        row, compared = nuts()
        rows.append(row)
    chosen = _choose(rows, criterion)
    if chosen == "NUTS":
        tree, last = nuts_tree(keys[5], target, jnp.asarray(starts), num_draws=num_draws)
        kernel, problems = None, _nuts_problems(last)
        figures: dict[str, Any] = {"warmup_gradients": last.warmup_gradients}
    else:
        kernel, final, rows = _best_in_the_long_run(keys[5], candidates, rows, criterion, starts, num_draws, notes)
        chosen = next(c.name for c in candidates if c.transition is kernel)
        problems = _problems(final.draws, final.judgement)
        tree = to_datatree(final.draws, kernel.target, seed=repr(seed))
        figures = {"thin": final.thin, "final": final.judgement._asdict(), "warmup_gradients": final.warmup_gradients}
        rows = [_all_counted(row, total) if row.name == chosen else row for row in rows]
    if compare and decided:
        row, compared = nuts()
        rows.append(row)
    figures |= {"seed": repr(seed), "criterion": criterion, "num_chains": num_chains, "notes": notes}
    figures |= {"preparation": total._asdict(), "comparison": compared._asdict() | {"decided": not decided}}
    verdict = _verdict(rows, chosen, problems, _settings(pilot) | figures)
    return Fit(_stamped(tree, verdict), verdict, kernel)


def _measured_nuts(key: Key, target: AbstractLogDensity, starts: Vector) -> tuple[Row, "_Spent"]:
    """NUTS's row, and what measuring it took."""
    with CompileClock() as clock:
        row = nuts_row(key, target, starts)
    return row, _Spent(row.measured_gradients, clock.seconds, clock.compile_seconds)


class _Final(NamedTuple):
    """The final run; ``warmup_gradients`` were spent before its kept draws, on warm-up and runs given up."""

    draws: Draws
    judgement: Judgement
    thin: int
    warmup_gradients: int


class _Spent(NamedTuple):
    """``seconds`` exclude ``compile_seconds``."""

    num_gradients: int
    seconds: float
    compile_seconds: float


def _sure(rows: list[Row], pilot: Exploration, criterion: str) -> bool:
    """Whether a candidate beats whatever NUTS may reach; not to be said where the pilot's chains disagree."""
    return criterion == "gradients" and pilot.agreed and max(row.worst for row in rows) > NUTS_AT_MOST


def _from_everywhere(key: Key, candidates: list[Candidate], pilot: Exploration) -> tuple[list[Candidate], np.ndarray]:
    """The candidates as they are to be compared, and all places (dim, n) that any chain found.

    Where chains disagree, every sampler is measured from all those places: else one that sits in the mode where it
    started would win, with a fine ESS and R-hat.
    """
    found = [c.found for c in candidates if c.found is not None]
    places = np.concatenate([np.asarray(pilot.position), *found], axis=1)
    if not pilot.agreed:
        crowd = spread_out(places, pilot.position.shape[1])
        candidates = [_judged_again(key, c, crowd) for c in candidates]
    return candidates, places


def _candidates(
    search_key: Key,
    train_key: Key,
    white: Whitened,
    pilot: Exploration,
    train_steps: int,
    progress: Callable[[Progress], None] | None,
) -> tuple[list[Candidate], list[str]]:
    """All candidates, measured; and notes on those whose training collapsed."""
    start = jnp.asarray(from_user(white, np.asarray(pilot.position)))
    agreed = pilot.agreed
    found = rotations(search_key, white, start, sharp=pilot.sharp, polish=agreed, progress=progress)
    notes: list[str] = []
    if not train_steps:
        return found, notes
    if max(c.judgement.worst for c in found) > NO_NETWORKS:
        notes.append(
            f"no network was trained: a kernel without one gives over {NO_NETWORKS} effective draws per gradient"
        )
        return found, notes
    start_from = found[0]
    angle = float(start_from.transition.dynamics.angle)  # type: ignore[attr-defined]
    white = start_from.transition.target  # type: ignore[assignment]
    to_beat = max(c.judgement.worst for c in found)
    pool = pilot.draws.reshape(-1, pilot.draws.shape[-1]).T
    if not agreed:
        white = Whitened(white.logdensity, diagonal(pool, dtype=start.dtype))
    dim = pool.shape[0]
    for i, plan in enumerate(
        plans(
            dim=dim,
            best=start_from,
            angle=angle,
            agreed=agreed,
            step_size=pilot.step_size,
            num_steps=train_steps,
        )
    ):
        key = jax.random.fold_in(train_key, i)
        pick_key = jax.random.fold_in(train_key, 1000 + i)
        chosen = np.asarray(jax.random.choice(pick_key, pool.shape[1], (plan.num_chains,)))
        position = jnp.asarray(from_user(white, pool[:, chosen]))
        if agreed and i and found[-1].judgement.worst < 1.1 * max(c.judgement.worst for c in found[:-1]):
            notes.append(f"no {plan.name} was trained: the smaller one gained less than 10 %")
            break
        try:
            found.append(
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
    return found, notes


def _paid(candidates: list[Candidate]) -> list[Candidate]:
    """Those whose gradients count once: both rotations came out of one search."""
    return [c for c in candidates if c.name != "jittered rotation"]


def _row(candidate: Candidate, pilot: Exploration) -> Row:
    j = candidate.judgement
    return Row(
        name=candidate.name,
        num_leapfrogs=candidate.num_leapfrogs,
        ess_per_gradient=j.ess_per_gradient,
        ess_sq_per_gradient=j.ess_sq_per_gradient,
        ess_per_second=j.ess_per_second,
        acceptance_rate=j.acceptance_rate,
        rhat_max=j.rhat_max,
        fixed_gradients=pilot.num_gradients + candidate.num_gradients,
        fixed_seconds=pilot.seconds + pilot.compile_seconds + candidate.seconds + candidate.compile_seconds,
    )


def _choose(rows: list[Row], criterion: str) -> str:
    """The best by the criterion; of those within 10 % of it the first, so kernels without networks come first."""

    def score(row: Row) -> float:
        value = row.worst if criterion == "gradients" else row.ess_per_second
        return float(np.nan_to_num(value))

    top = max(score(row) for row in rows)
    return next(row.name for row in rows if score(row) >= 0.9 * top)


def _all_counted(row: Row, total: _Spent) -> Row:
    """The chosen kernel's row carries the whole search, its losers included: that is what the user paid."""
    return row._replace(fixed_gradients=total.num_gradients, fixed_seconds=total.seconds + total.compile_seconds)


def spread_out(places: np.ndarray, num: int) -> np.ndarray:
    """``num`` of the positions (dim, n): half of them as far from one another as can be, half evenly through the list.

    Farthest-first traversal in robustly scaled coordinates: a mode that any chain found is among them.
    """
    low, middle, high = np.quantile(places, [0.25, 0.5, 0.75], axis=1)
    scaled = np.arcsinh((places - middle[:, None]) / np.maximum(high - low, 1e-12 * (1 + np.abs(middle)))[:, None])
    picked = [int(np.argmin(np.sum(scaled**2, axis=0)))]
    nearest = np.sum((scaled - scaled[:, picked]) ** 2, axis=0)
    while len(picked) < min(num // 2, places.shape[1]):
        picked.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.sum((scaled - scaled[:, picked[-1:]]) ** 2, axis=0))
    evenly = np.linspace(0, places.shape[1] - 1, num - len(picked)).astype(int)
    return places[:, [*picked, *evenly]]


def _judged_again(key: Key, candidate: Candidate, places: np.ndarray) -> Candidate:
    start = jnp.asarray(from_user(candidate.transition.target, places.astype(jnp.zeros(()).dtype)))
    judgement = judge(jax.random.fold_in(key, 7), candidate.transition, start, num_draws=500)
    return candidate._replace(judgement=judgement, num_gradients=candidate.num_gradients + judgement.num_gradients)


def _sample(key: Key, kernel: AbstractTransition, start: Vector, num_draws: int) -> _Final:
    """The final run: warm-up and draws of the frozen kernel, longer and thinned while R-hat is above 1.01."""
    kernel = per_chain(kernel, start.shape[1])
    warm = draw_chains(jax.random.fold_in(key, 2), kernel, kernel.init(start), num_draws=_WARMUP, chunk_size=CHUNK)
    state, spent = warm.state, warm.num_gradients
    for i, thin in enumerate(_THINS):
        draws = draw_chains(
            jax.random.fold_in(key, 3 + i), kernel, state, num_draws=num_draws, thin=thin, chunk_size=CHUNK
        )
        judgement = judged(kernel, draws)
        if judgement.rhat_max < MAX_RHAT or not draws.completed:
            break
        if thin != _THINS[-1]:
            state, spent = draws.state, spent + draws.num_gradients
    return _Final(draws, judgement, thin, spent)


def _best_in_the_long_run(
    key: Key,
    candidates: list[Candidate],
    rows: list[Row],
    criterion: str,
    starts: np.ndarray,
    num_draws: int,
    notes: list[str],
) -> tuple[AbstractTransition, _Final, list[Row]]:
    """The final run of the best candidate; of the next one, where it does much worse than when it was measured.

    A kernel whose chains stick in a rare place looks better in a short run than it is: one that keeps less than half of
    its figure, and less than another's, gives way. Its row then says what the long run gave.
    """
    by_name = {c.name: c.transition for c in candidates}
    wasted = 0
    while True:
        own = [row for row in rows if row.name in by_name]
        name = _choose(own, criterion)
        final = _sample(key, by_name[name], jnp.asarray(from_user(by_name[name].target, starts)), num_draws)
        final = final._replace(warmup_gradients=final.warmup_gradients + wasted)
        before = next(row for row in own if row.name == name).worst
        others = [row.worst for row in own if row.name != name]
        now = final.judgement.worst
        if now >= 0.5 * before or now >= max(others, default=0.0) or not final.draws.completed:
            return by_name[name], final, rows
        notes.append(
            f"the {name} gave {before:.2g} effective draws per gradient in a short run, {now:.2g} in a long one"
        )
        j, wasted = final.judgement, final.warmup_gradients + final.draws.num_gradients
        rows = [_remeasured(row, j) if row.name == name else row for row in rows]


def _remeasured(row: Row, j: Judgement) -> Row:
    return row._replace(
        ess_per_gradient=j.ess_per_gradient,
        ess_sq_per_gradient=j.ess_sq_per_gradient,
        ess_per_second=j.ess_per_second,
        rhat_max=j.rhat_max,
    )


def _problems(draws: Draws, judgement: Judgement) -> list[str]:
    record = draws.record
    return diagnostics.health(
        record.acceptance_rate,
        record.accepted > 0,
        record.diverging > 0,
        int(record.nonfinite.sum()),
        rhat_max=judgement.rhat_max,
    )


def _nuts_problems(draws: PeerDraws) -> list[str]:
    rhat = float(np.max(diagnostics.rhat(draws.position)))
    return [] if rhat < MAX_RHAT else [f"R-hat is {rhat:.3f}, above {MAX_RHAT}: the chains have not mixed"]


def _verdict(rows: list[Row], chosen: str, problems: list[str], settings: dict[str, Any]) -> Verdict:
    grave = [text for text in problems if text.startswith(("error", "R-hat")) or "in a row" in text]
    return Verdict(tuple(rows), chosen, tuple(problems), bool(grave), settings)


def _settings(pilot: Exploration) -> dict[str, Any]:
    return {
        "pilot": {
            "windows": pilot.num_windows,
            "rhat_max": pilot.rhat_max,
            "apart": pilot.apart,
            "agreed": pilot.agreed,
            "step_size": pilot.step_size,
            "acceptance_rate": pilot.acceptance_rate,
            "num_gradients": pilot.num_gradients,
            "seconds": pilot.seconds,
            "compile_seconds": pilot.compile_seconds,
        }
    }


def _stamped(tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
    """The verdict in the tree's attributes, so that it travels with the draws."""
    found = {"verdict": verdict.recommendation(), "failed": int(verdict.failed), "sampler": verdict.chosen}
    for group in tree.children.values():
        group.attrs.update(found)
    return tree
