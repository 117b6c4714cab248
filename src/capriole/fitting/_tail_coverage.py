"""Whether draws went as far as the marginals of a funnel's parents say that there is mass."""

import math
from typing import Any, NamedTuple, Self

import numpy as np

from .. import diagnostics
from ..adaptation import Profile, is_middle

LEVELS = (0.5, 0.03, 0.1, 0.9, 0.97, 0.003, 0.997)
_SURE = 4.0


class Missed(NamedTuple):
    """An end of a marginal that draws missed, in words; ``reach`` is their share there over that of
    the mass, or the inverse where they went too often.
    """

    words: str
    reach: float


class Marginal(NamedTuple):
    """The values below which `LEVELS` of a dimension's mass lie."""

    dimension: int
    quantiles: tuple[float, ...]

    @classmethod
    def read(cls, values: Any, *, dim: int) -> list[Self]:
        """A list of them from plain values, whoever wrote them. Raises ValueError for anything
        else.
        """
        found = []
        for value in values if isinstance(values, list) else [None]:
            fields = value if isinstance(value, dict) else {}
            dimension, quantiles = fields.get("dimension"), fields.get("quantiles")
            numbers = (
                quantiles
                if isinstance(quantiles, list) and len(quantiles) == len(LEVELS)
                else [None]
            )
            sound = all(
                isinstance(number, float | int) and math.isfinite(number) for number in numbers
            )
            if type(dimension) is not int or not 0 <= dimension < dim or not sound:
                raise ValueError(f"no marginal of one of {dim} dimensions: {str(value)[:80]!r}")
            found.append(cls(dimension, tuple(map(float, numbers))))
        return found

    def missed(self, draws: np.ndarray) -> Missed | None:
        """Which end the ``draws`` (chains, draws) of its dimension miss most, or visit too often;
        None if neither.

        The share of the draws beyond a quantile must be between half and twice that of the mass, or
        within `_SURE` standard errors ``sqrt(p (1 - p) / ESS)`` of it. Nothing is said where the
        middle is elsewhere: the marginal is then that of another mode.
        """
        middle, *tails = self.quantiles
        if not is_middle(middle, draws):
            return None
        found = []
        ess = max(float(np.nan_to_num(diagnostics.bulk_ess(draws[:, :, None])[0])), 1.0)
        for level, value in zip(LEVELS[1:], tails, strict=True):
            side, mass = ("below", level) if level < 0.5 else ("above", 1 - level)
            share = float(np.mean(draws < value if level < 0.5 else draws > value))
            sure = abs(share - mass) > _SURE * math.sqrt(mass * (1 - mass) / ess)
            if sure and not mass / 2 <= share <= 2 * mass:
                words = (
                    f"dimension {self.dimension} is {side} {value:.3g} in {share:.2%} of the "
                    "draws, but "
                    f"{mass:.1%} of the mass lies there, the other dimensions integrated out: the "
                    "chains do not move "
                    "freely along a funnel; write it non-centred"
                )
                found.append(Missed(words, min(share / mass, mass / max(share, 1e-9))))
        return min(found, key=lambda end: end.reach, default=None)


def marginals(profile: Profile | None) -> list[dict[str, Any]]:
    """Those of the parents of a profile, as plain values."""
    parents = enumerate(profile.parents) if profile is not None else ()
    found = [Marginal(k, tuple(profile.quantile(i, level) for level in LEVELS)) for i, k in parents]  # type: ignore[union-attr]
    return [{"dimension": each.dimension, "quantiles": list(each.quantiles)} for each in found]


def unreached(position: np.ndarray, facts: Any) -> list[Missed]:
    """What draws (chains, draws, dim) miss of the marginals in ``facts``, a list of plain values;
    the worst first.
    """
    found = Marginal.read(facts, dim=position.shape[2])
    problems = [marginal.missed(position[:, :, marginal.dimension]) for marginal in found]
    return sorted(
        (problem for problem in problems if problem is not None), key=lambda end: end.reach
    )
