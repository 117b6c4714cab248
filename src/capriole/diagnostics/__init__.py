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
    SEPARATION,
    ExploredPoints,
    farthest,
    farthest_point_subset,
    floored_scale,
    missed_high_density_points,
    reseed_chains,
)
from ._fast import fast_ess, fast_max_rhat, fast_min_ess
from ._health import (
    FIT_REMEDIES,
    RHAT_LIMIT,
    Tally,
    health,
    health_of_tally,
    not_mixed,
    rounding,
    tally,
    training_health,
)
from ._modes import (
    MAX_MODES,
    ModeOccupation,
    Modes,
    ModeSearch,
    ModeSummary,
    assign_modes,
    find_modes,
    mode_occupation,
    mode_rhat,
    summarise_modes,
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
    "FIT_REMEDIES",
    "LEVELS",
    "MAX_MODES",
    "RHAT_LIMIT",
    "SEPARATION",
    "THRESHOLDS",
    "Z_LIMIT",
    "Agreement",
    "Difference",
    "Efficiency",
    "ExploredPoints",
    "Marginal",
    "ModeOccupation",
    "ModeSearch",
    "ModeShare",
    "ModeSummary",
    "Modes",
    "Moments",
    "Problem",
    "ProblemKind",
    "ReferenceCheck",
    "Severity",
    "Tally",
    "Thresholds",
    "agreement",
    "assign_modes",
    "autocorrelation",
    "bulk_ess",
    "bulk_ess_sq",
    "efficiency",
    "farthest",
    "farthest_point_subset",
    "fast_ess",
    "fast_max_rhat",
    "fast_min_ess",
    "fatal",
    "find_modes",
    "floored_scale",
    "health",
    "health_of_tally",
    "is_middle",
    "mean_error",
    "missed_high_density_points",
    "mode_occupation",
    "mode_rhat",
    "moments",
    "not_mixed",
    "paper_ess",
    "reference_check",
    "reseed_chains",
    "rhat",
    "rhat_limit",
    "rounding",
    "sticky_tails",
    "summarise_modes",
    "tail_problems",
    "tally",
    "training_health",
    "z_scores",
]
