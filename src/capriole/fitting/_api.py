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
from ..diagnostics import (
    FIT_REMEDIES,
    Problem,
    ProblemKind,
    ReferenceCheck,
    Severity,
    fatal,
    health,
    reference_check,
    rounding,
    sticky_tails,
)
from ..kernels import AbstractLogDensity, AbstractTransition, Key, Vector, state_at
from ..models import Model, as_model, labels, model_of, precision
from ..runtime import OnProgress, Progress, to_plain
from ..sampling import (
    CountedDraws,
    Draws,
    as_key,
    check_groups,
    complete,
    prepare,
    tally_arguments,
    to_datatree,
    to_tree,
    with_names,
)
from ._budget import Cost
from ._candidate import NUTS, KernelMetrics, SamplerReport
from ._context import NoteKind, WarmupFacts
from ._final_run import Final, InMemory, KernelSampler, NutsSampler, RunStore, run_until_mixed
from ._search import SearchResult, search, with_nuts
from ._settings import Settings
from ._thresholds import EXPLORATORY_RATIO, THRESHOLDS
from ._verdict import RATES, Verdict
from .proposers._nuts import first_line

if TYPE_CHECKING:
    import xarray


_CUT_SHORT = "interrupted in a longer run, so the draws are those of the shorter one before"
"""What is said where a longer pass was interrupted."""


class Fit(NamedTuple):
    """What `fit` returns.

    Attributes:
        tree: Draws as an ArviZ DataTree.
        verdict: What they and the kernel are worth.
        transition: The frozen kernel; None where NUTS drew.
    """

    tree: "xarray.DataTree"
    verdict: Verdict
    transition: AbstractTransition | None


def fit(
    logdensity: Callable | Model,
    init: Any = None,
    *,
    starts: Any = None,
    seed: int | Key = 0,
    num_chains: int = 16,
    num_draws: int = 1000,
    spread: float = 1.0,
    train_steps: int = 3000,
    num_warmup_chains: int = 64,
    compare: bool = True,
    criterion: str = "gradients",
    groups: Sequence[str] = (),
    progress: Callable[[Progress], None] | None = None,
    resume: RunStore | None = None,
) -> Fit:
    """Find a good kernel for ``logdensity``, say what it is worth, and draw with it.

    A warm-up of many short HMC chains finds white coordinates. Rotations in them need no networks
    and often suffice. Where they are slow, a transport map, jumps between modes, and trained
    networks are proposed. Every candidate, and NUTS, is measured on fresh chains. The best rate
    wins, its kernel is frozen, and the draws are its own. NUTS draws where it is the best.

    Chains of the final run go on 4 and then 16 times as long, thinned to the same number of draws,
    while they disagree or miss an end of a funnel. If they still do, NUTS draws where it is a
    choice. Ctrl-C while draws are made, or NUTS is compared after them, ends that: the draws
    that are there are returned, and the verdict says so.

    Args:
        logdensity: Maps one position, any pytree of arrays like ``init``, to its unnormalised log
            density, a scalar; or a model, such as `capriole.from_numpyro` makes, or a model of
            PyMC or BridgeStan; or a log density of capriole's, with starts of its own.
        init: One position. Chains start at ``init + spread * N(0, I)``. None: that of the model.
        starts: Where the chains of the warm-up start instead: a pytree like ``init`` whose arrays
            have a leading axis of chains. Fewer than chains are repeated.
        seed: A whole number or a JAX key, of everything random.
        num_chains: Chains of the final run.
        num_draws: Draws of each chain, at least 8 (R-hat needs them).
        spread: Standard deviation of the starts around ``init``, in the user's coordinates.
        train_steps: Training steps of a network; 0: no networks.
        num_warmup_chains: Chains of the warm-up.
        compare: Whether NUTS is measured, at the latest for the verdict.
        criterion: "gradients" or "seconds": per which an effective draw counts.
        groups: Of a model, what to add to the draws: "log_likelihood", "posterior_predictive".
            `capriole.complete` adds them later.
        progress: Called with every `Progress` event.
        resume: Keeps what is finished in a folder and goes on from it:
            `capriole.runs.CheckpointedFit`. Ctrl-C is then raised, and the same call goes on.

    Returns:
        Draws, verdict and kernel.

    Raises:
        ValueError: A log density, init or number that cannot work.
        ModelError: A model that cannot be sampled, or a group that it does not have.
        KeyboardInterrupt: Ctrl-C before there are draws, or in a run that can go on.
        capriole.runs.RunFolderError: The folder of ``resume`` holds another run.
        capriole.runs.CheckpointError: A stored part of that run is damaged.

    References:
        Levy, Hoffman and Sohl-Dickstein, ICLR 2018; docs/fit.md.
    """
    settings = Settings(
        num_chains, num_draws, spread, train_steps, num_warmup_chains, compare, criterion
    ).checked()
    logdensity = as_model(logdensity)
    model = logdensity if isinstance(logdensity, Model) else model_of(logdensity)
    check_groups(model, groups)
    with precision(model):
        keeper = InMemory() if resume is None else resume
        found = _fitted(logdensity, init, starts, seed, settings, keeper, progress)
    if model is None:
        return found
    tree = with_names(found.tree, model)  # names are not stored with draws on disk
    return found._replace(tree=complete(tree, model, groups=groups, seed=seed) if groups else tree)


def _fitted(
    logdensity: Callable | Model,
    init: Any,
    starts: Any,
    seed: int | Key,
    settings: Settings,
    keeper: RunStore,
    progress: OnProgress,
) -> Fit:
    """Draws, verdict and kernel."""
    root = as_key(seed)
    # A split would be one more program to compile.
    keys = [jax.random.fold_in(root, i) for i in range(6)]
    chains = settings.num_warmup_chains
    counts = {"num_chains": chains, "num_more": EXPLORATORY_RATIO * chains}
    target, position = prepare(
        logdensity, init, keys[0], spread=settings.spread, starts=starts, **counts
    )
    progress = keeper.begin(_config(seed, position, settings), position, progress)
    found = keeper.search(target, lambda: search(keys[1:5], target, position, settings, progress))
    run = _Run(keys[4:6], repr(seed), target, settings, keeper, progress)
    found, drawn = run.draw_chosen(found)
    if settings.compare and drawn.completed:  # after Ctrl-C nothing more is measured
        found, drawn = run.compared(found, drawn)
    model = model_of(target)
    for note in () if model is None else model.notes:
        found = found.with_note(NoteKind.MODEL, note)
    verdict = _verdict(found, drawn, settings, repr(seed))
    kernel = None if found.uses_nuts else found.kernel
    return Fit(keeper.finish(_stamped(drawn.tree, verdict), verdict), verdict, kernel)


def _config(seed: int | Key, position: Vector, settings: Settings) -> dict[str, Any]:
    """All that the draws depend on but the log density, as plain values."""
    is_number = isinstance(seed, int | np.integer)
    plain = int(seed) if is_number else np.asarray(jax.random.key_data(seed)).tolist()
    dim, dtype = position.shape[0], str(position.dtype)
    return {"seed": plain, "dim": dim, "dtype": dtype} | settings._asdict()


class _Drawn(NamedTuple):
    """Draws as a DataTree, what is wrong with them, and what is told of the run.

    ``spent`` went into warm-up and passes given up, before the first draw that was kept; ``run``
    into these draws.
    """

    tree: "xarray.DataTree"
    problems: tuple[Problem, ...]
    check: ReferenceCheck
    thin: int
    completed: bool
    spent: Cost
    run: Cost
    seconds_after: float = 0.0
    final: KernelMetrics | None = None
    ess_per_draw: float = math.nan


class _Run:
    """Draws of whatever is chosen, under the settings of one fit."""

    def __init__(
        self,
        keys: Sequence[Key],
        seed: str,
        target: AbstractLogDensity,
        settings: Settings,
        keeper: RunStore,
        progress: OnProgress,
    ):
        self.nuts_key, self.key = keys
        self.seed, self.target, self.settings = seed, target, settings
        self.keeper, self.progress = keeper, progress

    def draw_chosen(self, found: SearchResult) -> tuple[SearchResult, _Drawn]:
        """Draws of what was chosen; of the best candidate where NUTS was and raises an error."""
        if not found.uses_nuts or found.kernel is None:
            return found, self.draw(found)
        try:
            return found, self.draw_nuts(found)
        except Exception as error:  # the user's own log density's
            text = f"NUTS could not draw: {first_line(error)}; the {found.best_candidate} drew"
            found = found._replace(chosen=found.best_candidate)
            found = found.with_note(NoteKind.NUTS_COULD_NOT_DRAW, text)
            self.keeper.compared(self.target, found)
            return found, self.draw(found)

    def draw(self, found: SearchResult) -> _Drawn:
        """Draws of what was chosen."""
        if found.uses_nuts or found.kernel is None:
            return self.draw_nuts(found)
        start = jnp.asarray(from_user(found.kernel.target, np.asarray(found.starts)))
        sampler = KernelSampler(
            self.key,
            found.kernel,
            start,
            self.settings.num_draws,
            self.keeper,
            self.progress,
            found.marginals,
        )
        return _of_a_kernel(run_until_mixed(sampler), found, self.target, self.settings, self.seed)

    def draw_nuts(self, found: SearchResult) -> _Drawn:
        """Draws of NUTS."""
        sampler = NutsSampler(
            self.key,
            self.target,
            found.starts,
            self.settings.num_draws,
            found.marginals,
            resumable=self.keeper.resumable,
        )
        return _of_nuts(run_until_mixed(sampler), found, self.target)

    def compared(self, found: SearchResult, drawn: _Drawn) -> tuple[SearchResult, _Drawn]:
        """NUTS measured, if it was not yet; and who draws instead of a sampler that failed.

        Ctrl-C ends it: what is known then stays, with a note, or is raised in a run that can go on.
        """
        if found.compared is None:
            try:
                found = with_nuts(self.nuts_key, self.target, found)
            except KeyboardInterrupt:
                return self._interrupted(found, "interrupted while NUTS was measured"), drawn
            self.keeper.compared(self.target, found)
        if self.keeper.has_verdict or not fatal(drawn.problems):
            return found, drawn
        try:
            return self._drawn_instead(found, drawn)
        except KeyboardInterrupt:
            text = "interrupted while another sampler drew instead of the one that failed"
            return self._interrupted(found, text), drawn

    def _interrupted(self, found: SearchResult, text: str) -> SearchResult:
        if self.keeper.resumable:
            raise KeyboardInterrupt
        return found.with_note(NoteKind.INTERRUPTED, text)

    def _drawn_instead(self, found: SearchResult, drawn: _Drawn) -> tuple[SearchResult, _Drawn]:
        """Draws of a kernel instead of NUTS; of NUTS, if they pass, instead of a kernel."""
        if found.uses_nuts and found.kernel is not None:
            name = found.best_candidate
            text = f"NUTS failed in its final run and the {name} drew instead"
            found = _replaced(found, drawn, name, NoteKind.NUTS_FAILED, text)
            self.keeper.compared(self.target, found)
            return found, self.draw(found)
        if found.uses_nuts or found.warmup.is_multimodal:
            return found, drawn
        try:
            instead = self.draw_nuts(found)
        except Exception as error:  # the user's own log density's: draws must not be lost by it
            text = f"NUTS could not draw instead: {first_line(error)}"
            return found.with_note(NoteKind.NUTS_COULD_NOT_DRAW, text), drawn
        if not instead.completed:
            raise KeyboardInterrupt
        if fatal(instead.problems):
            return found, drawn
        text = f"the {found.chosen} failed in its final run and NUTS drew instead"
        found = _replaced(found, drawn, NUTS, NoteKind.NUTS_DREW_INSTEAD, text)
        found = found._replace(kernel=None, decided=True)
        self.keeper.compared(self.target, found)
        return found, instead


def _replaced(
    found: SearchResult, drawn: _Drawn, chosen: str, kind: NoteKind, text: str
) -> SearchResult:
    """Another sampler chosen instead of one whose run failed; that run is paid for."""
    why = "; ".join(map(str, fatal(drawn.problems)))
    spent = Cost.of(found.spent, drawn.spent, drawn.run)
    found = found._replace(chosen=chosen, spent=spent)
    return found.with_note(kind, f"{text}: {why}")


def _of_a_kernel(
    final: Final, found: SearchResult, target: AbstractLogDensity, settings: Settings, seed: str
) -> _Drawn:
    run, metrics = final.draws, final.metrics
    assert run is not None
    assert metrics is not None
    rate = min(metrics.ess_per_gradient, metrics.ess_sq_per_gradient)
    begun = time.perf_counter()
    tree = to_datatree(run, target, seed=seed)
    names = labels(target, final.position.shape[2])
    check = _checked(final.position, found.warmup, names)
    problems = _kernel_problems(run, metrics) + final.missed + check.problems
    problems += sticky_tails(final.position, run.record.acceptance_rate, names)
    seconds_after = final.check_seconds + time.perf_counter() - begun
    if not final.completed:
        kept, asked = run.record.lp.shape[1], settings.num_draws
        text = f"interrupted after {kept} of {asked} draws per chain"
        problems.append(_interrupted(text if kept < asked else _CUT_SHORT))
    # Of the whole run; what was measured may be the last draws that fit into memory.
    cost = Cost(run.num_gradients, run.seconds, metrics.compile_seconds)
    return _Drawn(
        tree=tree,
        problems=tuple(problems),
        check=check,
        thin=final.thin,
        completed=final.completed,
        spent=final.spent,
        run=cost,
        seconds_after=seconds_after,
        final=metrics._replace(num_gradients=run.num_gradients, seconds=run.seconds),
        ess_per_draw=rate * metrics.num_gradients / run.record.lp.size,
    )


def _of_nuts(final: Final, found: SearchResult, target: AbstractLogDensity) -> _Drawn:
    draws = final.peer
    assert draws is not None
    attributes = {
        "num_gradients": draws.num_gradients,
        "warmup_gradients": final.spent.num_gradients,
        "sampling_time": draws.seconds,
        "compile_seconds": final.spent.compile_seconds,
        "divergences": draws.divergences,
        "completed": int(final.completed),
    }
    check = _checked(final.position, found.warmup, labels(target, final.position.shape[2]))
    problems = _nuts_problems(final, draws, target, found.warmup) + check.problems
    if not final.completed:
        problems.append(_interrupted(_CUT_SHORT))
    return _Drawn(
        tree=to_tree(target, final.position, {}, attributes),
        problems=tuple(problems),
        check=check,
        thin=final.thin,
        completed=final.completed,
        spent=final.spent,
        run=Cost(draws.num_gradients, draws.seconds, 0.0),
    )


def _checked(position: np.ndarray, warmup: WarmupFacts, names: Sequence[str]) -> ReferenceCheck:
    judges_moments = not warmup.marginals
    return reference_check(
        position, warmup.moments, warmup.modes, judges_moments=judges_moments, names=names
    )


def _interrupted(text: str) -> Problem:
    return Problem(ProblemKind.INTERRUPTED, Severity.WARNING, text)


def _kernel_problems(draws: Draws, metrics: KernelMetrics) -> list[Problem]:
    return health(
        *tally_arguments(draws.record),
        thin=draws.thin,
        logdensity=draws.record.lp,
        rhat_max=metrics.rhat_max,
        rhat_limit=diagnostics.rhat_limit(*draws.record.position.shape),
        remedies=FIT_REMEDIES,
    )


def _nuts_problems(
    final: Final, draws: CountedDraws, target: AbstractLogDensity, warmup: WarmupFacts
) -> list[Problem]:
    position = final.position
    moved = np.any(np.diff(position, axis=1) != 0, axis=2)
    problems = health(
        np.full(moved.shape, draws.acceptance_rate),
        moved,
        np.zeros_like(moved),
        0,
        thin=final.thin,
        rhat_max=final.rhat_max,
        rhat_limit=diagnostics.rhat_limit(*position.shape),
        remedies=FIT_REMEDIES,
    )
    steps = final.thin * position.shape[0] * position.shape[1]
    if draws.divergences > diagnostics.THRESHOLDS.divergent_share * steps:
        text = (
            f"{draws.divergences} of {steps} of NUTS's transitions diverged: places of high "
            "curvature may be missed"
        )
        remedy = "reparameterise, or look at the pairs plot"
        problems.append(Problem(ProblemKind.DIVERGENT, Severity.WARNING, text, remedy))
    doubts = []
    if warmup.num_stuck:
        doubts.append("chains of the warm-up hardly moved where they were")
    if warmup.num_missed:
        doubts.append(
            "chains of the warm-up left places that are denser than all that they saw later"
        )
    if doubts:
        text = (
            f"{' and '.join(doubts)}: NUTS's chains, which R-hat compares with one another only, "
            "may all have left a place that holds mass"
        )
        kind, remedy = ProblemKind.WARMUP_UNRELIABLE, "start wider (spread), or reparameterise"
        problems.append(Problem(kind, Severity.FATAL, text, remedy))
    last = state_at(target, jnp.asarray(position[:, -1].T)).logdensity
    noisy = rounding(float(jnp.mean(jnp.abs(last))), float(jnp.finfo(last.dtype).eps) / 2)
    return problems + noisy + final.missed


def _verdict(found: SearchResult, drawn: _Drawn, settings: Settings, seed: str) -> Verdict:
    rows = found.rows
    if not found.uses_nuts and drawn.final is not None:
        total = Cost.of(found.spent, drawn.spent)
        rows = tuple(_as_it_was(r, total, drawn) if r.name == found.chosen else r for r in rows)
    warmup = to_plain(found.warmup._replace(moments=None, modes=()))
    plain = {
        "seed": seed,
        "criterion": settings.criterion,
        "num_chains": settings.num_chains,
        "thin": drawn.thin,
        "completed": drawn.completed,
        "ess_per_draw": drawn.ess_per_draw,
        "seconds_after_the_draws": drawn.seconds_after,
        "warmup": warmup,
        "preparation": found.spent,
        "training": found.training,
        "final_warmup": drawn.spent,
        "comparison": to_plain(found.compared or Cost()) | {"decided": found.decided},
    }
    return Verdict(
        rows=rows,
        chosen=found.chosen,
        problems=drawn.problems,
        failed=bool(fatal(drawn.problems)),
        notes=found.notes,
        is_multimodal=found.warmup.is_multimodal,
        settings=to_plain(plain),
        final=drawn.final,
        difference=drawn.check.difference,
        modes=drawn.check.modes,
    )


def _as_it_was(row: SamplerReport, total: Cost, drawn: _Drawn) -> SamplerReport:
    """The chosen kernel's row with all that the user paid before its first draw.

    Its rates are no better than those of its own run, since the best of several was lucky.
    Thinned draws have no more ESS than there are of them: if they have nearly that, they tell
    nothing of the rate.
    """
    final = drawn.final
    assert final is not None
    seconds = total.seconds + total.compile_seconds
    row = row._replace(fixed_gradients=total.num_gradients, fixed_seconds=seconds)
    if drawn.thin > 1 and not drawn.ess_per_draw < THRESHOLDS.telling_ess:
        return row
    known = [name for name in RATES if math.isfinite(getattr(final, name))]
    rates = {name: min(getattr(row, name), getattr(final, name)) for name in known}
    return row._replace(**rates, rhat_max=final.rhat_max)


def _stamped(tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
    """The verdict in the tree's attributes, so that it travels with the draws."""
    attributes = {
        "verdict": verdict.recommendation(),
        "failed": int(verdict.failed),
        "sampler": verdict.chosen,
        "warnings": "\n".join(map(str, verdict.problems)),
    }
    for group in tree.children.values():
        group.attrs.update(attributes)
    return tree
