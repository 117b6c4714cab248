"""The effective sample size so far, shown while a sampler runs."""

import time
from collections.abc import Callable

import numpy as np

from capriole import diagnostics
from capriole.runtime import Progress
from capriole.sampling import Record

CHAINS, DRAWS = 16, 5000


class EssSoFar:
    """Adds the effective sample size so far (worst dimension, over at most 16 chains) to sampling
    progress.

    It is that of the last 5,000 draws, scaled to all of them, and is taken again only when 20 times
    the time that the last one took, or 10 seconds, have passed: memory and time stay bounded.
    """

    def __init__(self, name: str, progress: Callable[[Progress], None]):
        self.name, self.progress = name, progress
        self.blocks: list[np.ndarray] = []
        self.due = 0.0
        self.metrics: dict[str, float] = {}

    def __call__(self, event: Progress, record: Record) -> None:
        """Forward the event with ``ess`` and ``ess_chains`` among its metrics."""
        self.blocks.append(np.moveaxis(record.position[:, :, :CHAINS], 2, 0))
        while sum(block.shape[1] for block in self.blocks[1:]) >= DRAWS:
            self.blocks.pop(0)
        start = time.monotonic()
        if start >= self.due or event.step == event.num_steps:
            window = np.concatenate(self.blocks, axis=1)
            ess = float(np.min(diagnostics.bulk_ess(window))) * event.step / window.shape[1]
            self.metrics = {"ess": ess, "ess_chains": window.shape[0]}
            now = time.monotonic()
            self.due = now + min(20 * (now - start), 10.0)
        self.progress(
            event._replace(phase=f"sample {self.name}", metrics=event.metrics | self.metrics)
        )
