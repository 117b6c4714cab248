"""One file for each kind of candidate. A proposer takes the context and returns it with more."""

from ._mode_jumps import ModeJumps, WeighedModeJumps
from ._networks import Networks
from ._rotations import LongerRotations, Rotations
from ._transport import TransportMaps

PROPOSERS = (
    WeighedModeJumps(),
    Rotations(),
    TransportMaps(),
    LongerRotations(),
    ModeJumps(),
    Networks(),
)
"""The proposers of a search, cheap ones first."""

__all__ = [
    "PROPOSERS",
    "LongerRotations",
    "ModeJumps",
    "Networks",
    "Rotations",
    "TransportMaps",
    "WeighedModeJumps",
]
