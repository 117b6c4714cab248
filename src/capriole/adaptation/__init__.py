"""What is learned of a density before kernels are chosen: warm-up, marginals of parents,
properness.
"""

from ._laplace_marginals import Profile, bending, profile
from ._logdensities import logdensities
from ._properness import refuse_improper
from ._warmup import CHUNK, LOST, Exploration, by_gradients, explore, start_state

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
