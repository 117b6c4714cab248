"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from ._app import main
from ._fit import resume as resume_fit
from ._fit import start as start_fit
from ._machines import Machines, chosen_devices
from ._options import (
    AsJson,
    Budget,
    Chains,
    Coordinator,
    Devices,
    Every,
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
from ._progress import LiveProgress
from ._show import show_verdict
from ._trouble import Options, Work, fail, survive
from ._user import load_target

__all__ = [
    "AsJson",
    "Budget",
    "Chains",
    "Coordinator",
    "Devices",
    "Every",
    "Float64",
    "Folder",
    "Function",
    "Leapfrogs",
    "LiveProgress",
    "Machines",
    "NumProcesses",
    "Options",
    "Out",
    "Preset",
    "ProcessId",
    "Seed",
    "Spread",
    "Steps",
    "TrainSteps",
    "Work",
    "chosen_devices",
    "fail",
    "load_target",
    "main",
    "resume_fit",
    "show_verdict",
    "start_fit",
    "survive",
]
