"""The command line: parse, call, print.

Read in this order: `_options` (options that commands share), `_machines`, `_trouble` (errors
become one line and an exit status), `_user` (``FILE.py:FUNCTION``) and
`_origin` (what config.json says of it), `_show`, then one file per command, and `_app`, which
lists the commands. Each file imports from files before it only. Names are loaded on first use,
so that ``capriole --help`` imports nothing heavy.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime import LiveProgress
    from ._fit import resume as resume_fit
    from ._fit import start as start_fit
    from ._machines import Machines, chosen_devices
    from ._options import (
        AsJson,
        Budget,
        Chains,
        Compare,
        Coordinator,
        Criterion,
        Devices,
        Dim,
        Every,
        FitChains,
        FitDraws,
        FitEffective,
        FitTrainSteps,
        Float32,
        Float64,
        Folder,
        Function,
        Leapfrogs,
        NumProcesses,
        Out,
        Preset,
        ProcessId,
        Seed,
        Spread,
        Steps,
        TrainSteps,
    )
    from ._show import show_verdict
    from ._trouble import Options, Work, fail, survive
    from ._user import load_target

_OPTIONS = (
    "AsJson",
    "Budget",
    "Chains",
    "Compare",
    "Coordinator",
    "Criterion",
    "Devices",
    "Dim",
    "Every",
    "FitChains",
    "FitDraws",
    "FitEffective",
    "FitTrainSteps",
    "Float32",
    "Float64",
    "Folder",
    "Function",
    "Leapfrogs",
    "NumProcesses",
    "Out",
    "Preset",
    "ProcessId",
    "Seed",
    "Spread",
    "Steps",
    "TrainSteps",
)
_ORIGIN = {name: ("_options", name) for name in _OPTIONS} | {
    "LiveProgress": (".runtime", "LiveProgress"),
    "Machines": ("_machines", "Machines"),
    "Options": ("_trouble", "Options"),
    "Work": ("_trouble", "Work"),
    "chosen_devices": ("_machines", "chosen_devices"),
    "fail": ("_trouble", "fail"),
    "load_target": ("_user", "load_target"),
    "resume_fit": ("_fit", "resume"),
    "show_verdict": ("_show", "show_verdict"),
    "start_fit": ("_fit", "start"),
    "survive": ("_trouble", "survive"),
}

__all__ = sorted([*_ORIGIN, "main"])  # noqa: PLE0605


def main() -> None:
    """Entry point of the ``capriole`` command.

    Raises:
        SystemExit: always, with the command's exit status.
    """
    try:
        from ._app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        from ..runtime import require  # only now: it imports JAX

        try:
            require("typer", "cli")
        except ImportError as missing:
            sys.exit(f"error: {missing}")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


def __getattr__(name: str) -> Any:
    if name in _ORIGIN:
        module, attribute = _ORIGIN[name]
        return getattr(importlib.import_module(f".{module}", __name__), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
