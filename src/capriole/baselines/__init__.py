"""What a learned kernel has to beat: honestly tuned classical samplers."""

from ._hmc import HMCTuning, tune_hmc

__all__ = ["HMCTuning", "tune_hmc"]
