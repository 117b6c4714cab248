"""What a search knows so far: the warm-up, the candidates, notes for people, the ledger."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from ..adaptation import WarmupResult
from ..coordinates import Whitened, from_user, pad_for_reuse
from ..diagnostics import (
    Marginal,
    ModeSearch,
    ModeSummary,
    Moments,
    farthest_point_subset,
    moments,
    summarise_modes,
)
from ..kernels import AbstractLogDensity, Key, SecondDerivatives, Vector
from ..runtime import OnProgress
from ._budget import Budget, Cost
from ._candidate import Candidate, Family, Kind, SamplerReport
from ._settings import Settings
from ._thresholds import THRESHOLDS


class NoteKind(Enum):
    """What a note is about."""

    LEFT_OUT = "left out"
    TRANSPORT_MAP = "transport map"
    SHORT_RUN = "short run"
    LAST_CHOICE = "last choice"
    WARMUP = "warm-up"
    NUTS_NOT_MEASURED = "NUTS not measured"
    NUTS_COULD_NOT_DRAW = "NUTS could not draw"
    INTERRUPTED = "interrupted"
    NUTS_DREW_INSTEAD = "NUTS drew instead"
    NUTS_FAILED = "NUTS failed"
    NOT_DIRECT = "direct way left"
    SECOND_DERIVATIVES = "second derivatives"
    MODEL = "model"


class Note(NamedTuple):
    """What the search left out, gave up or learnt, for people.

    Attributes:
        kind: What it is about.
        text: A sentence without its full stop.
    """

    kind: NoteKind
    text: str


class Stream(IntEnum):
    """Streams of random numbers of the search, folded into its key."""

    DIRECT = 94
    LONGER_ROTATIONS = 95
    MODE_JUMPS = 96
    TRANSPORT = 97
    VALIDATE_ROTATIONS = 98
    VALIDATE_ALL = 99


class TrainingStream(IntEnum):
    """Streams of random numbers of training; small numbers are those of plans."""

    MIXTURE = 99
    POSITIONS = 1000


class WarmupFacts(NamedTuple):
    """What a verdict needs of a warm-up.

    Attributes:
        windows: Windows of adaptation.
        rhat_max: R-hat of the last window, worst dimension.
        max_separation: Largest distance of a chain from the others, in its own standard deviations.
        agreed: Whether all chains saw the same distribution.
        num_negligible: Chains that were taken out of places without mass.
        num_stuck: Chains that hardly moved.
        num_missed: Positions met early that are denser than all that the last window saw.
        num_modes: Modes in which chains of the last window sat.
        step_size: The adapted step size of plain HMC, in white coordinates.
        acceptance_rate: Its mean acceptance.
        num_gradients: Gradients of the warm-up, and of all that belongs to no candidate.
        seconds: Its seconds without compilation.
        compile_seconds: Its seconds of compilation.
        marginals: Marginals of a funnel's parents.
        moments: Means and variances; None where chains have not agreed.
        modes: The modes, the one of the largest mass first.
        is_multimodal: Whether chains sat in several modes, or were put there, and not only as slow
            ones in one mode.
        search: What was searched for modes that no chain met.
    """

    windows: int
    rhat_max: float
    max_separation: float
    agreed: bool
    num_negligible: int
    num_stuck: int
    num_missed: int
    num_modes: int
    step_size: float
    acceptance_rate: float
    num_gradients: int
    seconds: float
    compile_seconds: float
    marginals: tuple[Marginal, ...] = ()
    moments: Moments | None = None
    modes: tuple[ModeSummary, ...] = ()
    is_multimodal: bool = False
    search: ModeSearch | None = None

    def checked(self, dim: int) -> Self:
        """Itself. Raises ValueError for what cannot be in ``dim`` dimensions."""
        for marginal in self.marginals:
            marginal.checked(dim)
        for mode in self.modes:
            mode.checked(dim)
        if self.search is not None:
            self.search.checked(dim)
        if self.moments is not None and any(len(row) != dim for row in self.moments):
            raise ValueError(f"no moments of {dim} dimensions: {str(self.moments)[:80]!r}")
        return self


@dataclass(frozen=True)
class SearchContext:
    """What the search knows so far; a proposer returns it with what it adds.

    Attributes:
        target: The log density, in the user's coordinates.
        settings: What `fit` was asked for.
        budget: The ledger.
        key: Key of everything but training and NUTS; see `Stream`.
        train_key: Key of training; see `TrainingStream`.
        nuts_key: Key of NUTS's measurement.
        progress: Whom to tell.
        warmup: What the warm-up found, in the best coordinates so far.
        candidates: All candidates; those in better coordinates come first.
        notes: Notes for people.
        visited: Ends of training chains (dim, n), in the user's coordinates, that are not far from
            all mass; None: there are none.
        second: Which second derivatives the log density has.
    """

    target: AbstractLogDensity
    settings: Settings
    budget: Budget
    key: Key
    train_key: Key
    nuts_key: Key
    progress: OnProgress
    warmup: WarmupResult
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[Note, ...] = ()
    visited: np.ndarray | None = None
    second: SecondDerivatives = SecondDerivatives.FULL

    def stream(self, name: Stream) -> Key:
        """The key of a named stream."""
        return jax.random.fold_in(self.key, int(name))

    def with_notes(self, kind: NoteKind, *texts: str) -> Self:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *(Note(kind, text) for text in texts)))

    def with_candidates(self, candidates: Iterable[Candidate]) -> Self:
        """The same with other candidates."""
        return replace(self, candidates=tuple(candidates))

    def with_visited(self, positions: np.ndarray) -> Self:
        """The same with more positions (dim, n) that chains found."""
        return replace(self, visited=positions)

    def expected(self, num_gradients: float) -> Cost:
        """What so many gradients may take, each as many seconds as one of the warm-up took."""
        seconds = self.warmup.seconds / max(self.warmup.num_gradients, 1)
        return Cost(round(num_gradients), num_gradients * seconds, 0.0)

    @property
    def rows(self) -> list[SamplerReport]:
        """All candidates as they are reported."""
        return [c.report(self.budget.common.cost) for c in self.candidates]

    @property
    def best_rate(self) -> float:
        """Effective draws per gradient of the best candidate, as measured."""
        return max(candidate.worst for candidate in self.candidates)

    @property
    def base(self) -> Candidate:
        """The plain rotation in the best coordinates so far."""
        return next(c for c in self.candidates if c.kind is Kind.ROTATION and not c.additions)

    @property
    def networks(self) -> tuple[Candidate, ...]:
        """The candidates that have networks."""
        return tuple(c for c in self.candidates if c.family is Family.NETWORK)

    @property
    def jumps_suffice(self) -> bool:
        """Whether jumps between weighed modes are good, so that other kernels are not searched."""
        return bool(self.warmup.weighed) and any(
            c.kind is Kind.MODE_JUMP
            and c.worst > THRESHOLDS.good_jump_rate
            and c.metrics.rhat_max < THRESHOLDS.mixed_rhat
            for c in self.candidates
        )

    @property
    def white(self) -> Whitened:
        """The target in the white coordinates of the warm-up."""
        return Whitened(self.target, pad_for_reuse(self.warmup.whitening, self.warmup.fisher))

    def start_in(self, coordinates: AbstractLogDensity, positions: Any = None) -> Vector:
        """The warm-up's last positions, or others (dim, n), in a candidate's coordinates."""
        if positions is None:
            positions = np.asarray(self.warmup.position)
        return jnp.asarray(from_user(coordinates, positions))

    @property
    def positions(self) -> np.ndarray:
        """All positions (dim, n), in the user's coordinates, that any chain found."""
        known = np.asarray(self.warmup.position)
        return known if self.visited is None else np.concatenate([known, self.visited], axis=1)

    def far_positions(self, num: int) -> Vector:
        """``num`` of all positions (dim, num), those of every mode among them.

        Where chains agree, their far positions are the tails: chains started there alone would not
        be draws of the target. So only one of them is far.
        """
        num_far = 1 if self.warmup.agreed else None
        found = farthest_point_subset(self.positions, num, num_far)
        return jnp.asarray(found, self.warmup.position.dtype)

    @property
    def is_left(self) -> bool:
        """Whether a note says that the direct way does not suffice."""
        return any(note.kind is NoteKind.NOT_DIRECT for note in self.notes)

    @property
    def is_multimodal(self) -> bool:
        """Whether chains of the warm-up sat in several modes."""
        return self.warmup.is_multimodal

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Marginals of a funnel's parents; none where there are several modes.

        A marginal is integrated around one mode, so it says nothing of the others.
        """
        found = self.warmup
        if found.profile is None or self.is_multimodal:
            return ()
        return found.profile.marginals()

    @property
    def facts(self) -> WarmupFacts:
        """What a verdict needs of the warm-up."""
        found, common = self.warmup, self.budget.common.cost
        return WarmupFacts(
            windows=found.num_windows,
            rhat_max=found.rhat_max,
            max_separation=found.max_separation,
            agreed=found.agreed,
            num_negligible=found.num_negligible,
            num_stuck=found.num_stuck,
            num_missed=found.num_missed,
            num_modes=len(found.modes.log_mass),
            step_size=found.step_size,
            acceptance_rate=found.acceptance_rate,
            num_gradients=common.num_gradients,
            seconds=common.seconds,
            compile_seconds=common.compile_seconds,
            marginals=self.marginals,
            moments=moments(found.draws) if found.agreed else None,
            modes=found.weighed or summarise_modes(found.modes, found.draws),
            is_multimodal=found.is_multimodal,
            search=found.search,
        )
