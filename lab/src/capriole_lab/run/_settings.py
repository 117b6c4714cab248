"""How each target is trained and measured: one registry, three presets."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..cells import preset_of


@dataclass(frozen=True)
class Settings:
    """Everything that a run can vary. Defaults are the paper's protocol where it has one.

    ``objective`` is ``log_esjd`` (`LogESJD` with the weights below, plus ``jump_weight`` times
    `LogJump`), ``log_jump`` or ``paper``.

    ``start`` is where training starts: ``hmc``, or ``surrogate`` (`surrogate_force`, at a rotation
    by a right angle). ``squashed`` networks see arcsinh of their inputs; ``feature`` maps x in
    ``log_esjd``: ``arcsinh``, ``norm`` (which adds |x|) or none. ``companion_moves`` plain HMC
    moves with log-uniform step sizes follow each learned one in training; ``hmc_share`` is the
    probability of such a move in the kernel that samples (a `Mixture`; 0: the learned one alone).
    ``candidates`` kernels are trained for ``candidate_steps``; that with the lowest loss goes on
    for ``train_steps``. ``stopped_force`` keeps second derivatives out of the training signal, for
    targets whose force is mostly noise. ``start_temperature`` above 1 starts training on a
    flattened density and cools it over the first 70 %. ``start_scale`` is the standard deviation of
    the training starts (0: the target's own over-dispersed starts).
    """

    num_leapfrogs: int = 10
    width: int = 10
    step_size: float = 0.0
    candidates: int = 1
    candidate_steps: int = 2500
    train_steps: int = 8000
    train_chains: int = 200
    learning_rate: float = 5e-3
    objective: str = "log_esjd"
    acceptance_weight: float = 3.0
    ceiling: float = 2.1
    fold: float = 2.0
    jump_weight: float = 0.0
    stopped_force: bool = False
    start: str = "hmc"
    squashed: bool = False
    feature: str = ""
    companion_moves: int = 0
    companion_leapfrogs: int = 5
    companion_range: tuple[float, float] = (0.02, 3.0)
    hmc_share: float = 0.0
    start_temperature: float = 1.0
    start_scale: float = 0.0
    num_chains: int = 200
    num_steps: int = 2000
    tuning_chains: int = 60
    tuning_steps: int = 2000

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for config.json."""
        return asdict(self)


DEFAULT = Settings()

_MOST = {
    "num_leapfrogs": 10_000,
    "width": 10_000,
    "candidates": 1000,
    "train_chains": 10**6,
    "num_chains": 10**6,
}
_MOST |= {"companion_moves": 100, "companion_leapfrogs": 10_000, "hmc_share": 1}
"""Largest values that a stored configuration may ask for, so that reading one never fills the
memory.
"""


_ROUGH: dict[str, Any] = {
    "num_leapfrogs": 1, "start": "surrogate", "stopped_force": True, "train_steps": 500,
    "learning_rate": 1e-3, "acceptance_weight": 1.0,
}  # fmt: skip

_FAR_MODES: dict[str, Any] = {
    "objective": "log_jump", "start_temperature": 60.0, "start_scale": 6.0, "num_leapfrogs": 4,
    "step_size": 0.1, "width": 32, "squashed": True, "train_chains": 512, "train_steps": 10000,
    "learning_rate": 3e-3, "companion_moves": 2, "companion_leapfrogs": 3,
    "companion_range": (0.01, 1.0), "hmc_share": 0.2,
}  # fmt: skip

_BY_TARGET: dict[str, dict[str, Any]] = {
    "icg": {"width": 100, "train_steps": 1000, "tuning_chains": 6, "tuning_steps": 1000},
    "scg": {"candidates": 4, "candidate_steps": 2000, "train_steps": 6000, "step_size": 0.1},
    "rough-well": _ROUGH,
    "rougher-well": _ROUGH,
    "funnel": {
        "num_leapfrogs": 2,
        "width": 64,
        "squashed": True,
        "feature": "arcsinh",
        "acceptance_weight": 1.0,
        "learning_rate": 2e-3,
        "train_steps": 20000,
        "companion_moves": 1,
        "hmc_share": 0.2,
    },
    "banana": {
        "num_leapfrogs": 5,
        "ceiling": 1e9,
        "acceptance_weight": 4.0,
        "learning_rate": 3e-3,
        "hmc_share": 0.2,
    },
    "rings": {
        "num_leapfrogs": 3,
        "width": 64,
        "squashed": True,
        "feature": "norm",
        "start_temperature": 10.0,
        "start_scale": 3.0,
        "learning_rate": 3e-3,
        "train_steps": 10000,
        "companion_moves": 1,
        "companion_range": (0.1, 2.0),
        "hmc_share": 0.2,
    },
    "mog": _FAR_MODES | {"start_temperature": 10.0, "start_scale": 3.0},
    "mog-asym": _FAR_MODES,
    "mog2": _FAR_MODES,
    "logistic": {
        "num_leapfrogs": 4,
        "width": 30,
        "train_steps": 1500,
        "train_chains": 100,
        "tuning_chains": 20,
        "tuning_steps": 800,
    },
}

_BY_PRESET: dict[str, dict[str, Any]] = {
    "smoke": {
        "candidates": 1, "train_steps": 60, "train_chains": 32, "num_chains": 16, "num_steps": 200,
        "tuning_chains": 2, "tuning_steps": 100,
    },
    "laptop": {},
    "paper": {"train_steps": 20000, "num_steps": 5000, "tuning_chains": 50},
}  # fmt: skip


def settings_for(target: str, preset: str = "laptop", **overrides: Any) -> Settings:
    """Settings of a target (those without any of their own, and "", get the defaults) under a
    preset.

    Raises ValueError for an unknown preset or setting.
    """
    chosen = {k: v for k, v in overrides.items() if v is not None}
    unknown = set(chosen) - set(asdict(DEFAULT))
    if unknown:
        raise ValueError(f"unknown settings {sorted(unknown)}; known are {sorted(asdict(DEFAULT))}")
    return replace(preset_of(DEFAULT, _BY_PRESET, preset, _BY_TARGET.get(target, {})), **chosen)


def settings_from(config: dict[str, Any]) -> Settings:
    """Settings as a config.json holds them; fields that it lacks have their defaults.

    Raises ValueError for a value of the wrong kind, below 0 or absurdly large.
    """
    chosen: dict[str, Any] = {}
    for name, default in asdict(DEFAULT).items():
        value = config.get(name, default)
        kind = type(default)
        if kind is tuple:
            chosen[name] = _range(name, value)
            continue
        if isinstance(value, int) and not isinstance(value, bool) and kind is float:
            value = float(value) if abs(value) < 2**53 else value
        if type(value) is not kind:
            raise ValueError(
                f"the configuration has {name} = {str(value)[:80]!r}, expected {kind.__name__}"
            )
        if kind in (int, float) and not 0 <= value <= _MOST.get(name, 10**9):
            raise ValueError(
                f"the configuration has {name} = {value}, expected 0 to {_MOST.get(name, 10**9)}"
            )
        chosen[name] = value
    return Settings(**chosen)


def _range(name: str, value: Any) -> tuple[float, float]:
    sound = (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(type(v) in (int, float) for v in value)
    )
    if not sound or not 0 < value[0] < value[1] <= 10**9:
        raise ValueError(
            f"the configuration has {name} = {str(value)[:80]!r}, expected two numbers, low and "
            "high"
        )
    return float(value[0]), float(value[1])
