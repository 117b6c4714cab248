"""What `fit` is asked for, apart from the log density and the seed."""

from typing import Any, NamedTuple, Self

import numpy as np

from ..models import check_count, check_spread

CRITERIA = ("gradients", "seconds")
"""Per which an effective draw may count."""
_RANGES = {
    "num_chains": (2, 10**6),
    "num_draws": (8, 10**9),  # R-hat is not defined for fewer
    "train_steps": (0, 10**9),
    "num_warmup_chains": (16, 10**6),
}
_EFFECTIVE = (10, 10**9)
"""Smallest and largest number of effective draws that may be asked for."""

"""Smallest and largest values of counts."""


class Settings(NamedTuple):
    """The arguments of `fit` that have the same names.

    Attributes:
        num_chains: Chains of the final run, at least 2.
        num_draws: Draws of each chain.
        spread: Standard deviation of the starts.
        train_steps: Training steps of a network; 0: no networks.
        num_warmup_chains: Chains of the warm-up.
        compare: Whether NUTS is measured.
        criterion: "gradients" or "seconds".
        num_effective: Effective draws that are asked for, in the worst dimension; None: as many
            draws as ``num_draws`` says.
    """

    num_chains: int
    num_draws: int
    spread: float
    train_steps: int
    num_warmup_chains: int
    compare: bool
    criterion: str
    num_effective: int | None = None

    def checked(self) -> Self:
        """The same as plain numbers. Raises ValueError for one that cannot be."""
        if self.criterion not in CRITERIA:
            raise ValueError(
                f"criterion must be 'gradients' or 'seconds', got {self.criterion!r:.80}"
            )
        if not isinstance(self.compare, bool | np.bool):
            raise ValueError(f"compare must be True or False, got {self.compare!r:.80}")
        if self.num_chains == 1 and not isinstance(self.num_chains, bool):
            raise ValueError(
                "num_chains must be at least 2, got 1: R-hat compares chains with one another, and "
                "one chain alone cannot show what it missed; all chains share one program, so that "
                "more of them cost little"
            )
        found: dict[str, Any] = {
            name: check_count(name, getattr(self, name), *ends) for name, ends in _RANGES.items()
        }
        if self.num_effective is not None:
            found["num_effective"] = check_count("num_effective", self.num_effective, *_EFFECTIVE)
        return self._replace(spread=check_spread(self.spread), compare=bool(self.compare), **found)


def settings_from(config: dict[str, Any]) -> Settings:
    """Settings as a config.json holds them.

    Args:
        config: Plain values.

    Returns:
        The settings, checked.

    Raises:
        ValueError: One is missing, or cannot be.
    """
    values: dict[str, Any] = {name: config.get(name) for name in Settings._fields}
    try:
        return Settings(**values).checked()
    except ValueError as error:
        raise ValueError(f"the configuration cannot be: {error}") from error
