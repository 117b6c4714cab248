"""What "well tuned" means for the HMC baseline: the scores its step size is chosen by."""

from collections.abc import Callable
from typing import Any

import numpy as np

from capriole import diagnostics

from ..targets import AbstractExactTarget


def centre_of(target: Any, draws: np.ndarray) -> np.ndarray:
    """The target's exact mean where it is known (zero for NaN), else that of the draws."""
    exact = isinstance(target, AbstractExactTarget)
    return np.nan_to_num(np.asarray(target.mean, np.float64)) if exact else draws.mean(axis=(0, 1))


def worst_score(target: Any) -> Callable[[np.ndarray], float]:
    """Worst dimension's bulk ESS, of x and of its square."""

    def score(draws: np.ndarray) -> float:
        centre = centre_of(target, draws)
        return float(
            min(np.min(diagnostics.bulk_ess(draws)), np.min(diagnostics.bulk_ess_sq(draws, centre)))
        )

    return score


def mixed_score(target: Any) -> Callable[[np.ndarray], float]:
    """`worst_score`, a thousandth of it below 5 effective draws per chain.

    So few say that the chains have not mixed (R-hat above about 1.1), and the estimate is then
    mostly the number of chains: compared over trajectory lengths per gradient, the shortest and
    most useless one would win.
    """
    worst = worst_score(target)

    def score(draws: np.ndarray) -> float:
        ess = worst(draws)
        return ess if ess >= 5 * len(draws) else ess / 1000

    return score


def paper_score(target: Any) -> Callable[[np.ndarray], float]:
    """The paper's ESS per step."""
    return lambda draws: diagnostics.paper_ess(draws, centre_of(target, draws))
