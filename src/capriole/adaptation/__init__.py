"""What is learnt of a density before kernels are chosen.

Read `_warmup` first (windows of HMC), then `_laplace_marginals` (where chains of a funnel ought to
have been) and `_properness`.
"""

from ._laplace_marginals import Profile, bending, profile
from ._logdensities import logdensities
from ._properness import refuse_improper
from ._thresholds import CHUNK, LOST
from ._warmup import Exploration, by_gradients, explore, start_state

__all__ = [
    "CHUNK",
    "LOST",
    "Exploration",
    "Profile",
    "bending",
    "by_gradients",
    "explore",
    "logdensities",
    "profile",
    "refuse_improper",
    "start_state",
]
