"""The parts of a transport map, each by maximum likelihood: common axes, conditional moments,
marginals.
"""

import itertools
from typing import Any

import numpy as np
from scipy.special import ndtr

from ._transport_map import BENDS

_QUANTILES = np.linspace(-3.2, 3.2, 17)
_HEAVINESS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
_SURE = 20.0
_HEAVY_SURE = 10.0
_HEAVY_SURE_AT_BOTH_ENDS = 3.0
_HEAVY_SURE_WHERE_EVEN = -3.0
_EVEN_SKEW, _EVEN_TAIL = 0.15, 0.7
_SLICES = (0, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 1)
_SWEEPS = 20
_MOVED = 0.01


def common_axes(standard: np.ndarray, parents: np.ndarray, *, sharp: bool) -> np.ndarray:
    """Axes in which the others' covariances for all values of the first parent are diagonal, as
    columns.

    Of a Gaussian likelihood and a Gaussian prior whose common scale is the parent, posteriors for
    all its values are diagonal in the same axes. First those that two covariances have in common,
    where the parent is low and where it is high; ``sharp`` goes on with narrow slices
    (`_sharpened`), which tell deep in a funnel's neck, where the smallest share of a wide direction
    in a narrow axis is fatal.
    """
    first = parents[0]
    low, high = np.quantile(first, [1 / 3, 2 / 3])
    shapes = [_covariance(standard, parents, side) for side in (first <= low, first >= high)]
    shapes = [shape * (len(shape) / np.trace(shape)) for shape in shapes]
    values, vectors = np.linalg.eigh(shapes[0] + shapes[1])
    root = np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    halves = (vectors / root) @ vectors.T
    turned = np.linalg.eigh(halves @ shapes[1] @ halves)[1]
    axes = (vectors * root) @ vectors.T @ turned
    if not sharp:
        return axes
    edges = np.quantile(first, _SLICES)
    slices = [(first >= a) & (first <= b) for a, b in itertools.pairwise(edges)]
    slices = [inside for inside in slices if inside.sum() > 3 * len(standard)]
    inverse = np.linalg.inv(axes)
    covariances = np.asarray(
        [_trusted(_covariance(inverse @ standard, parents, s), int(s.sum())) for s in slices]
    )
    return axes @ np.linalg.inv(_sharpened(covariances, np.asarray([s.mean() for s in slices])))


def _covariance(standard: np.ndarray, parents: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Covariance of the draws ``inside``, what is linear in the parents taken away."""
    values = standard[:, inside]
    basis = np.concatenate([np.ones((1, values.shape[1])), parents[:, inside]])
    rest = values - np.linalg.lstsq(basis.T, values.T, rcond=None)[0].T @ basis
    return rest @ rest.T / rest.shape[1]


def _trusted(covariance: np.ndarray, num: int) -> np.ndarray:
    """The covariance of ``num`` draws, of which a tenth may be independent, drawn towards its
    diagonal accordingly.
    """
    own = 0.1 * num / (0.1 * num + len(covariance))
    return own * covariance + (1 - own) * np.diag(np.diag(covariance))


def _sharpened(covariances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The matrix B that makes all ``B C_k B^T`` as diagonal as can be.

    Minimises ``sum_k weight_k (log det diag(B C_k B^T) - log det(B C_k B^T))``, by which slices
    with tiny variances count as much as wide ones, two rows at a time. Source: Pham 2001, Joint
    approximate diagonalization of positive definite Hermitian matrices.
    """
    moved, dim = covariances.copy(), covariances.shape[1]
    inverse, weights = np.eye(dim), weights / weights.sum()
    for _ in range(_SWEEPS):
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


def regressed(values: np.ndarray, basis: np.ndarray, *, one_scale: bool = False) -> np.ndarray:
    """Offset, centre and log scale of every row of ``values`` (n, draws): arrays (3, n, features).

    An offset that moves with the parents is given to rows only that are `_MOVED` nats more probable
    with it: down a funnel's neck, where scales tend to 0, the smallest slope of it is fatal.
    """
    still, before = _likeliest(values, basis, moving=False, one_scale=one_scale)
    if one_scale:
        return still
    moved, after = _likeliest(values, basis, moving=True)
    return np.where((after > before + _MOVED)[:, None], moved, still)


def _likeliest(
    values: np.ndarray, basis: np.ndarray, *, moving: bool, one_scale: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood for ``values_i ~ N(offset_i f + s_i centre_i f, s_i^2)``, ``s_i =
    exp(log_scale_i f)``, each row of (n, draws) on its own, and the mean log likelihoods (n,).

    Unless ``moving`` the offset is constant, with ``one_scale`` the scale. Least squares for offset
    and centre, over s, and Fisher scoring for the scales in turn. A ridge keeps slopes that nothing
    determines at 0, and the ends straight.
    """
    size, num = basis.shape
    width = size if moving else 1
    parents = (size - 1) // (1 + len(BENDS))
    ridge = num * np.diag([0.0] + [1e-4] * parents + [3e-3] * (size - 1 - parents))
    information = basis @ basis.T + ridge
    pairs = (basis[:, None] * basis[None]).reshape(-1, num)
    normal = np.zeros((len(values), width + size, width + size))
    normal[:, width:, width:] = information
    normal[:, width, width] += 1e-4 * num  # where the scale is constant, the two constants are one
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
        likelihood = np.mean(-np.minimum(misfit**2, 100.0) / 2 - log_scale @ basis, axis=1)
        excess = np.minimum(misfit**2, 50.0) - 1
        pull = excess @ basis.T - 2 * log_scale @ ridge
        step = np.clip(np.linalg.solve(2 * information, pull.T).T, -0.5, 0.5)
        if one_scale or np.abs(step).max(initial=0.0) < 1e-3:
            break
        log_scale = log_scale + step
    return np.stack([offset, centre, log_scale]), likelihood


def marginals(residual: np.ndarray) -> dict[str, Any]:
    """Shift, width, skew, tail and heaviness of every row of the residual, by its quantiles; those
    of the identity where that is as good.

    For every skew, tail and heaviness of a grid, shift and width by least squares, a quantile's
    error in units of its own standard error for a tenth of the draws. Heaviness must gain more, as
    it often is but a better middle, and its walls hold chains; less where the best without it falls
    short at both ends, as under tails that are powers. Where that has no skew and tails far above a
    Gaussian's it may even lose a little: tails heavier than a map's are never visited and nothing
    tells, lighter ones cost little.
    """
    dim, num = residual.shape
    levels = ndtr(_QUANTILES)  # the outermost are one draw in 1,500
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
    found = (found - middle) / scale  # of moderate size, so that sums of squares keep their digits
    mean_found = found @ weight.T / total
    crossed, squared = found @ (weight * centred).T, (weight * centred**2).sum(axis=1)
    width = np.maximum(crossed / squared, 1e-12)
    shift = mean_found - width * mean_shape
    rest = found**2 @ weight.T - total * mean_found**2 - 2 * width * crossed + width**2 * squared
    misfit = 0.1 * num * np.maximum(rest, 0.0) / width**2
    rows, light = np.arange(dim), np.argmin(np.where(heavy > 0, np.inf, misfit), axis=1)
    beyond = found[:, [0, -1]] - (
        shift[rows, light, None] + width[rows, light, None] * shape[light][:, [0, -1]]
    )
    short = (beyond[:, 0] < 0) & (beyond[:, 1] > 0)
    even = (np.abs(skews[light]) < _EVEN_SKEW) & (tails[light] < _EVEN_TAIL)
    sure = np.where(
        even, _HEAVY_SURE_WHERE_EVEN, np.where(short, _HEAVY_SURE_AT_BOTH_ENDS, _HEAVY_SURE)
    )
    misfit += sure[:, None] * (heavy > 0)
    shift, width = middle + scale * shift, scale * width
    best = np.argmin(misfit, axis=1)
    best = np.where(misfit[:, -1] - misfit[rows, best] > _SURE, best, len(skews) - 1)
    plain = best == len(skews) - 1
    return {
        "shift": np.where(plain, 0.0, shift[rows, best]),
        "width": np.where(plain, 1.0, width[rows, best]),
        "skew": skews[best],
        "tail": tails[best],
        "heaviness": heavy[best],
    }
