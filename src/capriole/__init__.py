"""Learned MCMC kernels for log densities written in JAX.

`fit` finds a kernel, judges it, and draws. `train` and `sample` are for those who choose
themselves; `save` and `load` keep a kernel in a file. The rooms, such as `capriole.kernels`, hold
everything else. Names are loaded on first use: ``import capriole`` imports no JAX, allocates
nothing and changes no setting.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        adaptation,
        coordinates,
        diagnostics,
        fitting,
        kernels,
        loops,
        models,
        runs,
        sampling,
        training,
    )
    from .fitting import Fit, FitFailedError, FitFailedWarning, Verdict, fit
    from .kernels import AbstractLogDensity, PerChain
    from .loops import as_blackjax, numpyro_kernel
    from .models import (
        KernelFileError,
        Model,
        ModelError,
        constrained,
        from_numpyro,
        from_pymc,
        from_stan,
        load,
        save,
    )
    from .runtime import Progress
    from .sampling import complete, sample, to_datatree
    from .training import TrainingDivergedError, TrainResult, train

__version__ = "0.1.0"

_ROOMS = (
    "adaptation",
    "coordinates",
    "diagnostics",
    "fitting",
    "kernels",
    "loops",
    "models",
    "runs",
    "sampling",
    "training",
)
_HOMES = {
    "fitting": ("Fit", "FitFailedError", "FitFailedWarning", "Verdict", "fit"),
    "kernels": ("AbstractLogDensity", "PerChain"),
    "loops": ("as_blackjax", "numpyro_kernel"),
    "models": (
        "KernelFileError",
        "Model",
        "ModelError",
        "constrained",
        "from_numpyro",
        "from_pymc",
        "from_stan",
        "load",
        "save",
    ),
    "runtime": ("Progress",),
    "sampling": ("complete", "sample", "to_datatree"),
    "training": ("TrainResult", "TrainingDivergedError", "train"),
}
_ORIGIN = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_ORIGIN, *_ROOMS])  # noqa: PLE0605

logging.getLogger("capriole").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name in _ORIGIN:
        return getattr(importlib.import_module(f".{_ORIGIN[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
