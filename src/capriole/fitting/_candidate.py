"""A candidate of the search, and what is reported of it."""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NamedTuple, Self

import numpy as np

from ..diagnostics import Problem
from ..kernels import AbstractTransition
from ._budget import Account, Cost


class KernelMetrics(NamedTuple):
    """What a frozen kernel achieves, in the user's coordinates and the worst dimension.

    Attributes:
        ess_per_gradient: Bulk ESS of x over the gradients of all chains.
        ess_sq_per_gradient: Bulk ESS of (x - centre)^2 over the gradients of all chains.
        ess_per_second: The lower of both ESS over seconds of sampling, without compilation.
        acceptance_rate: Mean acceptance.
        rhat_max: R-hat of the worst dimension.
        nonfinite: Share of proposals whose log density was not finite.
        num_gradients: Gradients of the draws that were measured.
        spent_gradients: Gradients of the whole run, draws that were left out included.
        seconds: Seconds of the draws that were measured.
        compile_seconds: Seconds of compilation.
    """

    ess_per_gradient: float
    ess_sq_per_gradient: float
    ess_per_second: float
    acceptance_rate: float
    rhat_max: float
    nonfinite: float
    num_gradients: int
    spent_gradients: int
    seconds: float
    compile_seconds: float

    @property
    def worst(self) -> float:
        """The lower of the two ESS per gradient; 0 where one is not defined (a chain that never
        moves).
        """
        value = min(self.ess_per_gradient, self.ess_sq_per_gradient)
        return value if np.isfinite(value) else 0.0


class Family(Enum):
    """What moves a candidate's chains."""

    ROTATION = "rotation"
    PCN = "Crank-Nicolson"
    MODE_JUMP = "mode jump"
    NETWORK = "network"
    NUTS = "NUTS"


class Kind(Enum):
    """Which candidate of a family it is; the value is its name for people."""

    ROTATION = "rotation"
    PCN = "Crank-Nicolson"
    MODE_JUMP = "jumps between modes"
    SMALL_NETWORK = "small network"
    LARGER_NETWORK = "larger network"
    NUTS = "NUTS"

    @property
    def family(self) -> Family:
        """The family that it belongs to."""
        return _FAMILIES[self]


_FAMILIES = {
    Kind.ROTATION: Family.ROTATION,
    Kind.PCN: Family.PCN,
    Kind.MODE_JUMP: Family.MODE_JUMP,
    Kind.SMALL_NETWORK: Family.NETWORK,
    Kind.LARGER_NETWORK: Family.NETWORK,
    Kind.NUTS: Family.NUTS,
}
"""The family of each kind."""


class Coordinates(Enum):
    """The coordinates that a candidate moves in."""

    AFFINE = "affine"
    TRANSPORT = "transported"


class Addition(Enum):
    """What a candidate has in addition to its own move, or how that was changed."""

    ROTATION = "and rotation"
    PCN = "and Crank-Nicolson"
    HMC = "and HMC"
    FINER_STEPS = "in finer steps"


def name_of(kind: Kind, coordinates: Coordinates, additions: tuple[Addition, ...]) -> str:
    """The name of a candidate for people, such as "transported rotation and HMC"."""
    first = (coordinates.value,) if coordinates is Coordinates.TRANSPORT else ()
    return " ".join([*first, kind.value, *(addition.value for addition in additions)])


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A kernel with what it achieved and what it cost to make.

    Attributes:
        kind: Which candidate it is.
        transition: The frozen kernel; None of NUTS, which adapts by itself.
        metrics: What it was measured to do.
        num_leapfrogs: Gradients of one proposal; None where that varies.
        account: What making and measuring it took.
        shared: Accounts of the candidates that it is made from.
        coordinates: The coordinates that it moves in.
        additions: What was added to its own move, in this order.
        found: Positions (dim, chains), in the user's coordinates, where its training chains ended.
        faults: Fatal problems seen in its last long run.
        reach: The share of its figure that is believed for them: 0 where chains stood still, else
            that of the worst end of a funnel that its draws missed.
    """

    kind: Kind
    transition: AbstractTransition | None
    metrics: KernelMetrics
    num_leapfrogs: int | None
    account: Account
    shared: tuple[Account, ...] = ()
    coordinates: Coordinates = Coordinates.AFFINE
    additions: tuple[Addition, ...] = ()
    found: np.ndarray | None = field(default=None, repr=False)
    faults: tuple[Problem, ...] = ()
    reach: float = 1.0

    @property
    def name(self) -> str:
        """Its name for people; no two candidates of a search have the same."""
        return name_of(self.kind, self.coordinates, self.additions)

    @property
    def family(self) -> Family:
        """What moves its chains."""
        return self.kind.family

    @property
    def worst(self) -> float:
        """Effective draws per gradient, of x or of x^2, in the worst dimension."""
        return self.metrics.worst

    @property
    def kernel(self) -> AbstractTransition:
        """The frozen kernel. Raises TypeError for NUTS."""
        if self.transition is None:
            raise TypeError("NUTS has no frozen kernel")
        return self.transition

    @property
    def is_gradient_free(self) -> bool:
        """Whether its last part is the Crank-Nicolson move, which no gradient steers."""
        last = self.additions[-1:]
        return last == (Addition.PCN,) or (self.kind is Kind.PCN and not last)

    def with_addition(self, addition: Addition, **changes: Any) -> Self:
        """The candidate with one more addition; ``changes`` replace other fields."""
        return replace(self, additions=(*self.additions, addition), **changes)

    def report(self, common: Cost) -> "SamplerReport":
        """What is reported of it.

        Args:
            common: What the search spent that belongs to no candidate alone; NUTS needs none of it.

        Returns:
            Its row of the verdict.
        """
        is_nuts = self.kind is Kind.NUTS
        before = Cost() if is_nuts else common
        fixed = Cost.of(before, self.account.cost, *(each.cost for each in self.shared))
        figures = {name: getattr(self.metrics, name) for name in _FIGURES}
        return SamplerReport(
            kind=self.kind,
            coordinates=self.coordinates,
            additions=self.additions,
            num_leapfrogs=self.num_leapfrogs,
            fixed_gradients=fixed.num_gradients,
            fixed_seconds=fixed.seconds + fixed.compile_seconds,
            measured_gradients=self.metrics.spent_gradients if is_nuts else 0,
            reach=self.reach,
            **figures,
        )


_FIGURES = (
    "ess_per_gradient",
    "ess_sq_per_gradient",
    "ess_per_second",
    "acceptance_rate",
    "rhat_max",
    "nonfinite",
)
"""Fields that a report takes over from the metrics."""


class SamplerReport(NamedTuple):
    """One sampler as measured: worst dimension, bulk ESS of x and of x^2.

    Attributes:
        kind: Which sampler it is.
        coordinates: The coordinates that it moves in.
        additions: What was added to its own move.
        num_leapfrogs: Gradients of one proposal; None where that varies (NUTS).
        ess_per_gradient: Bulk ESS of x over gradients.
        ess_sq_per_gradient: Bulk ESS of (x - centre)^2 over gradients.
        ess_per_second: The smaller of both ESS over seconds of sampling.
        acceptance_rate: Mean acceptance.
        rhat_max: R-hat of the worst dimension.
        fixed_gradients: Gradients spent before its first draw.
        fixed_seconds: Seconds spent before its first draw, compilation included.
        measured_gradients: What measuring it took, where that is no part of making it (NUTS).
        nonfinite: Share of proposals whose log density was not finite.
        reach: Share of its figure that is believed: less than 1 where its draws missed an end of a
            funnel, 0 where chains stood still.
    """

    kind: Kind
    coordinates: Coordinates
    additions: tuple[Addition, ...]
    num_leapfrogs: int | None
    ess_per_gradient: float
    ess_sq_per_gradient: float
    ess_per_second: float
    acceptance_rate: float
    rhat_max: float
    fixed_gradients: int
    fixed_seconds: float
    measured_gradients: int = 0
    nonfinite: float = 0.0
    reach: float = 1.0

    @property
    def name(self) -> str:
        """Its name for people."""
        return name_of(self.kind, self.coordinates, self.additions)

    def checked(self) -> Self:
        """Itself. Raises ValueError for counts, seconds or shares that cannot be."""
        counts = (self.num_leapfrogs or 0, self.fixed_gradients, self.measured_gradients)
        if min(counts) < 0 or self.fixed_seconds < 0 or not self.reach >= 0:
            raise ValueError(f"{self.name} has a count, time or share that cannot be")
        return self

    @property
    def is_nuts(self) -> bool:
        """Whether it is NUTS."""
        return self.kind is Kind.NUTS

    @property
    def worst(self) -> float:
        """The lower of the two ESS per gradient; 0 where one is not defined."""
        value = min(self.ess_per_gradient, self.ess_sq_per_gradient)
        return value if np.isfinite(value) else 0.0


NUTS = Kind.NUTS.value
"""The name of NUTS's row."""
