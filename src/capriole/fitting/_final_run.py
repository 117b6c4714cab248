"""The final run of `fit`: draws of what was chosen, longer while chains disagree or miss an end."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from .. import diagnostics
from ..adaptation import CHUNK, start_state
from ..coordinates import draws_and_lp_to_user, users
from ..diagnostics import Marginal, Problem, rhat_limit, sticky_tails, tail_problems
from ..kernels import AbstractLogDensity, AbstractTransition, ChainState, Key, Vector, per_chain
from ..models import labels
from ..runtime import CompileClock, OnProgress, Progress, begin_stage
from ..sampling import CountedDraws, Draws, Record, draw_chains
from ._budget import Cost
from ._candidate import KernelMetrics
from ._evaluation import metrics_of
from ._search import SearchResult
from ._settings import Settings
from ._thresholds import DIRECT, LEAST_DRAWS, RUN_MULTIPLIERS, THRESHOLDS, WARMUP_DRAWS
from ._verdict import Verdict
from .proposers._nuts import TARGET_ACCEPTANCES, draw_nuts

if TYPE_CHECKING:
    import xarray

_NUTS_LEAPFROGS = 8
"""Leapfrogs that a draw of NUTS is taken to have where its number of draws is chosen."""
_FEWEST = 50
"""Draws of each chain at least: R-hat and ESS of fewer say little."""
_MOST_NUMBERS = 2e8
"""Numbers of NUTS's draws, before they are thinned, that must fit into memory."""


class PassState(NamedTuple):
    """Where the final run of a kernel is.

    Attributes:
        round: Which of `RUN_MULTIPLIERS` the pass has.
        state: The state that it starts at.
        spent: What went into the warm-up and the passes that were given up.
        settled: Whether this pass is the one to keep.
    """

    round: int
    state: ChainState
    spent: Cost
    settled: bool = False


class Final(NamedTuple):
    """The pass that was kept.

    Attributes:
        position: Draws (chains, draws, dim) in the user's coordinates.
        rhat_max: R-hat of the worst dimension.
        missed: Ends of known marginals that the draws miss, and far ends that hold the chains.
        thin: Steps between two draws.
        spent: What went before it: warm-up, and passes that were given up.
        check_seconds: Seconds that judging it took.
        completed: False if it, or one after it, was interrupted.
        draws: The kernel's draws with their statistics; None of NUTS.
        metrics: What the kernel achieved in them; None of NUTS.
        peer: NUTS's draws; None of a kernel.
    """

    position: np.ndarray
    rhat_max: float
    missed: list[Problem]
    thin: int
    spent: Cost
    check_seconds: float
    completed: bool
    draws: Draws | None = None
    metrics: KernelMetrics | None = None
    peer: CountedDraws | None = None

    @property
    def num_steps(self) -> int:
        """Transitions of each chain."""
        return self.thin * self.position.shape[1]

    @property
    def effective_draws(self) -> float:
        """Effective draws in the worst dimension, of x or of x^2; 0 where that is not defined."""
        if self.metrics is not None:
            return self.metrics.worst * self.metrics.num_gradients
        found = np.min(
            [diagnostics.bulk_ess(self.position), diagnostics.bulk_ess_sq(self.position)]
        )
        return float(np.nan_to_num(found))

    @property
    def is_enough(self) -> bool:
        """Whether chains have mixed, and no end is missed or holds them."""
        return self.rhat_max <= rhat_limit(*self.position.shape) and not self.missed


class Sampler(Protocol):
    """Who draws in a final run, pass by pass: a frozen kernel, or NUTS."""

    def run(self) -> Final:
        """The draws of the current pass."""

    @property
    def is_last(self) -> bool:
        """Whether the current pass is the last one."""

    @property
    def resumable(self) -> bool:
        """Whether a run that is interrupted can go on."""

    def lengthen(self, before: Final) -> None:
        """Make the next, longer pass the current one."""

    def settle(self) -> None:
        """Called once the current pass is the one to keep."""


def run_until_mixed(sampler: Sampler, num_effective: float = 0.0) -> Final:
    """Draws of ``sampler``, in longer passes while its chains disagree or miss an end.

    What few excursions say of an end, more of them say better. Where a longer pass is interrupted
    before it has as many steps as the one before, that one is returned.

    Args:
        sampler: Who draws.
        num_effective: Effective draws below which a pass is too short, too.

    Returns:
        The pass that is kept.

    Raises:
        KeyboardInterrupt: The first pass was interrupted, or a run that can go on later.
    """
    before = None
    while True:
        try:
            now = sampler.run()
        except KeyboardInterrupt:
            if sampler.resumable or before is None:
                raise
            return before._replace(completed=False)
        if before is not None and not now.completed and now.num_steps < before.num_steps:
            return before._replace(completed=False)
        enough = now.is_enough and now.effective_draws >= num_effective
        if sampler.is_last or not now.completed or enough:
            sampler.settle()
            return now
        sampler.lengthen(now)
        before = now


class RunStore(Protocol):
    """Who keeps what `fit` has finished: `InMemory`, or `capriole.runs.CheckpointedFit`.

    Attributes:
        resumable: Whether a run that is interrupted can go on. If not, it ends with what is there.
        has_verdict: Whether the kernel's draws have had a verdict before. They are then not
            replaced by NUTS's, whatever more of them show.
    """

    resumable: bool

    @property
    def has_verdict(self) -> bool:
        """Whether the kernel's draws have had a verdict before."""

    def begin(self, config: dict[str, Any], position: Vector, progress: OnProgress) -> OnProgress:
        """Called first, with all that the draws depend on and starting positions; returns the
        callback to use.
        """

    def search(self, target: AbstractLogDensity, find: Callable[[], SearchResult]) -> SearchResult:
        """What ``find`` finds, or found before."""

    def searched_again(self, target: AbstractLogDensity, found: SearchResult) -> SearchResult:
        """What a second search found, where draws of the direct way did not pass."""

    def compared(self, target: AbstractLogDensity, found: SearchResult) -> None:
        """Told what the search found once NUTS was measured afterwards."""

    def point(
        self, kernel: AbstractTransition, start: Vector, warm_up: Callable[[], PassState]
    ) -> PassState:
        """Where the final run goes on; ``warm_up`` makes its beginning."""

    def reached(self, point: PassState) -> None:
        """Told of every further point."""

    def draws(
        self,
        point: PassState,
        key: Key,
        kernel: AbstractTransition,
        *,
        num_draws: int,
        progress: OnProgress,
    ) -> Draws:
        """The draws of the pass at ``point``, positions in the user's coordinates."""

    def finish(self, tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
        """Called last; the draws as they are handed to the user."""


class InMemory:
    """Nothing outlives the call."""

    resumable, has_verdict = False, False
    before: tuple[PassState, Draws] | None = None

    def begin(self, config: dict[str, Any], position: Vector, progress: OnProgress) -> OnProgress:
        """Nothing to prepare."""
        return progress

    def search(self, target: AbstractLogDensity, find: Callable[[], SearchResult]) -> SearchResult:
        """Search."""
        return find()

    def searched_again(self, target: AbstractLogDensity, found: SearchResult) -> SearchResult:
        """What was found."""
        return found

    def compared(self, target: AbstractLogDensity, found: SearchResult) -> None:
        """Nothing to keep."""

    def point(
        self, kernel: AbstractTransition, start: Vector, warm_up: Callable[[], PassState]
    ) -> PassState:
        """The beginning."""
        return warm_up()

    def reached(self, point: PassState) -> None:
        """Nothing to keep."""

    def draws(
        self,
        point: PassState,
        key: Key,
        kernel: AbstractTransition,
        *,
        num_draws: int,
        progress: OnProgress,
    ) -> Draws:
        """Draw; a pass that was drawn before is gone on with."""
        thin = RUN_MULTIPLIERS[point.round]
        before = self.before[1] if self.before is not None and self.before[0] is point else None
        done = 0 if before is None else before.record.lp.shape[1]
        draws = draw_chains(
            key,
            kernel,
            point.state if before is None else before.state,
            num_draws=num_draws - done,
            thin=thin,
            first_step=done * thin,
            chunk_size=CHUNK,
            progress=on_draws(thin, progress),
        )
        # Part of drawing: draws are of use in the user's coordinates only.
        with CompileClock() as clock:
            position, lp = draws_and_lp_to_user(
                kernel.target, draws.record.position, draws.record.lp
            )
        seconds, compiling = (
            draws.seconds + clock.seconds,
            draws.compile_seconds + clock.compile_seconds,
        )
        record = draws.record._replace(position=position, lp=lp)
        draws = draws._replace(record=record, seconds=seconds, compile_seconds=compiling)
        if before is not None:
            draws = _continued(before, draws)
        self.before = point, draws
        return draws

    def finish(self, tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
        """The tree itself."""
        return tree


def _continued(before: Draws, after: Draws) -> Draws:
    """Draws of one pass that was drawn in two pieces."""
    pieces = zip(before.record, after.record, strict=True)
    record = Record(*(np.concatenate(piece, axis=1) for piece in pieces))
    return after._replace(
        record=record,
        num_gradients=before.num_gradients + after.num_gradients,
        seconds=before.seconds + after.seconds,
        compile_seconds=before.compile_seconds + after.compile_seconds,
    )


class KernelSampler:
    """A frozen kernel, which goes on from where the pass before ended.

    Args:
        key: Key of warm-up and draws.
        kernel: The frozen kernel.
        start: Starts (dim, chains), in the kernel's coordinates.
        num_draws: Draws of each chain in every pass.
        keeper: Who keeps what is finished.
        progress: Whom to tell.
        marginals: Known marginals, whose ends the draws must not miss.
        num_warmup: Draws of each chain that are left out at first.
        num_effective: Effective draws that are wanted. A pass that is too short then goes on, and
            all of its draws are kept; None: the next pass is a longer one, thinned.
        is_multimodal: Whether the target has several modes: their narrow ones hold chains, too.
    """

    def __init__(
        self,
        key: Key,
        kernel: AbstractTransition,
        start: Vector,
        num_draws: int,
        keeper: RunStore,
        progress: OnProgress,
        marginals: tuple[Marginal, ...],
        *,
        num_warmup: int = WARMUP_DRAWS,
        num_effective: int | None = None,
        is_multimodal: bool = False,
    ):
        self.key, self.keeper, self.num_draws = key, keeper, num_draws
        self.num_warmup, self.num_effective = num_warmup, num_effective
        self.most_draws = RUN_MULTIPLIERS[-1] * num_draws
        self.kernel = per_chain(kernel, start.shape[1])
        self.progress, self.marginals, self.is_multimodal = progress, marginals, is_multimodal
        self.names = labels(users(kernel.target), start.shape[0])
        self.at = keeper.point(self.kernel, start, lambda: self._warm_up(start))

    def _warm_up(self, start: Vector) -> PassState:
        begin_stage("final warmup")
        state, key = start_state(self.kernel, start), jax.random.fold_in(self.key, 2)
        if not self.num_warmup:
            return PassState(0, state, Cost())
        warm = draw_chains(key, self.kernel, state, num_draws=self.num_warmup, chunk_size=CHUNK)
        if not warm.completed:
            raise KeyboardInterrupt
        return PassState(0, warm.state, Cost.of(warm))

    @property
    def resumable(self) -> bool:
        """Whether a run that is interrupted can go on."""
        return self.keeper.resumable

    @property
    def is_last(self) -> bool:
        """Whether the current pass was settled before, or is the longest."""
        if self.num_effective is not None:
            return self.at.settled or self.num_draws >= self.most_draws
        return self.at.settled or self.at.round + 1 == len(RUN_MULTIPLIERS)

    def run(self) -> Final:
        """The draws of the current pass."""
        begin_stage(phase_of(RUN_MULTIPLIERS[self.at.round]))
        pass_key = jax.random.fold_in(self.key, 3 + self.at.round)
        draws = self.keeper.draws(
            self.at, pass_key, self.kernel, num_draws=self.num_draws, progress=self.progress
        )
        drawn, position = time.perf_counter(), draws.record.position
        if not draws.completed and position.shape[1] < LEAST_DRAWS:
            raise KeyboardInterrupt
        metrics = metrics_of(draws, position)
        missed = tail_problems(position, self.marginals, self.names)
        rates, diverging = draws.record.acceptance_rate, draws.record.diverging
        missed += sticky_tails(
            position, rates, diverging, may_fail=not self.is_multimodal, names=self.names
        )
        return Final(
            position=position,
            rhat_max=metrics.rhat_max,
            missed=missed,
            thin=RUN_MULTIPLIERS[self.at.round],
            spent=self.at.spent,
            check_seconds=time.perf_counter() - drawn,
            completed=draws.completed,
            draws=draws,
            metrics=metrics,
        )

    def lengthen(self, before: Final) -> None:
        """Go on from the end of the pass before."""
        assert before.draws is not None
        if self.num_effective is not None:
            missing = self.num_effective / max(before.effective_draws, 1.0)
            factor = min(max(DIRECT.least_growth, missing), DIRECT.most_growth)
            self.num_draws = min(math.ceil(factor * self.num_draws), self.most_draws)
            return
        spent = Cost.of(self.at.spent, before.draws)
        self.at = PassState(self.at.round + 1, before.draws.state, spent)
        self.keeper.reached(self.at)

    def settle(self) -> None:
        """Tell the keeper that this pass is the one to keep."""
        self.keeper.reached(self.at._replace(settled=True))


class StoppedSampler(KernelSampler):
    """A frozen kernel for a few seconds: the draws after a stop before which there were none.

    Its short warm-up is timed, and says how many draws there will be, `LEAST_DRAWS` at least.
    """

    def _warm_up(self, start: Vector) -> PassState:
        state, key = start_state(self.kernel, start), jax.random.fold_in(self.key, 2)
        timed = draw_chains(key, self.kernel, state, num_draws=LEAST_DRAWS, chunk_size=CHUNK)
        fitting = LEAST_DRAWS * THRESHOLDS.stopped_seconds / max(timed.seconds, 1e-9)
        more = min(WARMUP_DRAWS, int(fitting / 4)) - LEAST_DRAWS
        self.num_draws = max(LEAST_DRAWS, min(self.num_draws, int(fitting) - LEAST_DRAWS - more))
        if more <= 0:
            return PassState(0, timed.state, Cost.of(timed))
        options = {"num_draws": more, "first_step": LEAST_DRAWS, "chunk_size": CHUNK}
        rest = draw_chains(key, self.kernel, timed.state, **options)  # type: ignore[arg-type]
        return PassState(0, rest.state, Cost.of(timed, rest))

    def run(self) -> Final:
        """The draws, of a run that was stopped."""
        return super().run()._replace(completed=False)


class NutsSampler:
    """NUTS, which starts anew in every pass; passes that are given up count as warm-up.

    Args:
        key: Key of adaptation and draws.
        target: The log density, in the user's coordinates.
        starts: Starts (dim, chains).
        num_draws: Draws of each chain in every pass, after thinning.
        marginals: Known marginals, whose ends the draws must not miss.
        is_multimodal: As in `KernelSampler`.
        resumable: Whether the same call draws them again after an interruption.
    """

    def __init__(
        self,
        key: Key,
        target: AbstractLogDensity,
        starts: Vector,
        num_draws: int,
        marginals: tuple[Marginal, ...],
        *,
        is_multimodal: bool = False,
        resumable: bool = False,
    ):
        self.key, self.target, self.starts = key, target, starts
        self.num_draws, self.marginals, self.resumable = num_draws, marginals, resumable
        self.is_multimodal, self.names = is_multimodal, labels(target, starts.shape[0])
        self.round, self.given_up, self.acceptance = 0, Cost(), TARGET_ACCEPTANCES[0]

    @property
    def is_last(self) -> bool:
        """Whether there is no longer pass, or its draws would not fit into memory."""
        if self.round + 1 == len(RUN_MULTIPLIERS):
            return True
        size = RUN_MULTIPLIERS[self.round + 1] * self.num_draws * self.starts.size
        return size > _MOST_NUMBERS

    def run(self) -> Final:
        """The draws of the current pass, thinned."""
        thin, key = RUN_MULTIPLIERS[self.round], jax.random.fold_in(self.key, 9 + self.round)
        begin_stage(f"{phase_of(thin)} with NUTS")
        run = draw_nuts(
            key,
            self.target,
            self.starts,
            num_draws=thin * self.num_draws,
            least_acceptance=self.acceptance,
        )
        # Passes that diverged are not made again, four times as long.
        self.acceptance = run.settings.get("target_acceptance", self.acceptance)
        kept = run.position[:, thin - 1 :: thin]
        if not run.completed and (self.resumable or kept.shape[1] < LEAST_DRAWS):
            raise KeyboardInterrupt
        missed = tail_problems(kept, self.marginals, self.names)
        if run.acceptance is not None and run.diverging is not None:
            shape, whole = (len(kept), -1, thin), thin * kept.shape[1]
            rates = run.acceptance[:, :whole].reshape(shape)
            diverging = run.diverging[:, :whole].reshape(shape)
            missed += sticky_tails(
                kept,
                rates.mean(axis=2),
                diverging.sum(axis=2),
                may_fail=not self.is_multimodal,
                names=self.names,
            )
        spent = Cost.of(self.given_up, _warmup_of(run))
        return Final(
            position=kept,
            rhat_max=float(np.max(diagnostics.rhat(kept))),
            missed=missed,
            thin=thin,
            spent=spent,
            check_seconds=0.0,
            completed=run.completed,
            peer=run._replace(position=kept),
        )

    def lengthen(self, before: Final) -> None:
        """Give up the pass before."""
        assert before.peer is not None
        drawn = Cost(before.peer.num_gradients, before.peer.seconds, 0.0)
        self.round, self.given_up = self.round + 1, Cost.of(before.spent, drawn)

    def settle(self) -> None:
        """Nothing to keep."""


def _warmup_of(run: CountedDraws) -> Cost:
    return Cost(run.warmup_gradients, run.warmup_seconds, run.compile_seconds)


def draws_per_chain(found: SearchResult, settings: Settings) -> int:
    """How many draws of each chain the final run needs, by the rate that was measured::

        n = margin * num_effective / (effective draws per gradient * gradients per draw * chains)

    Args:
        found: What the search found.
        settings: What `fit` was asked for.

    Returns:
        That number, or ``num_draws`` where no effective draws are asked for.
    """
    if settings.num_effective is None:
        return settings.num_draws
    row = next(row for row in found.rows if row.name == found.chosen)
    each = row.worst * (row.num_leapfrogs or _NUTS_LEAPFROGS) * settings.num_chains
    wanted = DIRECT.margin * settings.num_effective
    most = int(DIRECT.most_numbers / found.starts.size)
    return max(_FEWEST, min(math.ceil(wanted / each) if each > 0 else most, most))


def phase_of(thin: int) -> str:
    """What progress calls a pass.

    Args:
        thin: Steps between two of its draws.

    Returns:
        The name of its phase.
    """
    return "sample" if thin == 1 else f"sample 1 in {thin}"


def on_draws(thin: int, progress: OnProgress) -> Callable[[Progress, Record], None] | None:
    """A progress callback for a sampling loop, its events named after the pass.

    Args:
        thin: Steps between two draws of the pass.
        progress: Whom to tell.

    Returns:
        The callback; None if nobody is to be told.
    """
    if progress is None:
        return None
    return lambda event, _: progress(event._replace(phase=phase_of(thin)))
