"""What section 5.1 is measured on, and how much of it: one registry, three presets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..baselines import NiceRecipe
from ..cells import CellSpec, check_known, plan_cells, preset_of

TOY_TARGETS = ("icg", "scg", "mog", "mog-asym", "mog2", "rough-well", "rougher-well", "funnel")


@dataclass(frozen=True)
class ToySettings:
    """The baselines' budget for one (target, seed).

    Training and sampling of L2HMC follow `Settings`, but for ``num_chains`` where it is given.

    ``paper_leapfrogs`` is the M that the paper gives HMC; ``lengths`` are those among which HMC
    finds its own best, with ``num_sizes`` step sizes each, twice (a coarse grid and a fine one).
    ``nice`` asks for A-NICE-MC, ``burn_in_weight`` above 0 for the comparison of burn-in, made for
    seeds below ``burn_in_seeds``.
    """

    num_chains: int | None = None
    paper_leapfrogs: int = 10
    lengths: tuple[int, ...] = (1, 3, 10, 30, 60, 120)
    num_sizes: int = 8
    jitter: float = 0.2
    tuning_chains: int = 24
    tuning_steps: int = 1000
    baseline_chains: int = 100
    baseline_steps: int = 2000
    peers: tuple[str, ...] = ("nuts", "nuts-dense", "chees")
    peer_chains: int = 64
    peer_draws: int = 1000
    peer_warmup: int = 500
    refreshes: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    num_looks: int = 4
    nice: NiceRecipe | None = None
    burn_in_weight: float = 0.0
    burn_in_seeds: int = 1
    burn_in_steps: int = 1000


_BURN_IN = {"burn_in_weight": 0.1}

_BY_TARGET: dict[str, dict[str, Any]] = {
    # The measures take far longer than the draws in 50 dimensions; 50 chains are plenty there.
    "icg": _BURN_IN
    | {
        "num_chains": 50,
        "tuning_chains": 6,
        "baseline_chains": 32,
        "peer_chains": 32,
        "peers": ("nuts", "chees"),
    },
    "scg": _BURN_IN,
    "mog": _BURN_IN,
    "mog-asym": {"nice": NiceRecipe()},
    "mog2": {"nice": NiceRecipe()},
    "rougher-well": {"peer_chains": 16, "peer_draws": 500, "peer_warmup": 300},
    "funnel": {"tuning_chains": 12},
}

_NICE = {
    "smoke": NiceRecipe(
        width=16,
        critic_width=16,
        epochs=2,
        epoch_steps=20,
        num_chains=8,
        num_draws=50,
        num_warmup=10,
    ),
    "paper": NiceRecipe(width=400, critic_width=400, epochs=40, num_draws=5000, num_warmup=1000),
}

_BY_PRESET: dict[str, dict[str, Any]] = {
    "smoke": {
        "lengths": (10,), "num_sizes": 4, "tuning_chains": 4, "tuning_steps": 60,
        "baseline_chains": 8, "baseline_steps": 100, "peers": ("nuts",), "peer_chains": 8,
        "peer_draws": 50, "peer_warmup": 50, "refreshes": (0.1, 1.0), "burn_in_steps": 100,
        "num_chains": None,
    },
    "laptop": {},
    "paper": {"tuning_steps": 2000, "baseline_steps": 5000, "burn_in_seeds": 3},
}  # fmt: skip


def toy_settings(target: str, preset: str = "laptop") -> ToySettings:
    """The budget of a target under a preset. Raises ValueError for unknown ones."""
    check_known(target, TOY_TARGETS, "target of section 5.1")
    found = preset_of(ToySettings(), _BY_PRESET, preset, _BY_TARGET.get(target, {}))
    return replace(found, nice=_NICE.get(preset, found.nice)) if found.nice else found


def plan(targets: list[str], num_seeds: int, preset: str, out: Path) -> list[CellSpec]:
    """The cells: all targets at seed 0 first. Raises ValueError for anything unknown."""
    for target in targets:
        toy_settings(target, preset)
    return plan_cells(((t, "", seed) for seed in range(num_seeds) for t in targets), preset, out)
