"""One file for each kind of candidate. A proposer takes the context and returns it with more."""

from ._mode_jumps import ModeJumps
from ._networks import Networks
from ._rotations import Rotations
from ._transport import TransportMaps

PROPOSERS = (Rotations(), TransportMaps(), ModeJumps(), Networks())
"""The proposers of a search, cheap ones first."""

__all__ = ["PROPOSERS", "ModeJumps", "Networks", "Rotations", "TransportMaps"]
