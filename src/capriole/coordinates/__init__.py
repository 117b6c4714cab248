"""Exact changes of variables that make a target nearly Gaussian, and their estimation from draws.

Read the files in this order: `_whitening` (affine maps), `_whitening_estimation`, `_transport_map`
(nonlinear maps for funnels and tails), `_parent_candidates` and `_transport_estimation` (which
parents, which children), `_transport_parts` and `_transport_mixing` (the fits of its parts),
`_user_coordinates` (from a kernel's coordinates to the user's and back), and `_thresholds`.
"""

from ._parent_candidates import likely_parents
from ._transport_estimation import Estimate, estimate_transport, refitted
from ._transport_map import BENDS, Transported, TransportMap
from ._user_coordinates import (
    drawn_to_user,
    draws_to_user,
    from_user,
    maps,
    seen_from,
    to_user,
    users,
)
from ._whitening import Whitened, Whitening, identity, on_host, padded, reusable
from ._whitening_estimation import diagonal, estimate_whitening, fisher_whitening, spread

__all__ = [
    "BENDS",
    "Estimate",
    "TransportMap",
    "Transported",
    "Whitened",
    "Whitening",
    "diagonal",
    "drawn_to_user",
    "draws_to_user",
    "estimate_transport",
    "estimate_whitening",
    "fisher_whitening",
    "from_user",
    "identity",
    "likely_parents",
    "maps",
    "on_host",
    "padded",
    "refitted",
    "reusable",
    "seen_from",
    "spread",
    "to_user",
    "users",
]
