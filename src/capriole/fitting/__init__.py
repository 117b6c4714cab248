"""`capriole.fit`: warm-up, search, final run, verdict.

Read `_api` first (fit), then `_search` (the loop), `proposers` (one file for each kind of
candidate), `_selection` (the choice), `_final_run` and `_verdict`.
"""

from ._additions import hmc_move
from ._api import Fit, fit
from ._budget import Cost
from ._candidate import NUTS, Addition, Coordinates, Family, KernelMetrics, Kind, SamplerReport
from ._context import Note, NoteKind, WarmupFacts
from ._evaluation import evaluate
from ._final_run import PassState, RunStore, on_draws, phase_of
from ._search import Proposer, SearchResult
from ._settings import Settings, settings_from
from ._thresholds import EXPLORATORY_RATIO, RUN_MULTIPLIERS
from ._verdict import Verdict

__all__ = [
    "EXPLORATORY_RATIO",
    "NUTS",
    "RUN_MULTIPLIERS",
    "Addition",
    "Coordinates",
    "Cost",
    "Family",
    "Fit",
    "KernelMetrics",
    "Kind",
    "Note",
    "NoteKind",
    "PassState",
    "Proposer",
    "RunStore",
    "SamplerReport",
    "SearchResult",
    "Settings",
    "Verdict",
    "WarmupFacts",
    "evaluate",
    "fit",
    "hmc_move",
    "on_draws",
    "phase_of",
    "settings_from",
]
