"""What a kernel achieves, measured on fresh chains: the figure by which kernels are kept or
dropped.
"""

from typing import NamedTuple

import numpy as np

from .. import diagnostics
from ..adaptation import CHUNK, start_state
from ..coordinates import to_user
from ..diagnostics import worst_ess, worst_rhat
from ..kernels import AbstractTransition, Key, Vector, per_chain
from ..sampling import Draws, Record, draw_chains


class Judgement(NamedTuple):
    """Measured in the user's coordinates, worst dimension, on chains of a kernel that no longer
    changes.

    ``ess_per_gradient`` and ``ess_sq_per_gradient`` are the bulk ESS of x and of (x - centre)^2
    over the gradients of all chains; ``ess_per_second`` is the lower of the two over the seconds of
    sampling, compilation excluded. ``nonfinite`` is the share of proposals whose log density was
    not finite. ``spent_gradients`` are those of the whole run, what came before the draws that
    count included.
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


def judge(
    key: Key,
    transition: AbstractTransition,
    position: Vector,
    *,
    num_draws: int = 500,
    num_warmup: int = 50,
) -> Judgement:
    """Run all chains from ``position`` (dim, chains), in the kernel's coordinates; measure what
    follows the warm-up.
    """
    return measured(key, transition, position, num_draws=num_draws, num_warmup=num_warmup)[0]


def measured(
    key: Key, transition: AbstractTransition, position: Vector, *, num_draws: int, num_warmup: int
) -> tuple[Judgement, Record]:
    """As `judge`; and the record of what was measured, positions in the user's coordinates."""
    transition = per_chain(
        transition, position.shape[1]
    )  # as in a search's grids, whose programs then serve
    total = num_warmup + num_draws
    draws = draw_chains(
        key, transition, start_state(transition, position), num_draws=total, chunk_size=CHUNK
    )
    if not draws.completed:
        raise KeyboardInterrupt
    record = Record(*(field[:, num_warmup:] for field in draws.record))
    flat = record.position.reshape(-1, record.position.shape[-1]).T
    record = record._replace(
        position=to_user(transition.target, flat).T.reshape(record.position.shape)
    )
    return judged(draws, record.position, every_rhat=False), record


def judged(draws: Draws, kept: np.ndarray, *, every_rhat: bool = True) -> Judgement:
    """The figures of the last of the ``draws``; ``kept`` (chains, draws, dim) are those in the
    user's coordinates.

    R-hat is that of all dimensions, or of those where a quick look finds the chains furthest apart.
    """
    record, keep_from = draws.record, draws.record.position.shape[1] - kept.shape[1]
    share = kept.shape[1] / record.position.shape[1]
    bulk, bulk_sq = worst_ess(kept)
    gradients = max(int(record.n_steps[:, keep_from:].sum()), 1)
    return Judgement(
        ess_per_gradient=float(np.min(bulk)) / gradients,
        ess_sq_per_gradient=float(np.min(bulk_sq)) / gradients,
        ess_per_second=float(min(np.min(bulk), np.min(bulk_sq))) / max(draws.seconds * share, 1e-9),
        acceptance_rate=float(record.acceptance_rate[:, keep_from:].mean()),
        rhat_max=float(np.max(diagnostics.rhat(kept))) if every_rhat else worst_rhat(kept),
        nonfinite=float(record.nonfinite[:, keep_from:].mean()) / draws.thin,
        num_gradients=gradients,
        spent_gradients=draws.num_gradients,
        seconds=draws.seconds * share,
        compile_seconds=draws.compile_seconds,
    )
