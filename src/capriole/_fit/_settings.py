"""What `fit` is asked for, apart from the log density and the seed."""

from typing import Any, NamedTuple

CRITERIA = ("gradients", "seconds")
SCOUTS = 3
"""Scouts of the pilot for each of its chains."""
MAX_RHAT = 1.01
"""R-hat from which on final chains are made longer."""
THINS = (1, 4, 16)
"""How many times as long, thinned to as many draws."""
_RANGES = {
    "num_chains": (4, 10**6),
    "num_draws": (1, 10**9),
    "train_steps": (0, 10**9),
    "num_pilot_chains": (16, 10**6),
}


class Settings(NamedTuple):
    """The arguments of `fit` that have the same names."""

    num_chains: int
    num_draws: int
    spread: float
    train_steps: int
    num_pilot_chains: int
    compare: bool
    criterion: str

    def check(self) -> None:
        """Raise ValueError for values that cannot work."""
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion must be 'gradients' or 'seconds', got {self.criterion!r}")
        if self.num_chains < 4 or self.num_pilot_chains < 16:
            raise ValueError(
                f"need at least 4 chains and 16 pilot chains, got {self.num_chains} and {self.num_pilot_chains}"
            )


def settings_from(config: dict[str, Any]) -> Settings:
    """Settings as a config.json holds them. Raises ValueError for one missing, of the wrong kind or too large."""
    values: dict[str, Any] = {name: config.get(name) for name in Settings._fields}
    for name, (low, high) in _RANGES.items():
        value = values[name]
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"the configuration has {name} = {str(value)[:80]!r}, expected {low} to {high}")
    spread, compare = values["spread"], values["compare"]
    if type(spread) not in (int, float) or not abs(spread) < 1e300:
        raise ValueError(f"the configuration has spread = {str(spread)[:80]!r}, expected a finite number")
    if type(compare) is not bool or values["criterion"] not in CRITERIA:
        raise ValueError("the configuration has a value of compare or criterion that cannot be")
    return Settings(**values | {"spread": float(spread)})
