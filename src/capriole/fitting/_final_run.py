"""The final run of `fit`: draws of what was chosen, longer while chains disagree or miss an end."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from .. import diagnostics
from ..adaptation import CHUNK, start_state
from ..coordinates import draws_and_lp_to_user, users
from ..diagnostics import Marginal, Problem, rhat_limit, tail_problems
from ..kernels import AbstractLogDensity, AbstractTransition, ChainState, Key, Vector, per_chain
from ..models import labels
from ..runtime import CompileClock, OnProgress, Progress
from ..sampling import CountedDraws, Draws, Record, draw_chains
from ._budget import Cost
from ._candidate import KernelMetrics
from ._evaluation import metrics_of
from ._search import SearchResult
from ._thresholds import RUN_MULTIPLIERS, WARMUP_DRAWS
from ._verdict import Verdict
from .proposers._nuts import draw_nuts

if TYPE_CHECKING:
    import xarray

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
        missed: Ends of known marginals that the draws miss.
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
    def is_enough(self) -> bool:
        """Whether chains have mixed and no end of a known marginal is missed."""
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


def run_until_mixed(sampler: Sampler) -> Final:
    """Draws of ``sampler``, in longer passes while its chains disagree or miss an end.

    What few excursions say of an end, more of them say better. Where a longer pass is interrupted
    before it has as many steps as the one before, that one is returned.

    Args:
        sampler: Who draws.

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
        if sampler.is_last or not now.completed or now.is_enough:
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

    def begin(self, config: dict[str, Any], position: Vector, progress: OnProgress) -> OnProgress:
        """Nothing to prepare."""
        return progress

    def search(self, target: AbstractLogDensity, find: Callable[[], SearchResult]) -> SearchResult:
        """Search."""
        return find()

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
        """Draw."""
        thin = RUN_MULTIPLIERS[point.round]
        show = on_draws(thin, progress)
        draws = draw_chains(
            key,
            kernel,
            point.state,
            num_draws=num_draws,
            thin=thin,
            chunk_size=CHUNK,
            progress=show,
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
        return draws._replace(record=record, seconds=seconds, compile_seconds=compiling)

    def finish(self, tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
        """The tree itself."""
        return tree


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
    ):
        self.key, self.keeper, self.num_draws = key, keeper, num_draws
        self.kernel = per_chain(kernel, start.shape[1])
        self.progress, self.marginals = progress, marginals
        self.names = labels(users(kernel.target), start.shape[0])
        self.at = keeper.point(self.kernel, start, lambda: self._warm_up(start))

    def _warm_up(self, start: Vector) -> PassState:
        state, key = start_state(self.kernel, start), jax.random.fold_in(self.key, 2)
        warm = draw_chains(key, self.kernel, state, num_draws=WARMUP_DRAWS, chunk_size=CHUNK)
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
        return self.at.settled or self.at.round + 1 == len(RUN_MULTIPLIERS)

    def run(self) -> Final:
        """The draws of the current pass."""
        pass_key = jax.random.fold_in(self.key, 3 + self.at.round)
        draws = self.keeper.draws(
            self.at, pass_key, self.kernel, num_draws=self.num_draws, progress=self.progress
        )
        drawn, position = time.perf_counter(), draws.record.position
        metrics = metrics_of(draws, position)
        missed = tail_problems(position, self.marginals, self.names)
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
        spent = Cost.of(self.at.spent, before.draws)
        self.at = PassState(self.at.round + 1, before.draws.state, spent)
        self.keeper.reached(self.at)

    def settle(self) -> None:
        """Tell the keeper that this pass is the one to keep."""
        self.keeper.reached(self.at._replace(settled=True))


class NutsSampler:
    """NUTS, which starts anew in every pass; passes that are given up count as warm-up.

    Args:
        key: Key of adaptation and draws.
        target: The log density, in the user's coordinates.
        starts: Starts (dim, chains).
        num_draws: Draws of each chain in every pass, after thinning.
        marginals: Known marginals, whose ends the draws must not miss.
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
        resumable: bool = False,
    ):
        self.key, self.target, self.starts = key, target, starts
        self.num_draws, self.marginals, self.resumable = num_draws, marginals, resumable
        self.names = labels(target, starts.shape[0])
        self.round, self.given_up = 0, Cost()

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
        run = draw_nuts(key, self.target, self.starts, num_draws=thin * self.num_draws)
        kept = run.position[:, thin - 1 :: thin]
        spent = Cost.of(self.given_up, _warmup_of(run))
        return Final(
            position=kept,
            rhat_max=float(np.max(diagnostics.rhat(kept))),
            missed=tail_problems(kept, self.marginals, self.names),
            thin=thin,
            spent=spent,
            check_seconds=0.0,
            completed=True,
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
