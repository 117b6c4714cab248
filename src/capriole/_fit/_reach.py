"""Whether draws went as far as the marginals of a funnel's parents say that there is mass."""

from typing import Any

import numpy as np

from .. import diagnostics
from .._profile import Profile

_LEVELS = (0.01, 0.03, 0.1, 0.9, 0.97, 0.99)
_SURE = 4.0


def described(profile: Profile | None) -> list[dict[str, Any]]:
    """Quantiles of the parents as plain values."""
    if profile is None:
        return []
    return [
        {"dimension": parent, "quantiles": [[level, profile.quantile(i, level)] for level in (0.5, *_LEVELS)]}
        for i, parent in enumerate(profile.parents)
    ]


def unreached(position: np.ndarray, facts: Any) -> list[str]:
    """What is missing in draws (chains, draws, dim) against the marginals of ``facts``, whoever wrote them.

    A tail is missing, or overfull, if its share of the draws is less than half or more than twice that of the mass, and
    further from it than `_SURE` standard errors ``sqrt(p (1 - p) / ESS)``. Nothing is said of a dimension whose middle
    is elsewhere: its marginal is then that of another mode.
    """
    problems = []
    for fact in facts if isinstance(facts, list) else []:
        dimension = fact["dimension"]
        values = position[:, :, dimension]
        (_, middle), *tails = fact["quantiles"]
        if not 0.3 < np.mean(values < middle) < 0.7:
            continue
        ess = float(np.nan_to_num(diagnostics.bulk_ess(values[:, :, None])[0]))
        for level, value in tails:
            side, mass = ("below", level) if level < 0.5 else ("above", 1 - level)
            share = float(np.mean(values < value if level < 0.5 else values > value))
            error = np.sqrt(mass * (1 - mass) / max(ess, 1.0))
            if not mass / 2 <= share <= 2 * mass and abs(share - mass) > _SURE * error:
                problems.append(
                    f"error: dimension {dimension} is {side} {value:.3g} in {share:.2%} of the draws, but {mass:.0%} "
                    "of the mass lies there, the other dimensions integrated out: the chains miss an end of a funnel"
                )
                break
    return problems
