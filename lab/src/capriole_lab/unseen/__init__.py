"""Targets that nobody tuned `capriole.fit` to, and the bench that runs it on them."""

from ._base import AbstractUnseen, AbstractUnseenModes, Kind
from ._table import UNSEEN, UnseenEntry, make_unseen

__all__ = [
    "UNSEEN",
    "AbstractUnseen",
    "AbstractUnseenModes",
    "Kind",
    "UnseenEntry",
    "make_unseen",
]
