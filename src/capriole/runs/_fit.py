"""`capriole.fit` that survives: its search is stored whole, its draws go to disk as they come."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..fitting import (
    RUN_MULTIPLIERS,
    Cost,
    PassState,
    RunStore,
    SearchResult,
    Verdict,
    on_draws,
    phase_of,
)
from ..kernels import AbstractLogDensity, AbstractTransition, ChainState, Key, Vector
from ..models import versions
from ..runtime import OnProgress
from ..sampling import UNCONSTRAINED, Draws
from ._checkpoint import CheckpointError, fill, number, to_arrays
from ._files import RunFolderError
from ._folder import RunFolder
from ._found import SEARCH, read_search, write_search
from ._sampling import StoredDraws, draw_chains_to_disk
from ._store import DrawStore, open_draws

if TYPE_CHECKING:
    import xarray

MEASURED_BYTES = 128 << 20
"""Positions read back for R-hat and the verdict: all of them up to this size, else the last draws
that fit.
"""

_POINT = "point"


class CheckpointedFit(RunStore):
    """For ``capriole.fit(resume=...)``: a fit in a folder, where what is finished stays.

    The search is stored when it is finished; one that was interrupted starts again. Draws are
    stored as in `draw_chains_to_disk`, and stay on disk in `Fit.tree`. NUTS's draws are written
    when they are complete, and drawn again by a run that goes on.

    Args:
        folder: The run folder.
        origin: Plain values for config.json that say how to make the log density again.
        seconds: Seconds between two checkpoints.
        more: Draws of each chain to add to the pass that a finished run kept.

    Raises:
        RunFolderError: The folder holds another run.
        CheckpointError: A stored part of the run is damaged.
    """

    resumable = True

    @property
    def has_verdict(self) -> bool:
        """Whether the folder has a verdict already."""
        return (self.folder.path / "verdict.json").exists()

    def __init__(
        self,
        folder: RunFolder,
        *,
        origin: dict[str, Any] | None = None,
        seconds: float = 10.0,
        more: int = 0,
    ):
        self.folder, self.origin, self.seconds, self.more = folder, origin, seconds, more
        self.streamed: StoredDraws | None = None

    def begin(self, config: dict[str, Any], position: Vector, progress: OnProgress) -> OnProgress:
        """Claim the folder, and make sure that the draws have room."""
        self.folder.claim({"command": "fit"} | config | {"origin": self.origin})
        self.checkpoints, self.position = self.folder.checkpoints, position
        self.num_chains = config["num_chains"]
        self._check_space(config["num_draws"])

        def watched(event: Any) -> None:
            if event.metrics:  # the others are for people
                self.folder.metrics.write(event)
            if progress is not None:
                progress(event)

        return watched

    def search(self, target: AbstractLogDensity, find: Callable[[], SearchResult]) -> SearchResult:
        """What was found before, or is found now; read back in either case, so that both go on the
        same.
        """
        kernel = self.folder.path / "kernel.safetensors"
        stored = self.checkpoints.read(SEARCH)
        if stored is None:
            self._needs_an_end()
            self.checkpoints.remove()  # draws, if any, were those of another search
            self.folder.metrics.path.unlink(missing_ok=True)
            write_search(self.checkpoints, kernel, target, find())
            stored = self.checkpoints.read(SEARCH)
        assert stored is not None
        found = read_search(
            stored, kernel, target, num_chains=self.num_chains, position=self.position
        )
        if self.more and found.uses_nuts:
            raise RunFolderError(
                "the draws are those of NUTS, which cannot be extended; start a longer run"
            )
        return found

    def searched_again(self, target: AbstractLogDensity, found: SearchResult) -> SearchResult:
        """Forget the kernel of the direct way and its draws, and store what took its place."""
        self.streamed = None
        self.checkpoints.remove(keep=(SEARCH,))
        write_search(self.checkpoints, self.folder.path / "kernel.safetensors", target, found)
        return found

    def compared(self, target: AbstractLogDensity, found: SearchResult) -> None:
        """Store NUTS's measurement with the search; where NUTS took the kernel's place, forget the
        kernel's draws.
        """
        if found.uses_nuts:
            self.streamed = None
            self.checkpoints.remove(keep=(SEARCH,))
        write_search(self.checkpoints, self.folder.path / "kernel.safetensors", target, found)

    def point(
        self, kernel: AbstractTransition, start: Vector, warm_up: Callable[[], PassState]
    ) -> PassState:
        """The last point reached, or the beginning."""
        stored = self.checkpoints.read(_POINT)
        if stored is None:
            self._needs_an_end()
            self.reached(warm_up())
            stored = self.checkpoints.read(_POINT)
        assert stored is not None
        if stored.step >= len(RUN_MULTIPLIERS):
            raise CheckpointError(
                f"the checkpoint says pass {stored.step} of {len(RUN_MULTIPLIERS)}"
            )
        state = fill({"state": jax.eval_shape(kernel.init, start)}, stored.arrays)["state"]
        seconds = [
            number(stored.facts, name, kind=float) for name in ("seconds", "compile_seconds")
        ]
        spent = Cost(number(stored.facts, "num_gradients"), *seconds)
        point = PassState(stored.step, state, spent, number(stored.facts, "settled") > 0)
        if not point.settled:
            self._needs_an_end()
        return point

    def reached(self, point: PassState) -> None:
        """Store a point; a settled one replaces itself."""
        facts = point.spent._asdict() | {"settled": int(point.settled)}
        self.checkpoints.write(_POINT, point.round, to_arrays({"state": point.state}), facts)

    def draws(
        self,
        point: PassState,
        key: Key,
        kernel: AbstractTransition,
        *,
        num_draws: int,
        progress: OnProgress,
    ) -> Draws:
        """The draws of a pass, as many as are promised and ``more``; KeyboardInterrupt if it is
        stopped.
        """
        thin, stage = RUN_MULTIPLIERS[point.round], f"draws-{point.round}"
        # The passes share one store: one that was given up must not be gone on with, whatever is
        # damaged later.
        self.checkpoints.remove(keep=(SEARCH, _POINT, stage))
        stored = self.checkpoints.read(stage)
        if stored is not None:
            num_draws = max(num_draws, number(stored.facts, "goal"), stored.step)
            self.folder.metrics.rewind(phase_of(thin), stored.step)
        num_draws, self.more = num_draws + self.more, 0
        self._check_space(num_draws)
        streamed = self.streamed = draw_chains_to_disk(
            key,
            kernel,
            point.state,
            self.folder.draws_path("fit", main=True),
            self.checkpoints,
            num_draws=num_draws,
            stage=stage,
            thin=thin,
            seconds=self.seconds,
            progress=on_draws(thin, progress),
        )
        if not streamed.completed:
            raise KeyboardInterrupt
        gradients = int(streamed.store.read("sample_stats/n_steps").sum(dtype=np.int64))
        return streamed.draws(_first_measured(streamed.store, point.state))._replace(
            num_gradients=gradients
        )

    def finish(self, tree: "xarray.DataTree", verdict: Verdict) -> "xarray.DataTree":
        """The verdict into its file and into the attributes of the draws; the draws as they are on
        disk.
        """
        attributes = dict(tree["posterior"].attrs)
        path = self.folder.draws_path("fit", main=True)
        if self.streamed is None:
            (self.folder.path / "kernel.safetensors").unlink(missing_ok=True)
            groups = [name for name in ("posterior", UNCONSTRAINED) if name in tree.children]
            store = _stored(
                path,
                {
                    group: {str(name): array.values for name, array in tree[group].items()}
                    for group in groups
                },
            )
        else:
            store = self.streamed.store
            attributes["sampling_time"] = self.streamed.seconds
        store.annotate(attributes)
        self.folder.write_json("verdict.json", verdict.as_dict() | {"versions": versions()})
        self.folder.tidy(
            keep=(SEARCH, _POINT, *(f"draws-{i}" for i in range(len(RUN_MULTIPLIERS))))
        )
        return open_draws(path)

    def num_bytes(self, num_draws: int) -> int:
        """Size of that many draws of every chain: positions, 6 floats and 11 bytes of flags and
        counts each.
        """
        return (
            num_draws
            * self.num_chains
            * ((self.position.shape[0] + 6) * self.position.dtype.itemsize + 11)
        )

    def _check_space(self, num_draws: int) -> None:
        self.folder.check_space(self.num_bytes(num_draws))

    def _needs_an_end(self) -> None:
        if self.more:
            raise RunFolderError(
                f"the run in {self.folder.path} is not finished; resume it before extending it"
            )


def _first_measured(store: DrawStore, state: ChainState) -> int:
    """The first draw to read back."""
    return max(0, store.committed - max(1, MEASURED_BYTES // state.position.nbytes))


def _stored(path: Any, groups: dict[str, dict[str, np.ndarray]]) -> DrawStore:
    """Draws of NUTS, which come all at once and without statistics, in a store like any other."""
    num_draws = next(iter(groups["posterior"].values())).shape[1]
    store = DrawStore.create(path, groups, num_draws=num_draws)
    store.append(groups)
    return store
