"""Many settings of one sampler in one compiled run: each has its own copy of the chains."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from capriole.kernels import AbstractTransition, Key, Vector
from capriole.runtime import Progress
from capriole.sampling import Record, draw_chains

type Score = Callable[[np.ndarray], float]


class TuningError(RuntimeError):
    """No setting of a grid gave a finite score."""


class Tried(NamedTuple):
    """What came of every row of settings, and all gradients spent.

    ``scores`` are NaN below 1 % acceptance; ``costs`` are gradients per draw.
    """

    scores: np.ndarray
    acceptance_rates: np.ndarray
    costs: np.ndarray
    num_gradients: int


class Trial(NamedTuple):
    """What every setting is tried on.

    ``build`` maps arrays of settings, one entry per chain, to a kernel; ``position`` (dim, chains)
    are the starts; ``score`` maps draws (chains, draws, dim) to a figure of merit, higher is
    better; ``progress`` is that of `draw_chains`.
    """

    build: Callable[..., AbstractTransition]
    position: Vector
    score: Score
    num_draws: int
    num_warmup: int
    progress: Callable[[Progress, Record], None] | None = None

    def run(self, key: Key, *settings: Float[np.ndarray, " rows"]) -> Tried:
        """All rows of settings side by side."""
        rows, chains = len(settings[0]), self.position.shape[1]
        kernel = self.build(
            *(jnp.repeat(jnp.asarray(column, self.position.dtype), chains) for column in settings)
        )
        state = kernel.init(jnp.tile(self.position, (1, rows)), jax.random.fold_in(key, 0))
        total = self.num_warmup + self.num_draws
        draws = draw_chains(
            jax.random.fold_in(key, 1), kernel, state, num_draws=total, progress=self.progress
        )
        if not draws.completed:
            raise KeyboardInterrupt
        kept = draws.record.position[:, self.num_warmup :].reshape(rows, chains, self.num_draws, -1)
        rates = draws.record.acceptance_rate[:, self.num_warmup :].reshape(rows, -1).mean(axis=1)
        scores = [
            self.score(block) if rate > 0.01 else np.nan
            for block, rate in zip(kept, rates, strict=True)
        ]
        costs = draws.record.n_steps[:, self.num_warmup :].reshape(rows, -1).mean(axis=1)
        return Tried(np.asarray(scores), rates, costs, draws.num_gradients)
