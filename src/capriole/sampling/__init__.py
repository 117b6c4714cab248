"""Draws of a frozen kernel: the loop, starts, trees, NUTS beside it."""

from ._api import sample
from ._draw import Draws, Record, draw_chains, draw_chunks, health_arrays, means, record_of
from ._hmc_warmup import Pilot, run_pilot
from ._initial import as_key, prepare
from ._nuts import check_peer_starts, hmc_record, leapfrogs_only, nuts, nuts_dense, run_nuts
from ._peers import PeerDraws, PeerRecord, chain_keys, collect, plain, scan, timed, total
from ._tree import to_datatree, to_tree

__all__ = [
    "Draws",
    "PeerDraws",
    "PeerRecord",
    "Pilot",
    "Record",
    "as_key",
    "chain_keys",
    "check_peer_starts",
    "collect",
    "draw_chains",
    "draw_chunks",
    "health_arrays",
    "hmc_record",
    "leapfrogs_only",
    "means",
    "nuts",
    "nuts_dense",
    "plain",
    "prepare",
    "record_of",
    "run_nuts",
    "run_pilot",
    "sample",
    "scan",
    "timed",
    "to_datatree",
    "to_tree",
    "total",
]
