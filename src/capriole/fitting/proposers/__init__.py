"""One file for each kind of candidate. A proposer takes the context and returns it with more."""

from ._mode_jumps import HiddenModeJumps, ModeJumps
from ._networks import Networks
from ._rotations import LongerRotations, Rotations
from ._transport import TransportMaps

PROPOSERS = (
    HiddenModeJumps(),
    Rotations(),
    TransportMaps(),
    LongerRotations(),
    ModeJumps(),
    Networks(),
)
"""The proposers of a search, cheap ones first."""

__all__ = [
    "PROPOSERS",
    "HiddenModeJumps",
    "LongerRotations",
    "ModeJumps",
    "Networks",
    "Rotations",
    "TransportMaps",
]
