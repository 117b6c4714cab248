"""Correlations among the children of a transport map that change with the parents.

A parent that is a common scale leaves the children's axes fixed (`_transport_parts.common_axes`). A
parent that is a length scale, or the coefficient of an autoregression, rotates the axes. Each row
is then regressed on earlier rows with coefficients that depend on the parents.
"""

from typing import NamedTuple

import numpy as np

from ._thresholds import THRESHOLDS


class Mixing(NamedTuple):
    """A triangular mixing of some rows::

        v_i = sum_j (mixing f)_ij w_j + exp(own_scale_i f) w_i

    Attributes:
        rows: indices of the mixed rows, shape ``(k,)``.
        mixing: strictly lower triangular, shape ``(features, k, k)``.
        own_scale: coefficients of the log scales, shape ``(k, features)``.
    """

    rows: np.ndarray
    mixing: np.ndarray
    own_scale: np.ndarray


class _MixedRow(NamedTuple):
    """One mixed row.

    Attributes:
        place: its index.
        needs: indices of the rows that predict it.
        slopes: their coefficients, shape ``(features, needs)``.
        own: coefficients of its log scale, shape ``(features,)``.
    """

    place: int
    needs: np.ndarray
    slopes: np.ndarray
    own: np.ndarray


def no_mixing(size: int) -> Mixing:
    """The mixing of no row, for ``size`` features."""
    return Mixing(np.empty(0, int), np.zeros((size, 0, 0)), np.zeros((0, size)))


def fit_mixing(values: np.ndarray, basis: np.ndarray) -> Mixing:
    """Fit the mixing of standardised values, row after row.

    Each row is fitted by maximum likelihood on those earlier residuals that explain enough of it,
    in products with the features. A row is mixed only if its held-out log density rises by
    `Thresholds.min_part_gain`.

    Args:
        values: residuals of the children, shape ``(n, draws)``.
        basis: features of the parents, shape ``(features, draws)``.

    Returns:
        The mixing; rows count from 0 among the children.
    """
    size, num = len(values), values.shape[1]
    (values_in, values_out), (basis_in, basis_out) = split_blocks(values), split_blocks(basis)
    left = np.clip(values, -THRESHOLDS.max_residual, THRESHOLDS.max_residual).copy()
    found: list[_MixedRow] = []
    for i in range(1, size):
        at = _predictors(values[i], left[:i], basis)
        if not len(at):
            continue
        design = (basis[:, None] * left[at]).reshape(-1, num)
        design_in, design_out = split_blocks(design)
        slopes, own = _fit_row(values_in[i], design_in, basis_in)
        before, after = (
            values_out[i],
            (values_out[i] - slopes @ design_out) * np.exp(-own @ basis_out),
        )
        judged = (
            np.mean(_squared_bounded(before) - _squared_bounded(after) - 2 * own @ basis_out) / 2
        )
        rest = (values[i] - slopes @ design) * np.exp(-own @ basis)
        if judged > THRESHOLDS.min_part_gain and np.isfinite(rest).all():
            left[i] = np.clip(rest, -THRESHOLDS.max_residual, THRESHOLDS.max_residual)
            found.append(_MixedRow(i, at, slopes.reshape(len(basis), -1), own))
    found = _limited(found)
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


def split_blocks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n, draws) to fit and draws to judge by, in alternating blocks."""
    judged = np.arange(values.shape[1]) * THRESHOLDS.num_blocks // values.shape[1] % 2 == 1
    return values[:, ~judged], values[:, judged]


def _limited(found: list[_MixedRow]) -> list[_MixedRow]:
    """The rows for which there is room; a row is kept only with all rows that it needs."""
    kept, rows, left_out = list[_MixedRow](), set[int](), set[int]()
    for row in found:
        needed = rows | {row.place, *row.needs.tolist()}
        if len(needed) <= THRESHOLDS.max_dense_dim and not left_out & needed:
            rows = needed
            kept.append(row)
        else:
            left_out.add(row.place)
    return kept


def _predictors(row: np.ndarray, before: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Indices of the rows ``before`` that explain enough of the row's variance."""
    squared = before**2
    pairs = (basis[:, None] * basis[None]).reshape(-1, basis.shape[1])
    weights = (squared @ pairs.T).reshape(-1, len(basis), len(basis))
    crossed = (before * row) @ basis.T
    slopes = np.linalg.solve(
        weights + THRESHOLDS.mixing_ridge * len(row) * np.eye(len(basis)), crossed[..., None]
    )[..., 0]
    explained = np.sum(slopes * crossed, axis=1) / np.sum(row**2)
    best = np.argsort(-explained)[: THRESHOLDS.max_predictors]
    return np.sort(best[explained[best] > THRESHOLDS.min_explained])


def _fit_row(
    row: np.ndarray, design: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and log scale of ``row ~ N(slopes design, exp(own basis)^2)``."""
    num = len(row)
    own, slopes = np.zeros(len(basis)), np.zeros(len(design))
    information = 2 * (basis @ basis.T + THRESHOLDS.mixing_ridge * num * np.eye(len(basis)))
    for _ in range(THRESHOLDS.max_mixing_rounds):
        inverse = np.exp(np.clip(-own @ basis, -20, 20))
        scaled = design * inverse
        slopes = np.linalg.solve(
            scaled @ scaled.T + THRESHOLDS.mixing_ridge * num * np.eye(len(design)),
            scaled @ (row * inverse),
        )
        rest = (row - slopes @ design) * inverse
        pull = (
            np.minimum(rest**2, THRESHOLDS.max_squared_misfit) - 1
        ) @ basis.T - 2 * THRESHOLDS.mixing_ridge * num * own
        step = np.clip(
            np.linalg.solve(information, pull),
            -THRESHOLDS.max_scoring_step,
            THRESHOLDS.max_scoring_step,
        )
        own = own + step
        if np.abs(step).max() < THRESHOLDS.scoring_tolerance:
            break
    return slopes, own


def _squared_bounded(values: np.ndarray) -> np.ndarray:
    """Squares, with residuals limited to `Thresholds.max_residual`."""
    return np.minimum(values**2, THRESHOLDS.max_residual**2)
