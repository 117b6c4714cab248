"""Fits of the parts of a transport map: common axes, conditional means and scales, marginals."""

import itertools
from typing import Any

import numpy as np
from scipy.special import ndtr

from ._thresholds import THRESHOLDS
from ._transport_map import BENDS

_QUANTILES = np.linspace(-3.2, 3.2, 17)
"""Normal quantiles at which marginals are compared, in standard deviations.

Beyond the outermost is one draw in 1,500, so 8,000 draws still determine them.
"""
_HEAVINESS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
"""Grid of Tukey's h, no unit: tails fall like ``|w|^(-tail / h)``."""
_SLICES = (0, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 1)
"""Quantiles that bound the slices of the first parent; dense at the ends, for a funnel's neck."""


def common_axes(standard: np.ndarray, parents: np.ndarray, *, use_slices: bool) -> np.ndarray:
    """Axes (columns) in which the children's covariance is diagonal for every first parent.

    Such axes exist for a Gaussian likelihood and a Gaussian prior whose common scale is the parent.
    They are first computed from two covariances, for low and high values of the parent.
    ``use_slices`` refines them by narrow slices, which show the bottom of a funnel's neck: there a
    small error of a narrow axis is larger than its scale.
    """
    first = parents[0]
    low, high = np.quantile(first, [1 / 3, 2 / 3])
    shapes = [_covariance(standard, parents, side) for side in (first <= low, first >= high)]
    shapes = [shape * (len(shape) / np.trace(shape)) for shape in shapes]
    values, vectors = np.linalg.eigh(shapes[0] + shapes[1])
    root = np.sqrt(np.maximum(values, THRESHOLDS.min_scale * values[-1]))
    whitener = (vectors / root) @ vectors.T
    turned = np.linalg.eigh(whitener @ shapes[1] @ whitener)[1]
    axes = (vectors * root) @ vectors.T @ turned
    if not use_slices:
        return axes
    edges = np.quantile(first, _SLICES)
    slices = [(first >= a) & (first <= b) for a, b in itertools.pairwise(edges)]
    slices = [inside for inside in slices if inside.sum() > 3 * len(standard)]
    inverse = np.linalg.inv(axes)
    covariances = np.asarray(
        [
            _shrunk_to_diagonal(_covariance(inverse @ standard, parents, s), int(s.sum()))
            for s in slices
        ]
    )
    return axes @ np.linalg.inv(
        _jointly_diagonalised(covariances, np.asarray([s.mean() for s in slices]))
    )


def _covariance(standard: np.ndarray, parents: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Covariance of the draws ``inside``, after the linear effect of the parents is removed."""
    values = standard[:, inside]
    basis = np.concatenate([np.ones((1, values.shape[1])), parents[:, inside]])
    rest = values - np.linalg.lstsq(basis.T, values.T, rcond=None)[0].T @ basis
    return rest @ rest.T / rest.shape[1]


def _shrunk_to_diagonal(covariance: np.ndarray, num: int) -> np.ndarray:
    """The covariance shrunk to its diagonal, more so the fewer of ``num`` draws are independent."""
    own = (
        THRESHOLDS.independent_share * num / (THRESHOLDS.independent_share * num + len(covariance))
    )
    return own * covariance + (1 - own) * np.diag(np.diag(covariance))


def _jointly_diagonalised(covariances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The matrix B that makes all ``B C_k B^T`` as diagonal as possible::

        minimise  sum_k weight_k (log det diag(B C_k B^T) - log det(B C_k B^T))

    Two rows change at a time. Slices with tiny variances count as much as wide ones.

    References:
        Pham 2001, Joint approximate diagonalization of positive definite Hermitian matrices.
    """
    moved, dim = covariances.copy(), covariances.shape[1]
    inverse, weights = np.eye(dim), weights / weights.sum()
    for _ in range(THRESHOLDS.max_sweeps):
        largest = 0.0
        for i, j in itertools.combinations(range(dim), 2):
            a, b, c = moved[:, i, i], moved[:, j, j], moved[:, i, j]
            upper, lower = weights @ (c / a), weights @ (c / b)
            ratio_up, ratio_down = weights @ (b / a), weights @ (a / b)
            omega, scale = np.sqrt(ratio_up * ratio_down), np.sqrt(ratio_down / ratio_up)
            even, odd = (
                (scale * upper + lower) / (omega + 1),
                (scale * upper - lower) / max(omega - 1, 1e-9),
            )
            h, k = even + odd, (even - odd) / scale
            largest = max(largest, abs(scale * upper * h + lower * k / scale))
            root = 1 + np.sqrt(max(1 - h * k, 0.0))
            turn = np.array([[1, -h / root], [-k / root, 1]])
            pair = [i, j]
            moved[:, pair] = turn @ moved[:, pair]
            moved[:, :, pair] = moved[:, :, pair] @ turn.T
            inverse[pair] = turn @ inverse[pair]
        if largest < 1e-6:
            break
    return inverse


def fit_conditionals(
    values: np.ndarray, basis: np.ndarray, *, one_scale: bool = False
) -> np.ndarray:
    """Offset, centre and log scale of every row of ``values`` (n, draws): array (3, n, features).

    Only rows that gain `Thresholds.min_moving_offset_gain` get an offset that depends on the
    parents. In a funnel's neck scales tend to 0, and the smallest wrong slope of an offset exceeds
    them.
    """
    still, before = _maximum_likelihood(values, basis, moving=False, one_scale=one_scale)
    if one_scale:
        return still
    moved, after = _maximum_likelihood(values, basis, moving=True)
    return np.where((after > before + THRESHOLDS.min_moving_offset_gain)[:, None], moved, still)


def _maximum_likelihood(
    values: np.ndarray, basis: np.ndarray, *, moving: bool, one_scale: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood for each row of ``values`` (n, draws) on its own::

        values_i ~ N(offset_i f + s_i centre_i f, s_i^2),   s_i = exp(log_scale_i f)

    Alternates least squares for offset and centre with Fisher scoring for the log scales. Unless
    ``moving`` the offset is constant; with ``one_scale`` the scale is. A ridge keeps coefficients
    at 0 that nothing determines. Returns the array (3, n, features) and mean log likelihoods (n,).
    """
    size, num = basis.shape
    width = size if moving else 1
    parents = (size - 1) // (1 + len(BENDS))
    ridge = num * np.diag([0.0] + [1e-4] * parents + [3e-3] * (size - 1 - parents))
    information = basis @ basis.T + ridge
    pairs = (basis[:, None] * basis[None]).reshape(-1, num)
    normal = np.zeros((len(values), width + size, width + size))
    normal[:, width:, width:] = information
    # With a constant scale the constants of offset and centre are the same: a ridge decides.
    normal[:, width, width] += 1e-4 * num
    straight = values @ basis.T @ np.linalg.inv(information) @ basis
    log_scale, offset = np.zeros((2, len(values), size))
    log_scale[:, 0] = np.log(np.maximum((values - straight).std(axis=1), 1e-300))
    for _ in range(1 if one_scale else 40):
        inverse = np.exp(np.clip(-log_scale @ basis, -300, 300))
        unit = np.sqrt((inverse**2).mean(axis=1, keepdims=True))
        standard, weight = values * inverse, inverse / unit
        squared, crossed = (part @ pairs.T for part in (weight**2, weight))
        normal[:, :width, :width] = (squared.reshape(-1, size, size) + 10 * ridge)[
            :, :width, :width
        ]
        normal[:, :width, width:] = crossed.reshape(-1, size, size)[:, :width]
        normal[:, width:, :width] = normal[:, :width, width:].transpose(0, 2, 1)
        right = np.concatenate([(weight * standard) @ basis[:width].T, standard @ basis.T], axis=1)
        found = np.linalg.solve(normal, right[..., None])[..., 0]
        offset[:, :width], centre = found[:, :width] / unit, found[:, width:]
        misfit = standard - inverse * (offset @ basis) - centre @ basis
        likelihood = np.mean(
            -np.minimum(misfit**2, THRESHOLDS.max_residual**2) / 2 - log_scale @ basis, axis=1
        )
        excess = np.minimum(misfit**2, THRESHOLDS.max_squared_misfit) - 1
        pull = excess @ basis.T - 2 * log_scale @ ridge
        step = np.clip(
            np.linalg.solve(2 * information, pull.T).T,
            -THRESHOLDS.max_scoring_step,
            THRESHOLDS.max_scoring_step,
        )
        if one_scale or np.abs(step).max(initial=0.0) < THRESHOLDS.scoring_tolerance:
            break
        log_scale = log_scale + step
    return np.stack([offset, centre, log_scale]), likelihood


def fit_marginals(residual: np.ndarray) -> dict[str, Any]:
    """Shift, width, skew, tail and heaviness of every row of the residual, by its quantiles.

    For every point of a grid of skew, tail and heaviness, shift and width are fitted by least
    squares. The misfit is in units of a quantile's squared standard error, with the effective
    number of draws. The identity is kept unless another marginal is better by
    `Thresholds.min_shape_gain`. Heaviness must gain more than that, because it can improve the
    middle of a skewed marginal while its steep walls hold chains. It must gain less if both tails
    are too short without it, and may lose a little if the marginal is symmetric and wide: tails
    that are too light are never visited, and no diagnostic shows it.
    """
    dim, num = residual.shape
    levels = ndtr(_QUANTILES)
    found = np.quantile(residual, levels, axis=1).T
    grid = np.meshgrid(np.linspace(-1.2, 1.2, 25), np.geomspace(0.45, 2.0, 16), _HEAVINESS)
    skews, tails, heavy = (
        np.append(part, plain) for part, plain in zip(grid, (0.0, 1.0, 0.0), strict=True)
    )
    squared = heavy[:, None] * _QUANTILES**2
    stretched, stretch = _QUANTILES * np.exp(squared / 2), (1 + squared) * np.exp(squared / 2)
    bent = (np.arcsinh(stretched) + skews[:, None]) / tails[:, None]
    shape, slope = (
        np.sinh(bent),
        np.cosh(bent) * stretch / (tails[:, None] * np.sqrt(1 + stretched**2)),
    )
    density = np.exp(-(_QUANTILES**2) / 2) / np.sqrt(2 * np.pi)
    weight = density**2 / (levels * (1 - levels)) / slope**2
    total = weight.sum(axis=1)
    mean_shape = (weight * shape).sum(axis=1) / total
    centred = shape - mean_shape[:, None]
    middle, scale = (
        found[:, [len(levels) // 2]],
        np.maximum(np.ptp(found, axis=1, keepdims=True), 1e-300),
    )
    # Values of moderate size keep their digits in sums of squares.
    found = (found - middle) / scale
    mean_found = found @ weight.T / total
    crossed, squared = found @ (weight * centred).T, (weight * centred**2).sum(axis=1)
    width = np.maximum(crossed / squared, THRESHOLDS.min_scale)
    shift = mean_found - width * mean_shape
    rest = found**2 @ weight.T - total * mean_found**2 - 2 * width * crossed + width**2 * squared
    misfit = THRESHOLDS.independent_share * num * np.maximum(rest, 0.0) / width**2
    rows, light = np.arange(dim), np.argmin(np.where(heavy > 0, np.inf, misfit), axis=1)
    beyond = found[:, [0, -1]] - (
        shift[rows, light, None] + width[rows, light, None] * shape[light][:, [0, -1]]
    )
    short = (beyond[:, 0] < 0) & (beyond[:, 1] > 0)
    even = (np.abs(skews[light]) < THRESHOLDS.max_symmetric_skew) & (
        tails[light] < THRESHOLDS.max_wide_tail
    )
    sure = np.where(
        even,
        THRESHOLDS.min_heaviness_gain_symmetric,
        np.where(short, THRESHOLDS.min_heaviness_gain_both_ends, THRESHOLDS.min_heaviness_gain),
    )
    misfit += sure[:, None] * (heavy > 0)
    shift, width = middle + scale * shift, scale * width
    best = np.argmin(misfit, axis=1)
    best = np.where(
        misfit[:, -1] - misfit[rows, best] > THRESHOLDS.min_shape_gain, best, len(skews) - 1
    )
    plain = best == len(skews) - 1
    return {
        "shift": np.where(plain, 0.0, shift[rows, best]),
        "width": np.where(plain, 1.0, width[rows, best]),
        "skew": skews[best],
        "tail": tails[best],
        "heaviness": heavy[best],
    }
