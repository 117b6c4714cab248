"""Diagnostics of draws: arrays in, numbers and problems out.

Read in this order:

- `_statistics`: ESS, R-hat, moments and their errors, by ArviZ and as in the paper;
- `_fast`: the worst ESS and R-hat of many dimensions, cheaply;
- `_dispersion`: how far apart chains are, and positions that draws miss;
- `_modes`: which chains sit together, and how often chains visit each mode;
- `_health`: what went wrong in a run, with a remedy;
- `_agreement`: comparison with reference draws.
"""

from ._agreement import Z_LIMIT, Agreement, agreement
from ._dispersion import (
    APART,
    Met,
    farthest,
    floored_scale,
    left_behind,
    put_back,
    spread_out,
)
from ._fast import quick_ess, worst_ess, worst_rhat
from ._health import (
    FITTED,
    RHAT_LIMIT,
    Tally,
    health,
    health_of,
    not_mixed,
    rounding,
    tally,
    training_health,
)
from ._modes import (
    MOST_MODES,
    Modes,
    ModeSummary,
    Place,
    find_modes,
    labelled,
    mode_rhat,
    mode_summary,
    places,
)
from ._problems import Problem, ProblemKind, Severity, fatal
from ._reference_check import Difference, ModeShare, ReferenceCheck, reference_check
from ._statistics import (
    Efficiency,
    Moments,
    autocorrelation,
    bulk_ess,
    bulk_ess_sq,
    efficiency,
    mean_error,
    moments,
    paper_ess,
    rhat,
    rhat_limit,
    z_scores,
)
from ._tail_coverage import LEVELS, Marginal, is_middle, sticky_tails, tail_problems
from ._thresholds import THRESHOLDS, Thresholds

__all__ = [
    "APART",
    "FITTED",
    "LEVELS",
    "MOST_MODES",
    "RHAT_LIMIT",
    "THRESHOLDS",
    "Z_LIMIT",
    "Agreement",
    "Difference",
    "Efficiency",
    "Marginal",
    "Met",
    "ModeShare",
    "ModeSummary",
    "Modes",
    "Moments",
    "Place",
    "Problem",
    "ProblemKind",
    "ReferenceCheck",
    "Severity",
    "Tally",
    "Thresholds",
    "agreement",
    "autocorrelation",
    "bulk_ess",
    "bulk_ess_sq",
    "efficiency",
    "farthest",
    "fatal",
    "find_modes",
    "floored_scale",
    "health",
    "health_of",
    "is_middle",
    "labelled",
    "left_behind",
    "mean_error",
    "mode_rhat",
    "mode_summary",
    "moments",
    "not_mixed",
    "paper_ess",
    "places",
    "put_back",
    "quick_ess",
    "reference_check",
    "rhat",
    "rhat_limit",
    "rounding",
    "spread_out",
    "sticky_tails",
    "tail_problems",
    "tally",
    "training_health",
    "worst_ess",
    "worst_rhat",
    "z_scores",
]
