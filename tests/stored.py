"""What a search of `capriole.fit` might find, without a search.

Tests of bookkeeping, interruption and replacement start from it: `Stored` hands it to `fit` where a
search would run, and `quick_nuts` stands for NUTS.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capriole.adaptation import WarmupResult
from capriole.coordinates import Whitened, Whitening, identity
from capriole.diagnostics import Modes
from capriole.fitting import (
    NUTS,
    Account,
    Budget,
    Candidate,
    Coordinates,
    Cost,
    InMemory,
    KernelMetrics,
    Kind,
    SamplerReport,
    SearchContext,
    SearchResult,
    Settings,
    WarmupFacts,
    _final_run,
)
from capriole.fitting.proposers import _nuts
from capriole.kernels import Rotation, Transition
from capriole.runtime import Progress
from capriole.sampling import CountedDraws
from densities import Gaussian

SCALE = np.array([1.0, 30.0, 0.02])
GAUSSIAN = Gaussian(jnp.asarray(SCALE))
PLANE = Gaussian(jnp.ones(2))
SEARCH_COST = Cost(5000, 2.0, 1.0)
"""What the stored search took."""


def settings(**changes: Any) -> Settings:
    """Small settings of a fit."""
    return Settings(8, 300, 1.0, 0, 16, True, "gradients")._replace(**changes)


def metrics(worst: float = 0.3, **changes: Any) -> KernelMetrics:
    """Figures of a kernel with ``worst`` effective draws per gradient."""
    return KernelMetrics(worst, worst, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)._replace(**changes)


def row(kind: Kind = Kind.ROTATION, worst: float = 0.3, **changes: Any) -> SamplerReport:
    """A row of the verdict with ``worst`` effective draws per gradient."""
    num_leapfrogs = None if kind is Kind.NUTS else 1
    made = SamplerReport(
        kind, Coordinates.AFFINE, (), num_leapfrogs, worst, worst, 1.0, 0.9, 1.0, 4000, 1.5
    )
    return made._replace(**changes)


def candidate(
    kind: Kind = Kind.ROTATION, worst: float = 0.1, transition: Any = None, **changes: Any
) -> Candidate:
    """A candidate, as if it had been measured."""
    values = {"num_leapfrogs": 1, "account": Account()} | changes
    return Candidate(kind=kind, transition=transition, metrics=metrics(worst), **values)


def exploration(dim: int = 2, num_chains: int = 16, **changes: Any) -> WarmupResult:
    """A warm-up on N(0, I) whose chains agreed."""
    draws = np.random.default_rng(0).normal(size=(num_chains, 50, dim))
    white = identity(dim, jnp.zeros(()).dtype)
    made = WarmupResult(
        position=jnp.asarray(draws[:, -1].T),
        draws=draws,
        lp=-np.sum(draws**2, axis=2) / 2,
        whitening=white,
        fisher=None,
        rhat_max=1.0,
        max_separation=1.0,
        step_size=0.3,
        acceptance_rate=0.9,
        num_windows=2,
        num_negligible=0,
        num_stuck=0,
        num_missed=0,
        modes=Modes(np.zeros(num_chains, int), np.zeros(1)),
        num_gradients=1000,
        seconds=1.0,
        compile_seconds=1.0,
    )
    return made._replace(**changes)


def context(
    candidates: Sequence[Candidate] = (),
    *,
    target: Any = PLANE,
    warmup: WarmupResult | None = None,
    **changes: Any,
) -> SearchContext:
    """What a search knows after a warm-up on N(0, I)."""
    keys = [jax.random.key(i) for i in range(3)]
    warmup = exploration() if warmup is None else warmup
    with Budget() as budget:
        pass  # its clock stops, its accounts stay open
    return SearchContext(
        target, settings(**changes), budget, *keys, None, warmup, tuple(candidates)
    )


def warmup_facts(**changes: Any) -> WarmupFacts:
    """What a verdict needs of a warm-up without any trouble."""
    return WarmupFacts(2, 1.0, 1.0, True, 0, 0, 0, 1, 0.3, 0.9, 3000, 1.0, 1.0)._replace(**changes)


def stored_found(
    target: Any, scale: Any = SCALE, *, num_chains: int = 8, kernel: Any = None, **changes: Any
) -> SearchResult:
    """What a search finds on a Gaussian of these scales: one rotation, in white coordinates."""
    scale = np.asarray(scale)
    dim = len(scale)
    whitening = Whitening(jnp.zeros(dim), jnp.asarray(scale), jnp.zeros((dim, 0)), jnp.zeros(0))
    if kernel is None:
        rotation = Rotation(jnp.asarray(1.4), jnp.asarray(1))
        kernel = Transition(Whitened(target, whitening), rotation)
    starts = jnp.asarray(
        np.random.default_rng(0).normal(size=(dim, max(8, num_chains))) * scale[:, None]
    )
    made = SearchResult(
        chosen="rotation",
        best_candidate="rotation",
        kernel=kernel,
        rows=(row(),),
        starts=starts[:, :num_chains],
        dispersed_starts=starts[:, :8],
        notes=(),
        spent=SEARCH_COST,
        compared=None,
        decided=False,
        training=Cost(),
        warmup=warmup_facts(),
    )
    return made._replace(**changes)


def search_of(scale: Any = SCALE, **changes: Any) -> Any:
    """What stands for the search of `fit`: it says that it began, and finds what is stored."""

    def search(
        keys: Any, target: Any, position: Any, settings: Settings, progress: Any, **_: Any
    ) -> SearchResult:
        if progress is not None:
            progress(Progress("warmup", 1, 1, 0.1, {}))
        return stored_found(target, scale, num_chains=settings.num_chains, **changes)

    return search


BY_NUTS = {
    "chosen": NUTS,
    "rows": (row(), row(Kind.NUTS)),
    "compared": Cost(9, 1.0, 1.0),
    "decided": True,
}
"""Changes of a stored search that chose NUTS."""


class Stored(InMemory):
    """A keeper whose search was made before; nothing outlives the call."""

    def __init__(self, scale: Any = SCALE, **changes: Any):
        self.scale, self.changes = scale, changes

    def search(self, target: Any, find: Any) -> SearchResult:
        """What was stored."""
        return stored_found(target, self.scale, **self.changes)


def peer(position: np.ndarray, **changes: Any) -> CountedDraws:
    """Draws of NUTS with these positions, ten gradients each."""
    num = 10 * position.shape[0] * position.shape[1]
    return CountedDraws(position, num, 100, 1.0, 1.0, 0.5, 0.8, 0, {})._replace(**changes)


def quick_nuts(monkeypatch: Any, scale: Any = SCALE) -> list[int]:
    """Independent draws of a Gaussian in the place of NUTS's; returns the lengths of its runs."""
    lengths: list[int] = []

    def draw(key: Any, target: Any, starts: Any, *, num_draws: int, **_: Any) -> CountedDraws:
        lengths.append(num_draws)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        noise = rng.normal(size=(starts.shape[1], num_draws, len(scale)))
        return peer(noise * np.asarray(scale))

    monkeypatch.setattr(_nuts, "draw_nuts", draw)
    monkeypatch.setattr(_final_run, "draw_nuts", draw)
    return lengths
