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
    MOST_DIVERGED,
    MOST_NONFINITE,
    RHAT_LIMIT,
    Tally,
    health,
    health_of,
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

__all__ = [
    "APART",
    "FITTED",
    "MOST_DIVERGED",
    "MOST_MODES",
    "MOST_NONFINITE",
    "RHAT_LIMIT",
    "Z_LIMIT",
    "Agreement",
    "Efficiency",
    "Met",
    "ModeSummary",
    "Modes",
    "Moments",
    "Place",
    "Tally",
    "agreement",
    "autocorrelation",
    "bulk_ess",
    "bulk_ess_sq",
    "efficiency",
    "farthest",
    "find_modes",
    "floored_scale",
    "health",
    "health_of",
    "labelled",
    "left_behind",
    "mean_error",
    "mode_rhat",
    "mode_summary",
    "moments",
    "paper_ess",
    "places",
    "put_back",
    "quick_ess",
    "rhat",
    "rhat_limit",
    "rounding",
    "spread_out",
    "tally",
    "training_health",
    "worst_ess",
    "worst_rhat",
    "z_scores",
]
