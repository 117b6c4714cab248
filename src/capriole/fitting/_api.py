"""``fit``: one call from a log density to draws and a verdict."""

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import diagnostics
from ..coordinates import from_user
from ..diagnostics import FITTED, MOST_DIVERGED, health, rounding
from ..kernels import AbstractLogDensity, AbstractTransition, Key, Vector, state_at
from ..runtime import OnProgress, Progress
from ..sampling import Draws, PeerDraws, as_key, health_arrays, prepare, to_datatree
from ._evaluation import Judgement
from ._final_run import InMemory, Keeper, final_run
from ._reference_check import held_far_out, seen
from ._search import Found, Spent, search, with_nuts
from ._settings import SCOUTS, Settings
from ._tail_coverage import Missed, unreached
from ._verdict import INSTEAD, NUTS, NUTS_FAILED, RATES, Row, Verdict, grave
from .proposers._nuts import in_short, nuts_tree

if TYPE_CHECKING:
    import xarray


_LEFT_OUT = "interrupted while NUTS was measured or drew, so it is left out"
_DOUBTS = (
    ("num_frozen", "chains of the pilot hardly moved where they were"),
    ("num_left", "chains of the pilot left places that are denser than all that they saw later"),
)
_TELLING = 0.8
"""Share of thinned draws that are effective below which the run says what the kernel's rate is."""
_CUT_SHORT = "interrupted in a longer run, so the draws are those of the shorter one before"


class Fit(NamedTuple):
    """Draws as an ArviZ DataTree, the `Verdict`, and the frozen kernel (None where the verdict
    chose NUTS).
    """

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
    train_steps: int = 3000,
    num_pilot_chains: int = 64,
    compare: bool = True,
    criterion: str = "gradients",
    progress: Callable[[Progress], None] | None = None,
    resume: Keeper | None = None,
) -> Fit:
    """Find a good kernel for ``logdensity``, say what it is worth, and draw ``num_draws`` from each
    of ``num_chains``.

    ``logdensity`` and ``init`` are as in `capriole.train`. A pilot of many short HMC chains,
    started at ``init + spread * N(0, I)``, finds white coordinates (three times as many scouts look
    for modes that few starts lead to); rotations in them need no networks and often suffice; a
    small and a larger network are trained from the best of them for ``train_steps`` (0: none).
    Where the pilot's chains disagree, maxima are climbed to and jumped between; else networks are
    trained with tempering. Every candidate, and NUTS, is measured on fresh chains; the best ESS per
    gradient wins (``criterion="seconds"``: per second, for cheap log densities), its kernel is
    frozen, and the draws are its own. If NUTS is the best, the draws are NUTS's; if those fail, the
    best candidate's. Where a candidate gives more effective draws per gradient than NUTS is known
    to (`NUTS_AT_MOST`), NUTS is compared after the draws are there, for the verdict only;
    ``compare=False`` leaves it out.

    If chains of the final run disagree (R-hat above `diagnostics.rhat_limit`, 1.01 unless draws are
    few) or miss an end of a funnel they go on 4 and then 16 times as long, thinned to the same
    number of draws. If they still do, or chains are stuck, NUTS gets its chance unless it is ruled
    out: where its draws pass they are returned, with a note. Else the verdict says ``failed`` and
    why. Ctrl-C while the final run draws, or NUTS is compared after it, ends that: the draws that
    are there are returned, and the verdict says so. With ``resume`` it is raised, and the same call
    goes on.

    ``resume`` keeps what is finished in a folder and goes on from it:
    `capriole.runs.CheckpointedFit`. Raises ValueError for a log density, init or number that cannot
    work: ``num_draws`` below 8, for R-hat, is one.
    """
    settings = Settings(
        num_chains, num_draws, spread, train_steps, num_pilot_chains, compare, criterion
    ).checked()
    num_chains, num_draws, num_pilot_chains = (
        settings.num_chains,
        settings.num_draws,
        settings.num_pilot_chains,
    )
    keeper = InMemory() if resume is None else resume
    root = as_key(seed)
    keys = [
        jax.random.fold_in(root, i) for i in range(6)
    ]  # a split would be one more program to compile
    starts = {"num_chains": num_pilot_chains, "num_more": SCOUTS * num_pilot_chains}
    target, position = prepare(logdensity, init, keys[0], spread=spread, **starts)
    progress = keeper.begin(_config(seed, position, settings), position, progress)
    found = keeper.search(target, lambda: search(keys[1:5], target, position, settings, progress))

    def draw(found: Found) -> _Drawn:
        return _drawn(keys[5], seed, target, found, num_draws, keeper, progress)

    drawn = draw(found)
    if compare and drawn.figures["completed"]:  # who pressed Ctrl-C waits for nothing more
        try:
            found, drawn = _compared(keys[4:6], target, found, drawn, num_draws, keeper, draw)
        except KeyboardInterrupt:
            if keeper.resumable:
                raise
            found = found._replace(notes=(*found.notes, _LEFT_OUT))
    figures = drawn.figures | {"seed": repr(seed), "criterion": criterion, "num_chains": num_chains}
    verdict = _verdict(found, drawn._replace(figures=figures))
    kernel = None if found.by_nuts else found.kernel
    return Fit(keeper.finish(_stamped(drawn.tree, verdict), verdict), verdict, kernel)


class _Drawn(NamedTuple):
    """Draws as a DataTree, what is wrong with them, figures of the run for the verdict, and what
    was ``spent`` on warm-up and passes given up, before the first draw that was kept.
    """

    tree: "xarray.DataTree"
    problems: list[str]
    figures: dict[str, Any]
    spent: Spent


def _compared(
    keys: Sequence[Key],
    target: AbstractLogDensity,
    found: Found,
    drawn: _Drawn,
    num_draws: int,
    keeper: Keeper,
    draw: Callable[[Found], _Drawn],
) -> tuple[Found, _Drawn]:
    """NUTS measured, if it was not yet; and its draws instead of a kernel's that failed, if they
    pass; and a kernel's instead of those of NUTS, if it was chosen and failed.
    """
    if found.compared is None:
        found = with_nuts(keys[0], target, found)
        keeper.compared(target, found)
    if keeper.judged or not grave(drawn.problems):
        return found, drawn
    if found.by_nuts and found.kernel is not None:
        found = _stands_by(found, drawn)
        keeper.compared(target, found)
        return found, draw(found)
    if found.by_nuts or found.apart:
        return found, drawn
    try:
        instead = _nuts_drawn(keys[1], target, found, num_draws)
    except (
        Exception
    ) as error:  # the user's own log density's, so any: draws that are there must not be lost by it
        return found._replace(
            notes=(*found.notes, f"NUTS could not draw instead: {in_short(error)}")
        ), drawn
    if grave(instead.problems):
        return found, drawn
    found = _given_up(found, drawn)
    keeper.compared(target, found)
    return found, instead


def _config(seed: int | Key, position: Vector, settings: Settings) -> dict[str, Any]:
    """All that the draws depend on but the log density, as plain values."""
    plain = (
        int(seed)
        if isinstance(seed, int | np.integer)
        else np.asarray(jax.random.key_data(seed)).tolist()
    )
    return {
        "seed": plain,
        "dim": position.shape[0],
        "dtype": str(position.dtype),
    } | settings._asdict()


def _drawn(
    key: Key,
    seed: int | Key,
    target: AbstractLogDensity,
    found: Found,
    num_draws: int,
    keeper: Keeper,
    progress: OnProgress,
) -> _Drawn:
    """Draws of what was chosen."""
    if found.by_nuts or found.kernel is None:
        return _nuts_drawn(key, target, found, num_draws)
    start = jnp.asarray(from_user(found.kernel.target, np.asarray(found.starts)))
    final = final_run(
        key, found.kernel, start, num_draws, keeper, progress, marginals=found.marginals
    )
    judgement, run = final.judgement, final.draws
    measured = (
        min(judgement.ess_per_gradient, judgement.ess_sq_per_gradient) * judgement.num_gradients
    )
    costs = {
        "num_gradients": run.num_gradients,
        "seconds": run.seconds,
    }  # of all; measured may be the last that fit
    figures = {
        "thin": final.thin,
        "ess_per_draw": measured / run.record.lp.size,
        "final": judgement._asdict() | costs,
    }
    drawn = time.perf_counter()
    tree = to_datatree(final.draws, target, seed=repr(seed))
    figures["completed"] = final.completed
    beside = seen(final.draws.record.position, found.pilot)
    figures |= {"against_pilot": beside.against_pilot, "modes": beside.modes}
    problems = _problems(run, judgement) + _errors(final.missed) + beside.problems
    problems += held_far_out(run.record.position, run.record.acceptance_rate)
    figures["seconds_after_the_draws"] = final.check_seconds + time.perf_counter() - drawn
    if not final.completed:
        kept = final.draws.record.lp.shape[1]
        problems.append(
            f"interrupted after {kept} of {num_draws} draws per chain"
            if kept < num_draws
            else _CUT_SHORT
        )
    return _Drawn(tree, problems, figures, final.spent)


def _nuts_drawn(key: Key, target: AbstractLogDensity, found: Found, num_draws: int) -> _Drawn:
    tree, last, thin = nuts_tree(key, target, found.starts, found.marginals, num_draws=num_draws)
    beside = seen(last.position, found.pilot)
    figures: dict[str, Any] = {"thin": thin, "completed": True}
    figures |= {"against_pilot": beside.against_pilot, "modes": beside.modes}
    problems = _nuts_problems(last, thin, target, found) + beside.problems
    return _Drawn(
        tree,
        problems,
        figures,
        Spent(last.warmup_gradients, last.warmup_seconds, last.compile_seconds),
    )


def _given_up(found: Found, drawn: _Drawn) -> Found:
    """NUTS chosen instead of a kernel whose run ``drawn`` failed; what that run took is part of the
    preparation.
    """
    note = f"the {found.chosen} failed in its final run and {INSTEAD}: {'; '.join(grave(drawn.problems))}"
    final = Spent(*(drawn.figures["final"][name] for name in Spent._fields))
    spent = Spent.of(found.spent, drawn.spent, final)
    return found._replace(
        kernel=None, chosen=NUTS, decided=True, notes=(*found.notes, note), spent=spent
    )


def _stands_by(found: Found, drawn: _Drawn) -> Found:
    """The best candidate chosen instead of NUTS, whose run ``drawn`` failed and is paid for."""
    note = f"{NUTS_FAILED} and the {found.own} drew instead: {'; '.join(grave(drawn.problems))}"
    run = drawn.tree["posterior"].attrs
    spent = Spent(run["num_gradients"], run["sampling_time"], 0.0)
    spent = Spent.of(found.spent, drawn.spent, spent)
    return found._replace(chosen=found.own, notes=(*found.notes, note), spent=spent)


def _problems(draws: Draws, judgement: Judgement) -> list[str]:
    counted = health_arrays(draws.record)
    return health(
        *counted,
        thin=draws.thin,
        logdensity=draws.record.lp,
        rhat_max=judgement.rhat_max,
        rhat_limit=diagnostics.rhat_limit(*draws.record.position.shape),
        remedies=FITTED,
    )


def _errors(missed: list[Missed]) -> list[str]:
    return [f"error: {end.words}" for end in missed]


def _nuts_problems(
    draws: PeerDraws, thin: int, target: AbstractLogDensity, found: Found
) -> list[str]:
    problems = []
    rhat = float(np.max(diagnostics.rhat(draws.position)))
    if not rhat <= (limit := diagnostics.rhat_limit(*draws.position.shape)):
        problems.append(f"R-hat is {rhat:.3f}, above {limit:.3g}: the chains have not mixed")
    moved = np.any(np.diff(draws.position, axis=1) != 0, axis=2)
    rates = np.full(moved.shape, draws.acceptance_rate)
    problems += health(rates, moved, np.zeros_like(moved), 0, thin=thin, remedies=FITTED)
    steps = thin * draws.position.shape[0] * draws.position.shape[1]
    if draws.divergences > MOST_DIVERGED * steps:
        problems.append(
            f"{draws.divergences} of {steps} of NUTS's transitions diverged: places of high "
            "curvature may be missed; "
            "reparameterise, or look at the pairs plot"
        )
    if doubt := [text for name, text in _DOUBTS if found.pilot.get(name)]:
        problems.append(
            f"error: {' and '.join(doubt)}: NUTS's chains, which R-hat compares with one another "
            "only, may all have "
            "left a place that holds mass; start wider (spread), or reparameterise"
        )
    last = state_at(target, jnp.asarray(draws.position[:, -1].T)).logdensity
    noisy = rounding(float(jnp.mean(jnp.abs(last))), float(jnp.finfo(last.dtype).eps) / 2)
    return problems + noisy + _errors(unreached(draws.position, found.marginals))


def _verdict(found: Found, drawn: _Drawn) -> Verdict:
    rows = found.rows
    if not found.by_nuts:
        total = Spent.of(found.spent, drawn.spent)
        rows = tuple(
            _as_it_was(row, total, drawn.figures) if row.name == found.chosen else row
            for row in rows
        )
    nothing = Spent(0, 0.0, 0.0)
    costs = {
        "preparation": found.spent._asdict(),
        "training": found.pilot.get("training", nothing._asdict()),
        "warmup": drawn.spent._asdict(),
        "comparison": (found.compared or nothing)._asdict() | {"decided": found.decided},
    }
    pilot = {
        name: value
        for name, value in found.pilot.items()
        if name not in ("moments", "modes", "training")
    }
    settings = {"pilot": pilot} | drawn.figures | {"notes": list(found.notes)} | costs
    return Verdict(rows, found.chosen, tuple(drawn.problems), bool(grave(drawn.problems)), settings)


def _as_it_was(row: Row, total: Spent, figures: dict[str, Any]) -> Row:
    """The chosen kernel's row with all that the user paid before its first draw, losers and warm-up
    included.

    And no better than its own run: who wins was lucky in what won. Thinned draws have no more ESS
    than there are of them: if they have nearly that, they tell nothing of the rate.
    """
    final = figures["final"]
    row = row._replace(
        fixed_gradients=total.num_gradients, fixed_seconds=total.seconds + total.compile_seconds
    )
    if figures["thin"] > 1 and not figures["ess_per_draw"] < _TELLING:
        return row
    rates = {
        name: min(getattr(row, name), final[name]) for name in RATES if math.isfinite(final[name])
    }
    return row._replace(**rates, rhat_max=final["rhat_max"])


def _stamped(tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
    """The verdict in the tree's attributes, so that it travels with the draws."""
    found = {
        "verdict": verdict.recommendation(),
        "failed": int(verdict.failed),
        "sampler": verdict.chosen,
        "warnings": "\n".join(verdict.problems),
    }
    for group in tree.children.values():
        group.attrs.update(found)
    return tree
