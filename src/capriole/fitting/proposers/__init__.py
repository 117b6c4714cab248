"""One file for each kind of candidate. A proposer takes the context and returns it with more."""

from ._direct import DirectRotation, doubts
from ._long_runs import LongRuns
from ._mode_jumps import ModeJumps, WeighedModeJumps
from ._networks import Networks
from ._nuts import Nuts
from ._rotations import LongerRotations, Rotations
from ._transport import TransportMaps

PROPOSERS = (
    WeighedModeJumps(),
    Rotations(),
    TransportMaps(),
    LongerRotations(),
    ModeJumps(),
    Networks(),
    LongRuns(),
    Nuts(),
)
"""The proposers of a search, cheap ones first; then those that ask what the others found."""

__all__ = [
    "PROPOSERS",
    "DirectRotation",
    "LongRuns",
    "LongerRotations",
    "ModeJumps",
    "Networks",
    "Nuts",
    "Rotations",
    "TransportMaps",
    "WeighedModeJumps",
    "doubts",
]
