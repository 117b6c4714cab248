"""``fit``: one call from a log density to draws and a verdict."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import diagnostics
from .._front import as_key, prepare, to_datatree
from .._health import FITTED, MOST_DIVERGED, health, rounding
from .._judge import Judgement
from .._logdensity import AbstractLogDensity
from .._sample import Draws, health_arrays
from .._train import OnProgress, Progress
from .._transition import AbstractTransition, state_at
from .._types import Key, Vector
from .._whitening import from_user
from ..baselines import PeerDraws
from ._final import InMemory, Keeper, final_run
from ._nuts import nuts_tree
from ._reach import Missed, unreached
from ._search import Found, Spent, search, with_nuts
from ._settings import MAX_RHAT, SCOUTS, Settings
from ._verdict import INSTEAD, Row, Verdict, grave

if TYPE_CHECKING:
    import xarray


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
    train_steps: int = 3000,
    num_pilot_chains: int = 64,
    compare: bool = True,
    criterion: str = "gradients",
    progress: Callable[[Progress], None] | None = None,
    resume: Keeper | None = None,
) -> Fit:
    """Find a good kernel for ``logdensity``, say what it is worth, and draw ``num_draws`` from each of ``num_chains``.

    ``logdensity`` and ``init`` are as in `capriole.train`. A pilot of many short HMC chains, started at
    ``init + spread * N(0, I)``, finds white coordinates (three times as many scouts look for modes that few starts
    lead to); rotations in them need no networks and often suffice; a small
    and a larger network are trained from the best of them for ``train_steps`` (0: none), others with tempering where
    the pilot's chains disagree. Every candidate, and NUTS, is measured on fresh chains; the best ESS per
    gradient wins (``criterion="seconds"``: per second, for cheap log densities), its kernel is frozen, and the draws
    are its own. If NUTS is the best, the draws are NUTS's. Where a candidate gives more effective draws per gradient
    than NUTS is known to (`NUTS_AT_MOST`), NUTS is compared after the draws are there, for the verdict only;
    ``compare=False`` leaves it out.

    If chains of the final run disagree (R-hat above 1.01) or miss an end of a funnel they go on 4 and then 16 times as
    long, thinned to the same number of draws. If they still do, or chains are stuck, NUTS gets its chance unless it is
    ruled out: where its draws pass they are returned, with a note. Else the verdict says ``failed`` and why. Ctrl-C
    while the final run draws ends it: the draws that are there are returned, and the verdict says how many.

    ``resume`` keeps what is finished in a folder and goes on from it: `capriole.runs.CheckpointedFit`.
    Raises ValueError for a log density, init or number that cannot work: ``num_draws`` below 8, for R-hat, is one.
    """
    settings = Settings(num_chains, num_draws, spread, train_steps, num_pilot_chains, compare, criterion).checked()
    num_chains, num_draws, num_pilot_chains = settings.num_chains, settings.num_draws, settings.num_pilot_chains
    keeper = InMemory() if resume is None else resume
    root = as_key(seed)
    keys = [jax.random.fold_in(root, i) for i in range(6)]  # a split would be one more program to compile
    starts = {"num_chains": num_pilot_chains, "num_more": SCOUTS * num_pilot_chains}
    target, position = prepare(logdensity, init, keys[0], spread=spread, **starts)
    progress = keeper.begin(_config(seed, position, settings), position, progress)
    found = keeper.search(target, lambda: search(keys[1:5], target, position, settings, progress))
    tree, problems, figures = _drawn(keys[5], seed, target, found, num_draws, keeper, progress)
    compare &= bool(tree["posterior"].attrs["completed"])  # who pressed Ctrl-C waits for nothing more
    if compare and found.compared is None:
        found = with_nuts(keys[4], target, found)
        keeper.compared(target, found)
    if compare and found.kernel is not None and grave(problems) and not found.apart:
        instead, last, thin = nuts_tree(keys[5], target, found.starts, found.marginals, num_draws=num_draws)
        if not grave(remaining := _nuts_problems(last, thin, target, found)):
            tree, figures = instead, _figures_of_nuts(last, thin, figures)
            found, problems = _given_up(found, problems), remaining
            keeper.compared(target, found)
    figures |= {"seed": repr(seed), "criterion": criterion, "num_chains": num_chains}
    verdict = _verdict(found, problems, figures)
    return Fit(keeper.finish(_stamped(tree, verdict), verdict), verdict, found.kernel)


def _config(seed: int | Key, position: Vector, settings: Settings) -> dict[str, Any]:
    """All that the draws depend on but the log density, as plain values."""
    plain = int(seed) if isinstance(seed, int | np.integer) else np.asarray(jax.random.key_data(seed)).tolist()
    return {"seed": plain, "dim": position.shape[0], "dtype": str(position.dtype)} | settings._asdict()


def _drawn(
    key: Key,
    seed: int | Key,
    target: AbstractLogDensity,
    found: Found,
    num_draws: int,
    keeper: Keeper,
    progress: OnProgress,
) -> tuple["xarray.DataTree", list[str], dict[str, Any]]:
    """Draws of what was found, what is wrong with them, and figures of the run for the verdict."""
    if found.kernel is None:
        tree, last, thin = nuts_tree(key, target, found.starts, found.marginals, num_draws=num_draws)
        return tree, _nuts_problems(last, thin, target, found), _figures_of_nuts(last, thin, {})
    start = jnp.asarray(from_user(found.kernel.target, np.asarray(found.starts)))
    final = final_run(key, found.kernel, start, num_draws, keeper, progress, marginals=found.marginals)
    figures = {"thin": final.thin, "final": final.judgement._asdict(), "warmup_gradients": final.warmup_gradients}
    drawn = time.perf_counter()
    tree = to_datatree(final.draws, target, seed=repr(seed))
    figures["seconds_after_the_draws"] = final.check_seconds + time.perf_counter() - drawn
    problems = _problems(final.draws, final.judgement) + _errors(final.missed)
    if not final.draws.completed:
        problems.append(f"interrupted after {final.draws.record.lp.shape[1]} of {num_draws} draws per chain")
    return tree, problems, figures


def _given_up(found: Found, problems: list[str]) -> Found:
    note = f"the {found.chosen} failed in its final run and {INSTEAD}: {'; '.join(grave(problems))}"
    return found._replace(kernel=None, chosen="NUTS", decided=True, notes=(*found.notes, note))


def _figures_of_nuts(last: PeerDraws, thin: int, before: dict[str, Any]) -> dict[str, Any]:
    """Figures of NUTS's draws; all gradients of the run ``before``, which was given up, count as spent."""
    spent = before["warmup_gradients"] + before["final"]["num_gradients"] if before else 0
    return {"thin": thin, "warmup_gradients": last.warmup_gradients + spent}


def _problems(draws: Draws, judgement: Judgement) -> list[str]:
    counted = health_arrays(draws.record)
    return health(
        *counted,
        thin=draws.thin,
        logdensity=draws.record.lp,
        rhat_max=judgement.rhat_max,
        remedies=FITTED,
    )


def _errors(missed: list[Missed]) -> list[str]:
    return [f"error: {end.words}" for end in missed]


def _nuts_problems(draws: PeerDraws, thin: int, target: AbstractLogDensity, found: Found) -> list[str]:
    problems = []
    rhat = float(np.max(diagnostics.rhat(draws.position)))
    if not rhat < MAX_RHAT:
        problems.append(f"R-hat is {rhat:.3f}, above {MAX_RHAT}: the chains have not mixed")
    steps = thin * draws.position.shape[0] * draws.position.shape[1]
    if draws.divergences > MOST_DIVERGED * steps:
        problems.append(
            f"{draws.divergences} of {steps} of NUTS's transitions diverged: places of high curvature may be missed; "
            "reparameterise, or look at the pairs plot"
        )
    last = state_at(target, jnp.asarray(draws.position[:, -1].T)).logdensity
    noisy = rounding(float(jnp.mean(jnp.abs(last))), float(jnp.finfo(last.dtype).eps) / 2)
    return problems + noisy + _errors(unreached(draws.position, found.marginals))


def _verdict(found: Found, problems: list[str], figures: dict[str, Any]) -> Verdict:
    rows = found.rows
    if found.kernel is not None:
        rows = tuple(_all_counted(row, found.spent) if row.name == found.chosen else row for row in rows)
    comparison = (found.compared or Spent(0, 0.0, 0.0))._asdict() | {"decided": found.decided}
    costs = {"preparation": found.spent._asdict(), "comparison": comparison}
    settings = {"pilot": found.pilot} | figures | {"notes": list(found.notes)} | costs
    return Verdict(rows, found.chosen, tuple(problems), bool(grave(problems)), settings)


def _all_counted(row: Row, total: Spent) -> Row:
    """The chosen kernel's row carries the whole search, its losers included: that is what the user paid."""
    return row._replace(fixed_gradients=total.num_gradients, fixed_seconds=total.seconds + total.compile_seconds)


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
