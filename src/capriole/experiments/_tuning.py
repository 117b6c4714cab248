"""What "well tuned" means for the HMC baseline: the scores its step size is chosen by."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import diagnostics


def centre_of(target: Any, draws: np.ndarray) -> np.ndarray:
    """The target's exact mean where it is known, zero where it is NaN; else the mean of the draws."""
    return np.nan_to_num(np.asarray(target.mean, np.float64)) if hasattr(target, "mean") else draws.mean(axis=(0, 1))


def worst_score(target: Any) -> Callable[[np.ndarray], float]:
    """Worst dimension's bulk ESS, of x and of its square."""

    def score(draws: np.ndarray) -> float:
        centre = centre_of(target, draws)
        return float(min(np.min(diagnostics.bulk_ess(draws)), np.min(diagnostics.bulk_ess_sq(draws, centre))))

    return score


def paper_score(target: Any) -> Callable[[np.ndarray], float]:
    """The paper's ESS per step."""
    return lambda draws: diagnostics.paper_ess(draws, centre_of(target, draws))
