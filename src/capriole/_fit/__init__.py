"""The front door that needs no tuning knowledge: pilot, whitening, candidates, measurement, verdict, draws."""

from ._fit import Fit, fit
from ._verdict import Row, Verdict

__all__ = ["Fit", "Row", "Verdict", "fit"]
