"""What is wrong with a run, as data: what health checks, candidates and verdicts exchange."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple


class Severity(Enum):
    """Whether draws may be used in spite of a problem."""

    WARNING = "warning"
    FATAL = "fatal"


class ProblemKind(Enum):
    """What a problem is about."""

    NEVER_MOVED = "never moved"
    LOW_ACCEPTANCE = "low acceptance"
    STUCK = "stuck"
    NONFINITE = "not finite"
    DIVERGENT = "divergent"
    ROUNDING = "rounding"
    NOT_MIXED = "not mixed"
    MODE_MISSED = "mode missed"
    MODE_NEVER_LEFT = "mode never left"
    TAIL_MISSED = "tail missed"
    TAIL_STICKY = "tail sticky"
    DIFFERS_FROM_WARMUP = "differs from the warm-up"
    WARMUP_UNRELIABLE = "warm-up unreliable"
    TOO_FEW = "too few"
    INTERRUPTED = "interrupted"
    TRAINING = "training"


class Problem(NamedTuple):
    """One problem of a run.

    Attributes:
        kind: What it is about.
        severity: Whether draws may be used in spite of it.
        message: What was found, with its value.
        remedy: What to do about it.
        variable: The name of the variable that it is about, if it is about one.
        reach: Of a tail that draws missed, their share there over the share of the mass, or the
            inverse where they went too often; 1 for other problems.
    """

    kind: ProblemKind
    severity: Severity
    message: str
    remedy: str = ""
    variable: str | None = None
    reach: float = 1.0

    def __str__(self) -> str:
        """The message and the remedy as one text; no second colon follows a first."""
        if not self.remedy:
            return self.message
        _, colon, _ = self.message.partition(": ")
        return f"{self.message}{'; ' if colon else ': '}{self.remedy}"

    @property
    def is_fatal(self) -> bool:
        """Whether draws with this problem must not be used."""
        return self.severity is Severity.FATAL


def name_of(dimension: int, names: Sequence[str] | None) -> str:
    """The name of a dimension.

    Args:
        dimension: Its index.
        names: A name for every dimension; None: there are none.

    Returns:
        Its own name, or ``x[3]``.
    """
    return f"x[{dimension}]" if names is None else names[dimension]


def fatal(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Those problems for which draws must not be used.

    Args:
        problems: Any problems.

    Returns:
        The fatal ones, in their order.
    """
    return tuple(problem for problem in problems if problem.is_fatal)
