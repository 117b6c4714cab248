"""Kernels in the loops of other libraries, in the user's coordinates.

Read `_blackjax` first, then `_numpyro`, which is built on it, and `_numpyro_kernel`, the class.
"""

from ._blackjax import LoopInfo, LoopState, as_blackjax
from ._numpyro import numpyro_kernel

__all__ = ["LoopInfo", "LoopState", "as_blackjax", "numpyro_kernel"]
