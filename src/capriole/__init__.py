"""Learned MCMC kernels: train a neural generalisation of HMC on a log density, prove it exact and faster, sample.

Names are loaded on first use, so that ``import capriole`` allocates nothing and changes no JAX setting.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import diagnostics, targets
    from ._dynamics import (
        AbstractDynamics,
        CrankNicolson,
        Leapfrog,
        LearnedLeapfrog,
        Rotation,
        affine,
        learned_leapfrog,
        rotation_step_sizes,
    )
    from ._fit import Fit, Verdict, fit
    from ._front import sample, to_datatree, train
    from ._io import KernelFileError, load, save
    from ._jump import ModeJump
    from ._logdensity import AbstractLogDensity, PerChain, StoppedForce, Tempered
    from ._networks import MLP, SQT, AbstractNetwork, Squashed
    from ._objectives import AbstractObjective, LogESJD, LogJump, PaperLoss, WeightedSum
    from ._sample import Draws, draw_chains
    from ._schedules import adam, cooling, decay
    from ._starts import surrogate_force
    from ._train import (
        Progress,
        Recipe,
        TrainingDivergedError,
        TrainResult,
        TrainState,
        train_step,
    )
    from ._train import train as train_kernel
    from ._transition import AbstractTransition, Jittered, Mixture, Repeated, Transition, hmc
    from ._transport import Transported, TransportMap
    from ._transport_fit import estimate_transport
    from ._types import Info, Phase, State
    from ._whitening import Whitened, Whitening, estimate_whitening, fisher_whitening

__version__ = "0.1.0"

_HOMES = {
    "_dynamics": (
        "AbstractDynamics",
        "CrankNicolson",
        "Leapfrog",
        "LearnedLeapfrog",
        "Rotation",
        "affine",
        "learned_leapfrog",
        "rotation_step_sizes",
    ),
    "_fit": ("Fit", "Verdict", "fit"),
    "_front": ("sample", "to_datatree", "train"),
    "_io": ("KernelFileError", "load", "save"),
    "_jump": ("ModeJump",),
    "_logdensity": ("AbstractLogDensity", "PerChain", "StoppedForce", "Tempered"),
    "_networks": ("MLP", "SQT", "AbstractNetwork", "Squashed"),
    "_objectives": ("AbstractObjective", "LogESJD", "LogJump", "PaperLoss", "WeightedSum"),
    "_sample": ("Draws", "draw_chains"),
    "_schedules": ("adam", "cooling", "decay"),
    "_starts": ("surrogate_force",),
    "_train": (
        "Progress",
        "Recipe",
        "TrainResult",
        "TrainState",
        "TrainingDivergedError",
        "train_step",
    ),
    "_transition": ("AbstractTransition", "Jittered", "Mixture", "Repeated", "Transition", "hmc"),
    "_transport": ("TransportMap", "Transported"),
    "_transport_fit": ("estimate_transport",),
    "_types": ("Info", "Phase", "State"),
    "_whitening": ("Whitened", "Whitening", "estimate_whitening", "fisher_whitening"),
}
_ORIGIN = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_ORIGIN, "diagnostics", "targets", "train_kernel"])  # noqa: PLE0605

logging.getLogger("capriole").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in ("diagnostics", "targets"):
        return importlib.import_module(f".{name}", __name__)
    if name == "train_kernel":
        return importlib.import_module("._train", __name__).train
    if name in _ORIGIN:
        return getattr(importlib.import_module(f".{_ORIGIN[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
