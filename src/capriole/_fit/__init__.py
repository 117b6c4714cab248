"""The front door that needs no tuning knowledge: pilot, whitening, candidates, measurement, verdict, draws."""

from ._final import THINS, Keeper, Point, on_draws, phase_of
from ._fit import Fit, fit
from ._reach import Marginal
from ._search import Found, Spent
from ._seen import read_seen
from ._settings import SCOUTS, Settings, settings_from
from ._verdict import NUTS, Row, Verdict

__all__ = [
    "NUTS",
    "SCOUTS",
    "THINS",
    "Fit",
    "Found",
    "Keeper",
    "Marginal",
    "Point",
    "Row",
    "Settings",
    "Spent",
    "Verdict",
    "fit",
    "on_draws",
    "phase_of",
    "read_seen",
    "settings_from",
]
