"""What a kernel achieves, measured on fresh chains: the figure by which kernels are kept or dropped."""

from typing import NamedTuple

import numpy as np

from . import diagnostics
from ._explore import CHUNK
from ._health import STUCK_STEPS
from ._sample import Draws, draw_chains
from ._transition import AbstractTransition
from ._types import Key, Vector
from ._whitening import to_user


class Judgement(NamedTuple):
    """Measured in the user's coordinates, worst dimension, on chains of a kernel that no longer changes.

    ``ess_per_gradient`` and ``ess_sq_per_gradient`` are the bulk ESS of x and of (x - centre)^2 over the gradients of
    all chains; ``ess_per_second`` is the lower of the two over the seconds of sampling, compilation excluded.
    """

    ess_per_gradient: float
    ess_sq_per_gradient: float
    ess_per_second: float
    acceptance_rate: float
    rhat_max: float
    num_stuck: int
    num_nonfinite: int
    num_gradients: int
    seconds: float
    compile_seconds: float

    @property
    def worst(self) -> float:
        """The lower of the two ESS per gradient; 0 where one is not defined (a chain that never moves)."""
        value = min(self.ess_per_gradient, self.ess_sq_per_gradient)
        return value if np.isfinite(value) else 0.0


def judge(
    key: Key, transition: AbstractTransition, position: Vector, *, num_draws: int = 500, num_warmup: int = 50
) -> Judgement:
    """Run all chains from ``position`` (dim, chains), in the kernel's coordinates; measure what follows the warm-up."""
    total = num_warmup + num_draws
    draws = draw_chains(key, transition, transition.init(position), num_draws=total, chunk_size=CHUNK)
    if not draws.completed:
        raise KeyboardInterrupt
    kept = draws.record.position[:, num_warmup:]
    flat = kept.reshape(-1, kept.shape[-1]).T
    return judged(draws, to_user(transition.target, flat).T.reshape(kept.shape))


def judged(draws: Draws, kept: np.ndarray) -> Judgement:
    """The figures of the last of the ``draws``; ``kept`` (chains, draws, dim) are those in the user's coordinates."""
    record, keep_from = draws.record, draws.record.position.shape[1] - kept.shape[1]
    share = kept.shape[1] / record.position.shape[1]
    bulk, bulk_sq = worst_ess(kept)
    gradients = max(int(record.n_steps[:, keep_from:].sum()), 1)
    accepted = record.accepted[:, keep_from:] > 0
    return Judgement(
        ess_per_gradient=float(np.min(bulk)) / gradients,
        ess_sq_per_gradient=float(np.min(bulk_sq)) / gradients,
        ess_per_second=float(min(np.min(bulk), np.min(bulk_sq))) / max(draws.seconds * share, 1e-9),
        acceptance_rate=float(record.acceptance_rate[:, keep_from:].mean()),
        rhat_max=float(np.max(diagnostics.rhat(kept))),
        num_stuck=int(np.sum(diagnostics.longest_rejection(accepted) >= min(STUCK_STEPS, kept.shape[1]))),
        num_nonfinite=int(record.nonfinite[:, keep_from:].sum()),
        num_gradients=gradients,
        seconds=draws.seconds * share,
        compile_seconds=draws.compile_seconds,
    )


_LOOKED_AT = 6


def worst_ess(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk ESS of x and of (x - mean)^2 for the `_LOOKED_AT` dimensions that a quick look finds slowest.

    ArviZ takes 1 to 20 ms for each dimension. Draws have shape (chains, draws, dim).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        centred = np.asarray(draws, np.float64) - draws.mean(axis=(0, 1))
        squares = centred**2
    return diagnostics.bulk_ess(_slowest(centred)), diagnostics.bulk_ess(_slowest(squares))


def _slowest(values: np.ndarray) -> np.ndarray:
    """The dimensions whose averages over 25 draws vary most, for their variance; those that are not finite first."""
    chains, draws, dim = values.shape
    if dim <= _LOOKED_AT or draws < 50:
        return values
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        blocks = values[:, : draws - draws % 25].reshape(chains, -1, 25, dim).mean(axis=2)
        slowness = np.nan_to_num(blocks.var(axis=(0, 1)) / values.var(axis=(0, 1)), nan=np.inf)
    return values[:, :, np.argsort(-slowness)[:_LOOKED_AT]]
