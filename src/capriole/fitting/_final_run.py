"""The final run of `fit`: draws of the frozen kernel, longer and thinned while its chains disagree
or miss an end.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax

from ..adaptation import CHUNK, start_state
from ..coordinates import drawn_to_user
from ..diagnostics import rhat_limit
from ..kernels import AbstractLogDensity, AbstractTransition, ChainState, Key, Vector, per_chain
from ..runtime import CompileClock, OnProgress, Progress
from ..sampling import Draws, Record, draw_chains
from ._evaluation import Judgement, judged
from ._search import Found, Spent
from ._settings import THINS
from ._tail_coverage import Missed, unreached
from ._validation import WARMUP
from ._verdict import Verdict

if TYPE_CHECKING:
    import xarray


class Point(NamedTuple):
    """Where the final run is: pass ``round`` of `THINS` starts at ``state``; ``settled`` if it is
    the one to keep.

    ``spent`` is what went into the warm-up and the passes given up before.
    """

    round: int
    state: ChainState
    spent: Spent
    settled: bool = False


class Final(NamedTuple):
    """The pass that was kept, positions in the user's coordinates; ``spent`` is what went before
    it, and ``check_seconds`` after it, into judging it. ``completed`` is False if it, or one after
    it, was interrupted.
    """

    draws: Draws
    judgement: Judgement
    missed: list[Missed]
    thin: int
    spent: Spent
    check_seconds: float
    completed: bool

    @property
    def num_steps(self) -> int:
        """Metropolis-Hastings steps of each chain."""
        return self.thin * self.draws.record.lp.shape[1]


class Keeper(Protocol):
    """Whoever keeps what `fit` has finished: `InMemory`, or `capriole.runs.CheckpointedFit`.

    ``resumable`` says whether a run that is interrupted can go on: if not, it ends with what is
    there. ``judged`` says whether a verdict on the kernel's draws was given before: then they are
    not replaced by NUTS's, whatever more of them show.
    """

    resumable: bool

    @property
    def judged(self) -> bool:
        """Whether the kernel's draws have had a verdict before."""

    def begin(self, config: dict[str, Any], position: Vector, progress: OnProgress) -> OnProgress:
        """Called first, with all that the draws depend on and starting positions; returns the
        callback to use.
        """

    def search(self, target: AbstractLogDensity, find: Callable[[], Found]) -> Found:
        """What ``find`` finds, or found before."""

    def compared(self, target: AbstractLogDensity, found: Found) -> None:
        """Told what the search found once NUTS was measured afterwards."""

    def point(
        self, kernel: AbstractTransition, start: Vector, warm_up: Callable[[], Point]
    ) -> Point:
        """Where the final run goes on; ``warm_up`` makes its beginning."""

    def reached(self, point: Point) -> None:
        """Told of every further point."""

    def draws(
        self,
        point: Point,
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

    resumable, judged = False, False

    def begin(self, config: dict[str, Any], position: Vector, progress: OnProgress) -> OnProgress:
        """Nothing to prepare."""
        return progress

    def search(self, target: AbstractLogDensity, find: Callable[[], Found]) -> Found:
        """Search."""
        return find()

    def compared(self, target: AbstractLogDensity, found: Found) -> None:
        """Nothing to keep."""

    def point(
        self, kernel: AbstractTransition, start: Vector, warm_up: Callable[[], Point]
    ) -> Point:
        """The beginning."""
        return warm_up()

    def reached(self, point: Point) -> None:
        """Nothing to keep."""

    def draws(
        self,
        point: Point,
        key: Key,
        kernel: AbstractTransition,
        *,
        num_draws: int,
        progress: OnProgress,
    ) -> Draws:
        """Draw."""
        thin = THINS[point.round]
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
        with (
            CompileClock() as clock
        ):  # part of drawing: nobody has draws before they are in his own coordinates
            position, lp = drawn_to_user(kernel.target, draws.record.position, draws.record.lp)
        seconds, compiling = (
            draws.seconds + clock.seconds,
            draws.compile_seconds + clock.compile_seconds,
        )
        record = draws.record._replace(position=position, lp=lp)
        return draws._replace(record=record, seconds=seconds, compile_seconds=compiling)

    def finish(self, tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
        """The tree itself."""
        return tree


def final_run(
    key: Key,
    kernel: AbstractTransition,
    start: Vector,
    num_draws: int,
    keeper: Keeper,
    progress: OnProgress,
    *,
    marginals: list[dict[str, Any]],
) -> Final:
    """Warm-up and draws of the frozen kernel from ``start`` (dim, chains), in its coordinates.

    They are `THINS` times as long while R-hat is above `diagnostics.rhat_limit` or an end of
    ``marginals`` is missed: what few excursions say of an end, more of them say better. Where a
    longer pass is interrupted before it has as many steps as the one before, that one is returned.
    """
    kernel = per_chain(kernel, start.shape[1])

    def warm_up() -> Point:
        state = start_state(kernel, start)
        warm = draw_chains(
            jax.random.fold_in(key, 2), kernel, state, num_draws=WARMUP, chunk_size=CHUNK
        )
        if not warm.completed:
            raise KeyboardInterrupt
        return Point(0, warm.state, Spent.of(warm))

    at, before = keeper.point(kernel, start, warm_up), None
    while True:
        pass_key = jax.random.fold_in(key, 3 + at.round)
        try:
            draws = keeper.draws(at, pass_key, kernel, num_draws=num_draws, progress=progress)
        except KeyboardInterrupt:
            if keeper.resumable or before is None:
                raise
            return before._replace(completed=False)
        drawn = time.perf_counter()
        judgement = judged(draws, draws.record.position)
        missed = unreached(draws.record.position, marginals)
        check_seconds = time.perf_counter() - drawn
        now = Final(
            draws, judgement, missed, THINS[at.round], at.spent, check_seconds, draws.completed
        )
        if before is not None and not draws.completed and now.num_steps < before.num_steps:
            return before._replace(completed=False)
        mixed = judgement.rhat_max <= rhat_limit(*draws.record.position.shape)
        if (
            at.settled
            or not draws.completed
            or at.round + 1 == len(THINS)
            or (mixed and not missed)
        ):
            break
        at, before = Point(at.round + 1, draws.state, Spent.of(at.spent, draws)), now
        keeper.reached(at)
    keeper.reached(at._replace(settled=True))
    return now


def phase_of(thin: int) -> str:
    """What progress calls a pass."""
    return "sample" if thin == 1 else f"sample 1 in {thin}"


def on_draws(thin: int, progress: OnProgress) -> Callable[[Progress, Record], None] | None:
    """``progress`` for a sampling loop, its events named after the pass."""
    return (
        None
        if progress is None
        else lambda event, _: progress(event._replace(phase=phase_of(thin)))
    )
