"""Draws of one sampler on disk, and as much of them in memory as measuring them may take."""

from typing import NamedTuple, Self

from capriole import diagnostics
from capriole.runs import StoredDraws
from capriole.sampling import Draws, Record, tally_arguments

MEASURED_BYTES = 128 << 20
"""Positions read back for measuring: all of them up to this size, else the last draws that fit."""

_COUNTED = ("acceptance_rate", "accepted", "diverging", "nonfinite", "lp")


class Sampled(NamedTuple):
    """One sampler's draws with the facts that its row needs.

    ``first`` is the first draw that is read back, ``keep_from`` the number of those to discard as
    burn-in.
    """

    streamed: StoredDraws
    num_leapfrogs: int
    step_size: float
    first: int
    keep_from: int

    @classmethod
    def of(
        cls, streamed: StoredDraws, *, num_leapfrogs: int, step_size: float, keep_from: int
    ) -> Self:
        """With ``keep_from`` counted over all draws."""
        dim, chains = streamed.state.position.shape
        most = max(1, MEASURED_BYTES // (dim * chains * streamed.state.position.dtype.itemsize))
        first = max(0, streamed.store.committed - most)
        return cls(streamed, num_leapfrogs, step_size, first, max(0, keep_from - first))

    @property
    def draws(self) -> Draws:
        """The draws to measure, read from disk."""
        return self.streamed.draws(self.first)

    def tally(self, keep_from: int) -> diagnostics.Tally:
        """Tally of all steps from ``keep_from`` on, read block by block."""
        counted: diagnostics.Tally | None = None
        for block in self.streamed.store.blocks(_COUNTED, keep_from):
            record = Record(**(dict.fromkeys(Record._fields) | block))
            counted = diagnostics.tally(
                *tally_arguments(record),
                thin=self.streamed.thin,
                logdensity=record.lp,
                before=counted,
            )
        if counted is None:
            raise ValueError(
                f"no draws from {keep_from} on: the sampler has {self.streamed.store.committed}"
            )
        return counted
