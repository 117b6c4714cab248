"""`capriole.fit`: warm-up, search, final run, verdict.

Read `_api` first (fit), then `_search` (the loop), `proposers` (one file for each kind of
candidate), `_selection` (the choice), `_final_run`, `_verdict` and `result`.
"""

from ._additions import hmc_move, with_finer_steps, with_small_steps
from ._api import fit
from ._budget import Account, Budget, Cost, Stage
from ._candidate import (
    NUTS,
    Addition,
    Candidate,
    Coordinates,
    Family,
    KernelMetrics,
    Kind,
    SamplerReport,
)
from ._context import Note, NoteKind, SearchContext, Stream, WarmupFacts
from ._evaluation import evaluate, validate_best
from ._final_run import (
    InMemory,
    KernelSampler,
    NutsSampler,
    PassState,
    RunStore,
    on_draws,
    phase_of,
    run_until_mixed,
)
from ._search import Proposer, SearchResult, search
from ._selection import choose, is_reliable, may_be_chosen, nuts_cannot_win
from ._settings import Settings, settings_from
from ._thresholds import EXPLORATORY_RATIO, LADDER, RUN_MULTIPLIERS
from ._verdict import RATES, Verdict, break_even, cheaper_until
from .proposers import (
    PROPOSERS,
    LongerRotations,
    LongRuns,
    ModeJumps,
    Networks,
    Nuts,
    Rotations,
    TransportMaps,
)
from .result._fit import Fit, FitFailedError, FitFailedWarning

__all__ = [
    "EXPLORATORY_RATIO",
    "LADDER",
    "NUTS",
    "PROPOSERS",
    "RATES",
    "RUN_MULTIPLIERS",
    "Account",
    "Addition",
    "Budget",
    "Candidate",
    "Coordinates",
    "Cost",
    "Family",
    "Fit",
    "FitFailedError",
    "FitFailedWarning",
    "InMemory",
    "KernelMetrics",
    "KernelSampler",
    "Kind",
    "LongRuns",
    "LongerRotations",
    "ModeJumps",
    "Networks",
    "Note",
    "NoteKind",
    "Nuts",
    "NutsSampler",
    "PassState",
    "Proposer",
    "Rotations",
    "RunStore",
    "SamplerReport",
    "SearchContext",
    "SearchResult",
    "Settings",
    "Stage",
    "Stream",
    "TransportMaps",
    "Verdict",
    "WarmupFacts",
    "break_even",
    "cheaper_until",
    "choose",
    "evaluate",
    "fit",
    "hmc_move",
    "is_reliable",
    "may_be_chosen",
    "nuts_cannot_win",
    "on_draws",
    "phase_of",
    "run_until_mixed",
    "search",
    "settings_from",
    "validate_best",
    "with_finer_steps",
    "with_small_steps",
]
