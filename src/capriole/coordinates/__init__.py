"""Exact changes of variables that make a target nearly Gaussian, and their estimation from draws.

Read the files in this order: `_whitening` (affine maps), `_whitening_estimation`, `_transport_map`
(nonlinear maps for funnels and tails), `_parent_candidates` and `_transport_estimation` (which
parents, which children), `_transport_parts` and `_transport_mixing` (the fits of its parts),
`_user_coordinates` (from a kernel's coordinates to the user's and back), and `_thresholds`.
"""

from ._parent_candidates import parent_candidates
from ._transport_estimation import Estimate, estimate_transport, refitted
from ._transport_map import BENDS, Transported, TransportMap
from ._user_coordinates import (
    draws_and_lp_to_user,
    draws_to_user,
    from_user,
    in_coordinates_of,
    maps,
    state_to_user,
    to_user,
    users,
    without_maps,
)
from ._whitening import Whitened, Whitening, identity, on_host, pad_for_reuse, padded
from ._whitening_estimation import diagonal, estimate_whitening, fisher_whitening, spread

__all__ = [
    "BENDS",
    "Estimate",
    "TransportMap",
    "Transported",
    "Whitened",
    "Whitening",
    "diagonal",
    "draws_and_lp_to_user",
    "draws_to_user",
    "estimate_transport",
    "estimate_whitening",
    "fisher_whitening",
    "from_user",
    "identity",
    "in_coordinates_of",
    "maps",
    "on_host",
    "pad_for_reuse",
    "padded",
    "parent_candidates",
    "refitted",
    "spread",
    "state_to_user",
    "to_user",
    "users",
    "without_maps",
]
