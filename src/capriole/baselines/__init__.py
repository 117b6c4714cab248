"""What a learned kernel has to beat: honestly tuned classical samplers."""

from ._hmc import HMCTuning, tune_hmc
from ._peers import PEERS, Peer, run_peer
from ._peers_base import PeerDraws

__all__ = ["PEERS", "HMCTuning", "Peer", "PeerDraws", "run_peer", "tune_hmc"]
