"""What a learned kernel has to beat: honestly tuned classical samplers."""

from capriole.sampling import CountedDraws

from ._hmc import HMCTuning, tune_hmc
from ._lookahead import LookAhead, LookAheadState, reach
from ._lookahead_tuning import LookAheadTuning, tune_lookahead
from ._nice import Nice, nice
from ._nice_train import NiceRecipe, NiceResult, train_nice
from ._trial import TuningError
from .libraries._peers import PEERS, Peer, run_peer

__all__ = [
    "PEERS",
    "CountedDraws",
    "HMCTuning",
    "LookAhead",
    "LookAheadState",
    "LookAheadTuning",
    "Nice",
    "NiceRecipe",
    "NiceResult",
    "Peer",
    "TuningError",
    "nice",
    "reach",
    "run_peer",
    "train_nice",
    "tune_hmc",
    "tune_lookahead",
]
