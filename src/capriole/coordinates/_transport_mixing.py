"""How a transport map's children hang together, where that changes with the parents: one row at a
time.

Axes that all values of a parent have in common (`_transport_parts.common_axes`) exist for a scale
before a Gaussian. A length scale, or the root of an autoregression, turns the axes themselves.
"""

from typing import NamedTuple

import numpy as np

_RIDGE = 1e-3
_CLEAR = 0.01
_MOST_PREDICTORS = 8
_MOST_MIXED = 60
_WORTH = 0.02
_ROUNDS = 15
_BLOCKS = 64
_NONE = np.empty(0, int)


class Mixing(NamedTuple):
    """``v_i = sum_j (mixing f)_ij w_j + exp(own_scale_i f) w_i`` for the ``rows`` (k,).

    Arrays of shape (features, k, k), strictly lower triangular, and (k, features).
    """

    rows: np.ndarray
    mixing: np.ndarray
    own_scale: np.ndarray


class _Row(NamedTuple):
    """A mixed row: where it is, the rows that it needs, their slopes (features, needs) and its own
    log scale.
    """

    place: int
    needs: np.ndarray
    slopes: np.ndarray
    own: np.ndarray


def no_mixing(size: int) -> Mixing:
    """That of no row, for ``size`` features."""
    return Mixing(_NONE, np.zeros((size, 0, 0)), np.zeros((0, size)))


def mixing(values: np.ndarray, basis: np.ndarray) -> Mixing:
    """The mixing of ``values`` (n, draws), standardised given the features ``basis`` (features,
    draws).

    By maximum likelihood, row after row, each on what is left of those before it that explain 1 %
    of it or more in products with the features. Half of the draws judge (`halves`): a row is mixed
    only if it becomes 0.02 nats more probable in them.
    """
    size, num = len(values), values.shape[1]
    (values_in, values_out), (basis_in, basis_out) = halves(values), halves(basis)
    left = np.clip(values, -10, 10).copy()
    found: list[_Row] = []
    for i in range(1, size):
        at = _predictors(values[i], left[:i], basis)
        if not len(at):
            continue
        design = (basis[:, None] * left[at]).reshape(-1, num)
        design_in, design_out = halves(design)
        slopes, own = _fitted(values_in[i], design_in, basis_in)
        before, after = (
            values_out[i],
            (values_out[i] - slopes @ design_out) * np.exp(-own @ basis_out),
        )
        judged = np.mean(_bounded(before) - _bounded(after) - 2 * own @ basis_out) / 2
        rest = (values[i] - slopes @ design) * np.exp(-own @ basis)
        if judged > _WORTH and np.isfinite(rest).all():
            left[i] = np.clip(rest, -10, 10)
            found.append(_Row(i, at, slopes.reshape(len(basis), -1), own))
    found = _within(found)
    if not found:
        return no_mixing(len(basis))
    rows = np.unique(np.concatenate([np.append(row.needs, row.place) for row in found]))
    matrix, own_scale = (
        np.zeros((len(basis), len(rows), len(rows))),
        np.zeros((len(rows), len(basis))),
    )
    for row in found:
        place = np.searchsorted(rows, row.place)
        matrix[:, place, np.searchsorted(rows, row.needs)] = row.slopes
        own_scale[place] = row.own
    return Mixing(rows, matrix, own_scale)


def halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n, draws) to fit and draws to judge by, blocks of them in turn: neighbours may be of
    one chain.
    """
    judged = np.arange(values.shape[1]) * _BLOCKS // values.shape[1] % 2 == 1
    return values[:, ~judged], values[:, judged]


def _within(found: list[_Row]) -> list[_Row]:
    """As many of the rows as there is room for, a row only with those that it needs, as it needs
    them.
    """
    kept, rows, left_out = list[_Row](), set[int](), set[int]()
    for row in found:
        needed = rows | {row.place, *row.needs.tolist()}
        if len(needed) <= _MOST_MIXED and not left_out & needed:
            rows = needed
            kept.append(row)
        else:
            left_out.add(row.place)
    return kept


def _predictors(row: np.ndarray, before: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Which of the rows ``before`` explain 1 % of the row's variance or more, in products with the
    features.
    """
    squared = before**2
    pairs = (basis[:, None] * basis[None]).reshape(-1, basis.shape[1])
    weights = (squared @ pairs.T).reshape(-1, len(basis), len(basis))
    crossed = (before * row) @ basis.T
    slopes = np.linalg.solve(weights + _RIDGE * len(row) * np.eye(len(basis)), crossed[..., None])[
        ..., 0
    ]
    explained = np.sum(slopes * crossed, axis=1) / np.sum(row**2)
    best = np.argsort(-explained)[:_MOST_PREDICTORS]
    return np.sort(best[explained[best] > _CLEAR])


def _fitted(
    row: np.ndarray, design: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and log scale: ``row ~ N(slopes design, exp(own basis)^2)``, least squares and Fisher
    scoring in turn.
    """
    num = len(row)
    own, slopes = np.zeros(len(basis)), np.zeros(len(design))
    information = 2 * (basis @ basis.T + _RIDGE * num * np.eye(len(basis)))
    for _ in range(_ROUNDS):
        inverse = np.exp(np.clip(-own @ basis, -20, 20))
        scaled = design * inverse
        slopes = np.linalg.solve(
            scaled @ scaled.T + _RIDGE * num * np.eye(len(design)), scaled @ (row * inverse)
        )
        rest = (row - slopes @ design) * inverse
        pull = (np.minimum(rest**2, 50.0) - 1) @ basis.T - 2 * _RIDGE * num * own
        step = np.clip(np.linalg.solve(information, pull), -0.5, 0.5)
        own = own + step
        if np.abs(step).max() < 1e-3:
            break
    return slopes, own


def _bounded(values: np.ndarray) -> np.ndarray:
    return np.minimum(values**2, 100.0)
