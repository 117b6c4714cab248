"""`capriole.fit`: warm-up, search, final run, verdict.

Read `_api` first (fit), then `_search` (the loop), `proposers` (one file for each kind of
candidate), `_selection` (the choice), `_final_run` and `_verdict`.
"""

from ._additions import hmc_move
from ._api import Fit, fit
from ._budget import Cost
from ._candidate import NUTS, Addition, Coordinates, Family, Judgement, Kind, Row
from ._context import Note, NoteKind, WarmupFacts
from ._evaluation import judge
from ._final_run import Keeper, Point, on_draws, phase_of
from ._search import Found, Proposer
from ._settings import Settings, settings_from
from ._thresholds import RUN_MULTIPLIERS, SCOUTS
from ._verdict import Verdict

__all__ = [
    "NUTS",
    "RUN_MULTIPLIERS",
    "SCOUTS",
    "Addition",
    "Coordinates",
    "Cost",
    "Family",
    "Fit",
    "Found",
    "Judgement",
    "Keeper",
    "Kind",
    "Note",
    "NoteKind",
    "Point",
    "Proposer",
    "Row",
    "Settings",
    "Verdict",
    "WarmupFacts",
    "fit",
    "hmc_move",
    "judge",
    "on_draws",
    "phase_of",
    "settings_from",
]
