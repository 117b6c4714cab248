"""What calibration examines, at which level, and with how much work under each preset."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cells import CellSpec, check_known, plan_cells, preset_of

LEVEL = 1e-3
"""Probability that anything at all is reported against kernels that are all exact."""

TARGETS = ("banana", "mog", "funnel")
MODELS = ("normal", "hierarchy", "logistic")
SUBJECTS = (*TARGETS, *MODELS)
SHARE = LEVEL / (2 * (len(TARGETS) + 3 * len(MODELS)))
"""The level of one procedure on one sound kernel, trained or stirred: Bonferroni's share of
`LEVEL`.
"""

POWERS = (2.0, 1.5, 1.2, 1.1, 1.05, 1.02, 1.01)
"""Wrong targets: the target (or likelihood) to these powers. The first must be rejected; the others
measure power.
"""

JACOBIANS = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Wrong log-determinants: multiples of the right one. They measure power."""


@dataclass(frozen=True)
class CalibrateSettings:
    """The work of one subject.

    ``train_steps`` on ``train_chains`` chains make a kernel, ``fit_steps`` those of `capriole.fit`.
    ``num_draws`` exact draws take ``num_steps`` transitions. An exact test begins with
    ``replicates`` of them and paths of ``path_length`` states. Simulation-based calibration has
    ``num_sets`` data sets with ``num_ranked`` thinned draws each, after ``num_warmup`` steps of
    adaptive HMC and as many of the kernel; ``num_probe`` steps tell how much to thin, at most to
    every ``max_thin``-th.
    """

    train_steps: int = 1500
    train_chains: int = 256
    fit_steps: int = 300
    num_draws: int = 100_000
    num_steps: int = 10
    replicates: int = 10_000
    path_length: int = 8
    num_sets: int = 600
    num_ranked: int = 63
    num_warmup: int = 300
    num_probe: int = 400
    max_thin: int = 60

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the record."""
        return asdict(self)


_BY_PRESET: dict[str, dict[str, Any]] = {
    "smoke": {
        "train_steps": 150, "train_chains": 64, "fit_steps": 40, "num_draws": 10_000,
        "replicates": 2000, "num_sets": 200, "num_ranked": 19, "num_warmup": 100, "num_probe": 200,
        "max_thin": 20,
    },
    "laptop": {},
    "paper": {
        "train_steps": 10_000, "fit_steps": 1500, "num_draws": 1_000_000, "replicates": 100_000,
        "num_sets": 5000,
    },
}  # fmt: skip


def calibrate_settings(preset: str) -> CalibrateSettings:
    """The work under a preset. Raises ValueError for an unknown one."""
    return preset_of(CalibrateSettings(), _BY_PRESET, preset)


def plan(subjects: list[str], seed: int, preset: str, out: Path) -> list[CellSpec]:
    """The cells of ``subjects`` (all if none is named). Raises ValueError for anything unknown."""
    calibrate_settings(preset)
    for name in subjects:
        check_known(name, SUBJECTS, "subject of calibration")
    chosen = [name for name in SUBJECTS if name in subjects] or SUBJECTS
    return plan_cells(((name, "", seed) for name in chosen), preset, out)
