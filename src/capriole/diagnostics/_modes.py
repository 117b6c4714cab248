"""Modes: which of a pilot's chains sit together, what mass each of the places holds, and which of
them draws are in.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

from ._dispersion import APART, is_moving

MOST_MODES = 16
"""More places than that are a rough surface's, or those of chains that hardly move: no modes that
one could count.
"""
_UNSETTLED = APART / 2
_DRAWS_PER_DIM = 20


class Modes(NamedTuple):
    """The mode of every chain (-1: of none, as it went from one to another, or hardly moved) and
    the log mass of each, up to a constant.

    Of no modes (a rough surface) every label is -1.
    """

    label: Int[np.ndarray, " chains"]
    log_mass: Float[np.ndarray, " modes"]


def find_modes(
    draws: Float[np.ndarray, "chains draws dim"], lp: Float[np.ndarray, "chains draws"]
) -> Modes:
    """Chains whose means are less than `APART` of their standard deviations (the larger of both)
    from one another, in every dimension, are in one mode, directly or by others between. A mode's
    mass is estimated as for a Gaussian::

        log mass = mean log p + log det(covariance) / 2

    by variances alone if its draws are few. Chains of which both halves differ by more than half of
    `APART` of *their* deviations were on their way, so they connect nothing.
    """
    means, scale = draws.mean(axis=1), _deviation(draws)
    halves = np.array_split(draws, 2, axis=1)
    first, second = (half.mean(axis=1) for half in halves)
    smaller = np.minimum(*(_deviation(half) for half in halves))
    settled = is_moving(draws) & (np.max(np.abs(first - second) / smaller, axis=1) < _UNSETTLED)
    label = np.full(len(draws), -1)
    for i in np.flatnonzero(settled):
        if label[i] >= 0:
            continue
        label[i] = label.max() + 1
        edge = [i]
        while edge:
            j = edge.pop()
            distance = np.max(np.abs(means - means[j]) / np.maximum(scale, scale[j]), axis=1)
            near = np.flatnonzero(settled & (label < 0) & (distance < APART))
            label[near] = label[i]
            edge.extend(near)
    num = label.max() + 1
    if num > MOST_MODES:
        return Modes(np.full(len(draws), -1), np.zeros(0))
    members = [draws[label == k].reshape(-1, draws.shape[2]) for k in range(num)]
    few = min(map(len, members), default=0) < _DRAWS_PER_DIM * draws.shape[2]
    volume = [_log_det(member, diagonal=few) / 2 for member in members]
    return Modes(label, np.array([lp[label == k].mean() + volume[k] for k in range(num)]))


def _deviation(draws: np.ndarray) -> np.ndarray:
    return np.maximum(draws.std(axis=1), 1e-12 * (1 + np.abs(draws.mean(axis=1))))


def _log_det(draws: np.ndarray, *, diagonal: bool) -> float:
    if diagonal:
        return float(2 * np.sum(np.log(np.maximum(draws.std(axis=0, dtype=np.float64), 1e-300))))
    return float(np.linalg.slogdet(np.atleast_2d(np.cov(draws.T.astype(np.float64))))[1])


class Place(NamedTuple):
    """A mode by its centre and scales in the user's coordinates, and the ``share`` of the mass that
    it should hold.
    """

    centre: tuple[float, ...]
    scale: tuple[float, ...]
    share: float

    def checked(self, dim: int) -> Self:
        """Itself. Raises ValueError if it cannot be a mode in ``dim`` dimensions."""
        numbers = (*self.centre, *self.scale, self.share)
        sizes = (len(self.centre), len(self.scale))
        if sizes != (dim, dim) or not np.isfinite(numbers).all() or min(self.scale) <= 0:
            raise ValueError(f"no mode in {dim} dimensions: {str(self)[:80]!r}")
        return self


def places(modes: Modes, draws: Float[np.ndarray, "chains draws dim"]) -> tuple[Place, ...]:
    """The modes, the one of the greatest mass first and those of a mass that is no
    number left out.

    ``draws``, in the user's coordinates, are those of the chains that were labelled.
    """
    known = np.flatnonzero(np.isfinite(modes.log_mass))
    share = np.exp(modes.log_mass - np.max(modes.log_mass[known], initial=-np.inf))
    share /= share[known].sum()
    found = []
    for k in known[np.argsort(-share[known])]:
        member = draws[modes.label == k].reshape(-1, draws.shape[2]).astype(np.float64)
        scale = np.maximum(member.std(axis=0), 1e-12 * (1 + np.abs(member.mean(axis=0))))
        centre = tuple(member.mean(axis=0).tolist())
        found.append(Place(centre, tuple(scale.tolist()), float(share[k])))
    return tuple(found)


def labelled(
    draws: Float[np.ndarray, "chains draws dim"], found: Sequence[Place]
) -> Int[np.ndarray, "chains draws"]:
    """The place that every draw belongs to, as if each were a Gaussian with independent
    coordinates.
    """
    scores = []
    for place in found:
        scale = np.array(place.scale)
        scores.append(
            -np.sum(((draws - np.array(place.centre)) / scale) ** 2, axis=2) / 2
            - np.log(scale).sum()
        )
    return np.argmax(scores, axis=0)
