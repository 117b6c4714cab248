"""What is learnt of a density before kernels are chosen.

Read `_warmup` first (windows of HMC), then `_laplace_marginals` (where chains of a funnel ought to
have been), `_properness` and `_expected_cost`.
"""

from ._expected_cost import expected_cost, gradient_seconds
from ._laplace_marginals import Profile, bending, profile
from ._logdensities import logdensities
from ._mode_search import search_modes
from ._properness import refuse_improper
from ._short_warmup import explore_briefly
from ._thresholds import CHUNK, NEGLIGIBLE_NATS
from ._warmup import WarmupResult, explore, start_state, whiten_by_gradients

__all__ = [
    "CHUNK",
    "NEGLIGIBLE_NATS",
    "Profile",
    "WarmupResult",
    "bending",
    "expected_cost",
    "explore",
    "explore_briefly",
    "gradient_seconds",
    "logdensities",
    "profile",
    "refuse_improper",
    "search_modes",
    "start_state",
    "whiten_by_gradients",
]
