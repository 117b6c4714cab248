"""What a learned kernel has to beat: honestly tuned classical samplers."""

from ._hmc import HMCTuning, tune_hmc
from ._lookahead import LookAhead, LookAheadState, reach
from ._lookahead_tuning import LookAheadTuning, tune_lookahead

__all__ = ["HMCTuning", "LookAhead", "LookAheadState", "LookAheadTuning", "reach", "tune_hmc", "tune_lookahead"]
