"""``fit``: one call from a log density to draws and a verdict."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import diagnostics
from ..adaptation import expected_cost, gradient_seconds
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
)
from ..kernels import AbstractLogDensity, Key, Vector, state_at
from ..models import Model, ModelError, as_model, labels, model_of
from ..runtime import (
    OnProgress,
    Progress,
    Stop,
    begin_stage,
    check_stop,
    computes_in_precision,
    entry_point,
    is_told,
    say_note,
    telling,
    to_plain,
    watched,
)
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
from ._budget import Cost, Stage
from ._candidate import NUTS, KernelMetrics, SamplerReport
from ._context import NoteKind, WarmupFacts
from ._final_run import (
    Final,
    InMemory,
    KernelSampler,
    NutsSampler,
    RunStore,
    StoppedSampler,
    draws_per_chain,
    run_until_mixed,
)
from ._search import SearchResult, search, with_nuts
from ._settings import Settings
from ._thresholds import EXPLORATORY_RATIO, THRESHOLDS, WARMUP_DRAWS
from ._verdict import RATES, Verdict
from .proposers._nuts import first_line
from .result._fit import Fit, check_on_failure, told_of_failure

if TYPE_CHECKING:
    import xarray


_DRAWS = 1000
"""Draws of each chain where neither ``num_draws`` nor ``num_effective`` is given."""
_CUT_SHORT = "interrupted in a longer run, so the draws are those of the shorter one before"
"""What is said where a longer pass was interrupted."""


@entry_point
@computes_in_precision
def fit(
    logdensity: Callable | Model,
    init: Any = None,
    *,
    starts: Any = None,
    seed: int | Key = 0,
    num_chains: int = 16,
    num_draws: int | None = None,
    num_effective: int | None = None,
    spread: float = 1.0,
    train_steps: int = 3000,
    num_warmup_chains: int = 64,
    compare: bool | None = None,
    criterion: str = "gradients",
    precision: str = "float64",
    groups: Sequence[str] = (),
    on_failure: str = "warn",
    progress: Callable[[Progress], Any] | bool | None = None,
    time_budget: float | None = None,
    resume: RunStore | None = None,
) -> Fit:
    """Find a good kernel for ``logdensity``, say what it is worth, and draw with it.

    A warm-up of many short HMC chains finds white coordinates. Rotations in them need no networks
    and often suffice. Where they are slow, a transport map, jumps between modes, and trained
    networks are proposed. Every candidate, and NUTS, is measured on fresh chains. The best rate
    wins, its kernel is frozen, and the draws are its own. NUTS draws where it is the best.

    Chains of the final run go on 4 and then 16 times as long, thinned to the same number of draws,
    while they disagree, miss an end of a funnel or are held in a far end. If they still do, NUTS
    draws where it is a choice.

    A stop returns what is there, and the verdict says so: Ctrl-C, the end of ``time_budget``, or a
    ``progress`` that returns True, in any stage. During the search the best kernel so far draws for
    a few seconds; during the draws those that are there are returned. Compiled code runs in pieces
    of about half a second, after which a stop is heard.

    Args:
        logdensity: Maps one position, any pytree of arrays like ``init``, to its unnormalised log
            density, a scalar; or a model, such as `capriole.from_numpyro` makes, or a model of
            PyMC or BridgeStan; or a log density of capriole's, with starts of its own.
        init: One position. Chains start at ``init + spread * N(0, I)``. None: that of the model.
        starts: Where the chains of the warm-up start instead: a pytree like ``init`` whose arrays
            have a leading axis of chains. Fewer than chains are repeated.
        seed: A whole number or a JAX key, of everything random.
        num_chains: Chains of the final run, at least 2 (R-hat compares them).
        num_draws: Draws of each chain, at least 8 (R-hat needs them); 1,000 by default.
        num_effective: Effective draws instead, of x and of x^2 in the worst dimension. `fit` then
            takes the shortest way to them: a short warm-up and one rotation, where their draws look
            simple, else the whole search.
        spread: Standard deviation of the starts around ``init``, in the user's coordinates.
        train_steps: Training steps of a network; 0: no networks.
        num_warmup_chains: Chains of the warm-up.
        compare: Whether NUTS is measured, at the latest for the verdict. None: unless effective
            draws are asked for, which NUTS's measurement would cost several times.
        criterion: "gradients" or "seconds": per which an effective draw counts.
        precision: "float64" or "float32", of all numbers and of the kernel. JAX's setting
            ``jax_enable_x64`` does not matter and does not change.
        groups: Of a model, what to add to the draws: "log_likelihood", "posterior_predictive".
            `capriole.complete` adds them later.
        on_failure: What to do where the verdict is *failed*: "warn" (a `FitFailedWarning` that
            names the first problem; the log repeats it), "raise" or "ignore".
        progress: Called with every `Progress` event; it may return True to stop. None: a bar where
            stderr is a terminal, or in a notebook; False: nothing; True: a bar.
        time_budget: Seconds for everything; None: no limit. Warm-up and search have 70 % of them.
        resume: Keeps what is finished in a folder and goes on from it:
            `capriole.runs.CheckpointedFit`. A stop is then raised, and the same call goes on.

    Returns:
        Draws, verdict and kernel.

    Raises:
        ValueError: A log density, init or number that cannot work.
        ModelError: A model that cannot be sampled, or a group that it does not have.
        FitFailedError: The verdict is *failed*, and ``on_failure`` is "raise".
        KeyboardInterrupt: A stop before the first window of the warm-up was whole, or in a run that
            can go on.
        TimeoutError: ``time_budget`` ended before the first window of the warm-up was whole.
        capriole.runs.RunFolderError: The folder of ``resume`` holds another run.
        capriole.runs.CheckpointError: A stored part of that run is damaged.

    References:
        Levy, Hoffman and Sohl-Dickstein, ICLR 2018; docs/fit.md.
    """
    check_on_failure(on_failure)
    if num_draws is not None and num_effective is not None:
        raise ValueError(
            f"num_effective={num_effective!r:.20} and num_draws={num_draws!r:.20} were both given: "
            "ask for effective draws or for draws of each chain"
        )
    settings = Settings(
        num_chains=num_chains,
        num_draws=_DRAWS if num_draws is None else num_draws,
        spread=spread,
        train_steps=train_steps,
        num_warmup_chains=num_warmup_chains,
        compare=num_effective is None if compare is None else compare,
        criterion=criterion,
        num_effective=num_effective,
    ).checked()
    logdensity = as_model(logdensity)
    model = logdensity if isinstance(logdensity, Model) else model_of(logdensity)
    check_groups(model, groups)
    if model is not None and model.double and precision == "float32":
        raise ModelError(f"a model of {model.library} needs float64: leave out precision")
    keeper = InMemory() if resume is None else resume
    root = as_key(seed)
    # A split would be one more program to compile.
    keys = [jax.random.fold_in(root, i) for i in range(6)]
    chains = settings.num_warmup_chains
    counts = {"num_chains": chains, "num_more": EXPLORATORY_RATIO * chains}
    with watched(progress, time_budget) as (stop, bar):
        show = _heeded(stop, bar, keeper)
        target, position = prepare(
            logdensity, init, keys[0], spread=settings.spread, starts=starts, **counts
        )
        with telling(keeper.begin(_config(seed, position, settings), position, show)) as progress:
            found = _searched(stop, keys, target, position, settings, keeper, progress)
            run = _Run(keys[4:6], repr(seed), target, settings, keeper, progress)
            found, drawn = run.draw_chosen(found)
            if found.is_direct and run.may_search_again(drawn):
                found = _searched_again(keys[1:5], found, drawn, target, position, run)
                found, drawn = run.draw_chosen(found)
            in_need = settings.num_effective is not None and fatal(drawn.problems)
            # After a stop nothing more is measured.
            if drawn.completed and (settings.compare or in_need):
                found, drawn = run.compared(found, drawn)
    for note in () if model is None else model.notes:
        found = found.with_note(NoteKind.MODEL, note)
    verdict = _verdict(found, drawn, settings, repr(seed))
    kernel = None if found.uses_nuts else found.kernel
    tree = keeper.finish(_stamped(drawn.tree, verdict), verdict)
    if model is not None:
        tree = with_names(tree, model)  # names are not stored with draws on disk
        tree = complete(tree, model, groups=groups, seed=seed) if groups else tree
    return told_of_failure(Fit(tree, verdict, kernel), on_failure)


def _searched_again(
    keys: Sequence[Key],
    found: SearchResult,
    drawn: "_Drawn",
    target: AbstractLogDensity,
    position: Vector,
    run: "_Run",
) -> SearchResult:
    """The whole search, where draws of the direct way did not pass; those are paid for."""
    whole = run.settings._replace(num_effective=None)
    again = search(keys, target, position, whole, run.progress)
    why = "; ".join(map(str, fatal(drawn.problems)))
    again = again._replace(spent=Cost.of(again.spent, found.spent, drawn.spent, drawn.run))
    again = again.with_note(NoteKind.NOT_DIRECT, f"draws of the direct way did not pass: {why}")
    return run.keeper.searched_again(target, again)


def _heeded(stop: Stop, show: OnProgress, keeper: RunStore) -> OnProgress:
    """The callback, which stops the fit by returning True; told that the checks begin."""
    if show is None:
        return None

    def heeded(event: Progress) -> None:
        if show(event) is True:
            stop.request()
        check_stop()

    # A run that can go on must have its folder before it is stopped.
    with suppress(*[KeyboardInterrupt] * keeper.resumable):
        heeded(Progress("checks", 0, 0, 0.0, {}))
    return heeded


def _searched(
    stop: Stop,
    keys: Sequence[Key],
    target: AbstractLogDensity,
    position: Vector,
    settings: Settings,
    keeper: RunStore,
    progress: OnProgress,
) -> SearchResult:
    """What the search finds, or found before; it has a share of the time budget."""
    budget = stop.time_budget
    options: dict[str, Any] = {} if keeper.resumable else {"partial": True}

    def find() -> SearchResult:
        _say_cost(target, position, settings)
        return search(keys[1:5], target, position, settings, progress, **options)

    if keeper.resumable:
        return keeper.search(target, find)
    share = None if budget is None else max(THRESHOLDS.search_share * budget - stop.seconds, 1e-3)
    with Stop(time_budget=share, signals=()) as inner:
        try:
            return keeper.search(target, find)
        except KeyboardInterrupt as error:
            nothing = "before the first window of the warm-up was whole: nothing is there"
            if inner.out_of_time or stop.out_of_time:
                raise TimeoutError(f"time_budget={budget:g} s ended {nothing}; give more") from None
            raise KeyboardInterrupt(*(error.args or (f"stopped {nothing}",))) from None


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

    def may_search_again(self, drawn: _Drawn) -> bool:
        """Whether draws of the direct way did not pass, so that the whole search is due."""
        failed = drawn.completed and bool(fatal(drawn.problems))
        return failed and not self.keeper.has_verdict

    def draw_chosen(self, found: SearchResult) -> tuple[SearchResult, _Drawn]:
        """Draws of what was chosen; after a stop as many as take a few seconds."""
        try:
            check_stop()
            return self._draw_or_replace(found)
        except KeyboardInterrupt:
            if self.keeper.resumable or found.kernel is None:
                raise
        found = found._replace(chosen=found.best_candidate)
        with Stop(alone=True, signals=()):
            return found, self.draw(found, StoppedSampler)

    def _draw_or_replace(self, found: SearchResult) -> tuple[SearchResult, _Drawn]:
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

    def draw(self, found: SearchResult, kind: type[KernelSampler] = KernelSampler) -> _Drawn:
        """Draws of what was chosen."""
        if found.uses_nuts or found.kernel is None:
            return self.draw_nuts(found)
        start = jnp.asarray(from_user(found.kernel.target, np.asarray(found.starts)))
        sampler = kind(
            self.key,
            found.kernel,
            start,
            draws_per_chain(found, self.settings),
            self.keeper,
            self.progress,
            found.marginals,
            num_warmup=0 if found.is_direct else WARMUP_DRAWS,
            num_effective=self.settings.num_effective,
            is_multimodal=found.warmup.is_multimodal,
        )
        final = run_until_mixed(sampler, self.settings.num_effective or 0)
        return _of_a_kernel(final, found, self.target, self.settings, self.seed)

    def draw_nuts(self, found: SearchResult) -> _Drawn:
        """Draws of NUTS."""
        sampler = NutsSampler(
            self.key,
            self.target,
            found.starts,
            draws_per_chain(found, self.settings),
            found.marginals,
            is_multimodal=found.warmup.is_multimodal,
            resumable=self.keeper.resumable,
        )
        final = run_until_mixed(sampler, self.settings.num_effective or 0)
        return _of_nuts(final, found, self.target, self.settings.num_effective)

    def compared(self, found: SearchResult, drawn: _Drawn) -> tuple[SearchResult, _Drawn]:
        """NUTS measured, if it was not yet; and who draws instead of a sampler that failed.

        Ctrl-C ends it: what is known then stays, with a note, or is raised in a run that can go on.
        """
        if found.compared is None:
            try:
                begin_stage("compare with NUTS")
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
    given_up = Cost.of(drawn.spent, drawn.run)
    stages = (*found.stages, Stage("draws that were given up", given_up))
    spent = Cost.of(found.spent, given_up)
    found = found._replace(chosen=chosen, spent=spent, stages=stages)
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
    problems += _too_few(final, settings.num_effective)
    seconds_after = final.check_seconds + time.perf_counter() - begun
    if not final.completed:
        kept, asked = run.record.lp.shape[1], draws_per_chain(found, settings)
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


def _of_nuts(
    final: Final,
    found: SearchResult,
    target: AbstractLogDensity,
    num_effective: int | None = None,
) -> _Drawn:
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
    problems += _too_few(final, num_effective)
    if not final.completed:
        text = f"interrupted after {final.position.shape[1]} draws per chain"
        problems.append(_interrupted(_CUT_SHORT if draws.completed else text))
    return _Drawn(
        tree=to_tree(target, final.position, {}, attributes),
        problems=tuple(problems),
        check=check,
        thin=final.thin,
        completed=final.completed,
        spent=final.spent,
        run=Cost(draws.num_gradients, draws.seconds, 0.0),
    )


def _say_cost(target: AbstractLogDensity, position: Vector, settings: Settings) -> None:
    """Say what gradients cost and what the search may take, if somebody hears it."""
    if is_told():
        chains = settings.num_warmup_chains
        seconds = gradient_seconds(target, jnp.asarray(np.asarray(position)[:, :chains]))
        say_note(expected_cost(seconds, chains, EXPLORATORY_RATIO * chains))


def _checked(position: np.ndarray, warmup: WarmupFacts, names: Sequence[str]) -> ReferenceCheck:
    judges_moments = not warmup.marginals
    return reference_check(
        position, warmup.moments, warmup.modes, judges_moments=judges_moments, names=names
    )


def _too_few(final: Final, num_effective: int | None) -> list[Problem]:
    """A warning where there are fewer effective draws than were asked for."""
    asked = num_effective or 0
    if not final.completed or final.effective_draws >= asked:
        return []
    text = f"{final.effective_draws:.0f} of {asked} effective draws in the worst dimension"
    remedy = "draw more: extend the run, or ask for more effective draws"
    return [Problem(ProblemKind.TOO_FEW, Severity.WARNING, text, remedy)]


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
    warmup = to_plain(found.warmup._replace(moments=None, modes=(), search=None))
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
        stages=(
            *found.stages,
            Stage("warm-up of the draws", drawn.spent),
            Stage("draws", drawn.run),
        ),
        search=found.warmup.search,
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
        "verdict": verdict.recommendation,
        "failed": int(verdict.failed),
        "sampler": verdict.chosen,
        "warnings": "\n".join(map(str, verdict.problems)),
    }
    for group in tree.children.values():
        group.attrs.update(attributes)
    return tree
