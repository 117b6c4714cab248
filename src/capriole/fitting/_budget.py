"""What a fit spends: the only place where costs are counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

from ..runtime import CompileClock


class Cost(NamedTuple):
    """What something took.

    Attributes:
        num_gradients: Evaluations of the log density, with or without its gradient.
        seconds: Seconds without compilation.
        compile_seconds: Seconds of compilation.
    """

    num_gradients: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0

    @classmethod
    def of(cls, *runs: Any) -> Self:
        """The sum of what ``runs`` took.

        Args:
            runs: Anything that has the three fields.

        Returns:
            Their sum.
        """
        return cls(*(sum(getattr(run, name) for run in runs) for name in cls._fields))

    def less(self, other: "Cost") -> "Cost":
        """The rest of it without ``other``."""
        seconds, compiling = self.seconds, self.compile_seconds
        return Cost(
            self.num_gradients - other.num_gradients,
            seconds - other.seconds,
            compiling - other.compile_seconds,
        )


class Stage(NamedTuple):
    """A stage of a fit: what it took, and what it was expected to take.

    Attributes:
        name: Its name for people.
        cost: What it took.
        expected: What its proposer said before; nothing where nobody was asked.
    """

    name: str
    cost: Cost
    expected: Cost = Cost()


class Account:
    """The costs of one purpose: of the warm-up and the search as a whole, or of one candidate."""

    def __init__(self) -> None:
        self.cost = Cost()

    def charge(self, num_gradients: int) -> None:
        """Add gradients."""
        self.add(Cost(num_gradients))

    def add(self, cost: Any) -> None:
        """Add a cost, or the cost of a run."""
        self.cost = Cost.of(self.cost, cost)

    @contextmanager
    def timed(self) -> Iterator[CompileClock]:
        """Add the seconds of a ``with`` block."""
        with CompileClock() as clock:
            try:
                yield clock
            finally:
                self.add(Cost(0, clock.seconds, clock.compile_seconds))


class Budget:
    """The ledger of a search: a common account, and one for each candidate.

    Seconds of accounts may overlap, as several candidates come out of one run. So the seconds of
    the whole are those of a clock.

    Attributes:
        common: Costs of the warm-up, and of all that belongs to no candidate.
        comparison: Costs of measuring NUTS, no part of the total; None: it was not measured.
        stages: The stages that took anything, in their order.
    """

    def __init__(self) -> None:
        self.common = Account()
        self.comparison: Account | None = None
        self.stages: list[Stage] = []
        self._accounts: list[Account] = [self.common]
        self._clock = CompileClock()

    def __enter__(self) -> Self:
        self._clock.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.__exit__()

    def open(self) -> Account:
        """A new account for a candidate."""
        self._accounts.append(account := Account())
        return account

    def absorb(self, account: Account) -> None:
        """Make the gradients of a candidate that is given up a part of the common costs."""
        if account in self._accounts:
            self._accounts.remove(account)
            self.common.charge(account.cost.num_gradients)
            account.cost = account.cost._replace(num_gradients=0)  # others may share the account

    @contextmanager
    def stage(self, name: str, expected: Cost | None = None) -> Iterator[None]:
        """Record what a ``with`` block takes as a stage."""
        before = self._everything
        yield
        if (cost := self._everything.less(before)).num_gradients:
            self.stages.append(Stage(name, cost, expected or Cost()))

    @property
    def total(self) -> Cost:
        """All gradients, and the seconds since the search began, but for those of comparing."""
        other = Cost() if self.comparison is None else self.comparison.cost
        return self._everything.less(other)

    @property
    def _everything(self) -> Cost:
        accounts = [*self._accounts, *((self.comparison,) if self.comparison else ())]
        gradients = sum(account.cost.num_gradients for account in accounts)
        return Cost(gradients, self._clock.seconds, self._clock.compile_seconds)
