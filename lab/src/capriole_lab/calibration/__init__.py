"""Is a kernel exact? Statistical tests with a stated level, and the bugs they must find."""

from ._controls import BUGS, Bug, bugs_of, spoiled, stirred
from ._exact import Sequential, reversible_path, sequential
from ._models import AbstractModel, Hierarchy, LogisticModel, NormalModel, Posterior, retargeted
from ._statistics import (
    RankBand,
    autocorrelation_times,
    chi_square_p,
    ecdf_band,
    ecdf_p,
    found_distance,
    one_sample_p,
    randomised_ranks,
    two_sample_p,
)
from ._walk import invariance_p, walk

__all__ = [
    "BUGS",
    "AbstractModel",
    "Bug",
    "Hierarchy",
    "LogisticModel",
    "NormalModel",
    "Posterior",
    "RankBand",
    "Sequential",
    "autocorrelation_times",
    "bugs_of",
    "chi_square_p",
    "ecdf_band",
    "ecdf_p",
    "found_distance",
    "invariance_p",
    "one_sample_p",
    "randomised_ranks",
    "retargeted",
    "reversible_path",
    "sequential",
    "spoiled",
    "stirred",
    "two_sample_p",
    "walk",
]
