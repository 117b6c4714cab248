"""`capriole.fit`: warm-up, candidates, evaluation, choice, final run, verdict."""

from ._api import Fit, fit
from ._evaluation import judge
from ._final_run import THINS, Keeper, Point, on_draws, phase_of
from ._reference_check import read_seen
from ._search import Found, Spent
from ._settings import SCOUTS, settings_from
from ._tail_coverage import Marginal
from ._verdict import NUTS, Row, Verdict
from .proposers._networks import hmc_move

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
    "Spent",
    "Verdict",
    "fit",
    "hmc_move",
    "judge",
    "on_draws",
    "phase_of",
    "read_seen",
    "settings_from",
]
