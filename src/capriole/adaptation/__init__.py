"""What is learnt of a density before kernels are chosen.

Read `_warmup` first (windows of HMC), then `_laplace_marginals` (where chains of a funnel ought to
have been), `_properness` and `_expected_cost`.
"""

from ._expected_cost import expected_cost, gradient_seconds
from ._laplace_marginals import Profile, bending, profile
from ._logdensities import logdensities
from ._properness import refuse_improper
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
    "gradient_seconds",
    "logdensities",
    "profile",
    "refuse_improper",
    "start_state",
    "whiten_by_gradients",
]
