"""Which transport map a crowd of draws asks for, if any: its parents, and its parts by maximum likelihood."""

import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from ._transport import BENDS, TransportMap, features
from ._whitening import spread

WORTH = 0.03
"""Nats by which a transport map must raise the mean log density of draws that it was not fitted to."""
MOST_DIM = 300
DENSE_UP_TO = 60
_PARENT_WORTH = 0.3
_CHILD_WORTH = 0.02
_MOST_PARENTS = 3
_ASKED = 4
_MOST_DRAWS = 8000
_BLOCKS = 64
_QUANTILES = np.linspace(-3.2, 3.2, 17)
_SURE = 20.0
_SLICES = (0, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 1)
_SWEEPS = 20


class Estimate(NamedTuple):
    """A map, and by how many nats it raises the mean log density of draws it was not fitted to."""

    transport: TransportMap
    gain: float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of maps that will be found useless
def estimate_transport(draws: np.ndarray, *, sharp: bool = True, dtype: Any = None) -> Estimate | None:
    """The map under which ``draws`` (dim, n) are most nearly Gaussian; None if none is `WORTH` it.

    Parents are added one by one, as long as the log density of draws left out rises by 0.3 nats. Draws of one chain
    should be next to one another: it is blocks of them that are left out. In more than `DENSE_UP_TO` dimensions there
    is one parent at most, and only those coordinates are its children which it helps to predict on their own.
    ``sharp`` trusts even narrow slices of the draws: not to be asked of chains that stick. None as well for more than
    `MOST_DIM` dimensions, or too few draws to tell.
    """
    draws = np.asarray(draws, np.float64)
    dim, num = draws.shape
    if dim > MOST_DIM or num < 20 * dim or not np.isfinite(draws).all():
        return None
    draws = draws[:, :: -(-num // _MOST_DRAWS)]
    held_out = np.arange(draws.shape[1]) * _BLOCKS // draws.shape[1] % 2 == 1
    fitted, judged = draws[:, ~held_out], draws[:, held_out]
    order = np.argsort(-_influence(draws))
    find = _some_children if dim > DENSE_UP_TO else _all_children
    try:
        parents, children, gain = find(fitted, judged, order)
        found = _map(draws, parents, children, sharp=sharp) if gain > WORTH else None
    except np.linalg.LinAlgError:  # draws of rank below their dimension, or hundreds of orders of magnitude wide
        return None
    sound = found is not None and _is_sound(found, draws)
    return Estimate(on_device(found, dtype), gain) if found is not None and sound else None


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def refitted(transport: TransportMap, draws: np.ndarray, *, dtype: Any = None) -> TransportMap:
    """The map with the same parents and children that suits ``draws`` (dim, n) best; itself if they make none."""
    draws = np.asarray(draws, np.float64)
    parents = [int(k) for k in np.asarray(transport.parents)]
    children = np.flatnonzero(np.any(np.asarray(transport.log_scale)[:, 1:] != 0, axis=1))
    try:
        found = _map(draws[:, :: -(-draws.shape[1] // _MOST_DRAWS)], parents, children, sharp=True)
    except np.linalg.LinAlgError:
        return transport
    return on_device(found, dtype) if _is_sound(found, draws) else transport


def _is_sound(transport: TransportMap, draws: np.ndarray) -> bool:
    """Whether the map takes all draws to finite coordinates and those back to where they were, but for rounding."""
    inside = transport.inverse(draws)
    back = transport.forward(inside)
    return bool(
        np.isfinite(inside).all()
        and np.allclose(back, draws, rtol=1e-6, atol=1e-6 * np.abs(draws).max(axis=1, keepdims=True))
    )


def _all_children(fitted: np.ndarray, judged: np.ndarray, order: np.ndarray) -> tuple[list[int], np.ndarray, float]:
    """Parents, children (all others) and the gain."""
    every, parents = np.arange(len(fitted)), list[int]()

    def score(parents: list[int]) -> float:
        children = np.setdiff1d(every, parents) if parents else every[:0]
        return _score(_map(fitted, parents, children, sharp=False), fitted, judged)

    before, best = _score(None, fitted, judged), score([])
    while len(parents) < min(_MOST_PARENTS, len(every) - 1):
        asked = [int(k) for k in order if k not in parents][:_ASKED]
        scores = [score([*parents, k]) for k in asked]
        if not max(scores) > best + _PARENT_WORTH:
            break
        parents.append(asked[int(np.argmax(scores))])
        best = max(scores)
    return parents, np.setdiff1d(every, parents) if parents else every[:0], best - before


def _some_children(fitted: np.ndarray, judged: np.ndarray, order: np.ndarray) -> tuple[list[int], np.ndarray, float]:
    """Parent, children, and their gain, each for itself."""
    gains = np.asarray([_alone(fitted, judged, int(k)) for k in order[:_ASKED]])
    gains = np.where(gains > _CHILD_WORTH, gains, 0.0)
    best = int(np.argmax(gains.sum(axis=1)))
    return [int(order[best])], np.flatnonzero(gains[best]), float(gains[best].sum())


def _alone(fitted: np.ndarray, judged: np.ndarray, parent: int) -> np.ndarray:
    """By how many nats every coordinate is predicted better if the parent bends its mean and scale; 0 for itself."""
    middle, scale = spread(fitted)
    (inside, outside) = ((part - middle[:, None]) / scale[:, None] for part in (fitted, judged))
    basis, there = features(inside[[parent]]), features(outside[[parent]])
    densities = []
    for width in (2, len(basis)):  # straight and of one scale, then bent
        centre, log_scale = _regressed(inside, basis[:width], one_scale=width == 2)
        level = log_scale @ there[:width]
        misfit = np.minimum(((outside - centre @ there[:width]) * np.exp(-level)) ** 2, 100.0)
        densities.append(np.mean(-level - misfit / 2, axis=1))
    gain = densities[1] - densities[0]
    gain[parent] = 0.0
    return gain


def on_device(transport: TransportMap, dtype: Any = None) -> TransportMap:
    """The same map as JAX arrays."""
    dtype = dtype or jnp.zeros(()).dtype
    parts: dict[str, Any] = {name: jnp.asarray(part, dtype) for name, part in vars(transport).items()}
    return TransportMap(**parts | {"parents": jnp.asarray(transport.parents, jnp.int32)})


def _map(draws: np.ndarray, parents: list[int], children: np.ndarray, *, sharp: bool) -> TransportMap:
    """The map with these parents and children; all other coordinates keep to themselves."""
    dim = len(draws)
    middle, scale = spread(draws)
    standard = (draws - middle[:, None]) / scale[:, None]
    basis = features(standard[parents])
    centre, log_scale = np.zeros((dim, len(basis))), np.zeros((dim, len(basis)))
    factor, inverse = np.eye(dim), np.eye(dim)
    centre[:, 0], log_scale[:, 0] = middle, np.log(scale)
    if len(children):
        axes = _common_axes(standard[children], standard[parents], sharp=sharp)
        at = np.ix_(children, children)
        factor[at], inverse[at] = scale[children, None] * axes, np.linalg.inv(axes) / scale[children]
        centre[children], log_scale[children] = _regressed(inverse[at] @ draws[children], basis)
    parts: dict[str, Any] = {
        "parents": np.asarray(parents, int),
        "centre": centre,
        "log_scale": log_scale,
        "factor": factor,
        "inverse_factor": inverse,
    }
    plain: dict[str, Any] = {"shift": np.zeros(dim), "width": np.ones(dim), "skew": np.zeros(dim), "tail": np.ones(dim)}
    return TransportMap(**parts, **_marginals(TransportMap(**parts, **plain).residual(draws)))


def _common_axes(standard: np.ndarray, parents: np.ndarray, *, sharp: bool) -> np.ndarray:
    """Axes in which the others' covariances for all values of the first parent are diagonal, as columns.

    Of a Gaussian likelihood and a Gaussian prior whose common scale is the parent, posteriors for all its values are
    diagonal in the same axes. First those that two covariances have in common, where the parent is low and where it is
    high; ``sharp`` goes on with narrow slices (`_sharpened`), which tell deep in a funnel's neck, where the smallest
    share of a wide direction in a narrow axis is fatal.
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
    covariances = np.asarray([_trusted(_covariance(inverse @ standard, parents, s), int(s.sum())) for s in slices])
    return axes @ np.linalg.inv(_sharpened(covariances, np.asarray([s.mean() for s in slices])))


def _covariance(standard: np.ndarray, parents: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Covariance of the draws ``inside``, what is linear in the parents taken away."""
    values = standard[:, inside]
    basis = np.concatenate([np.ones((1, values.shape[1])), parents[:, inside]])
    rest = values - np.linalg.lstsq(basis.T, values.T, rcond=None)[0].T @ basis
    return rest @ rest.T / rest.shape[1]


def _trusted(covariance: np.ndarray, num: int) -> np.ndarray:
    """The covariance of ``num`` draws, of which a tenth may be independent, drawn towards its diagonal accordingly."""
    own = 0.1 * num / (0.1 * num + len(covariance))
    return own * covariance + (1 - own) * np.diag(np.diag(covariance))


def _sharpened(covariances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The matrix B that makes all ``B C_k B^T`` as diagonal as can be.

    Minimises ``sum_k weight_k (log det diag(B C_k B^T) - log det(B C_k B^T))``, by which slices with tiny variances
    count as much as wide ones, two rows at a time. Source: Pham 2001, Joint approximate diagonalization of positive
    definite Hermitian matrices.
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
            even, odd = (scale * upper + lower) / (omega + 1), (scale * upper - lower) / max(omega - 1, 1e-9)
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


def _regressed(values: np.ndarray, basis: np.ndarray, *, one_scale: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood for ``values_i ~ N(centre_i f, exp(2 log_scale_i f))``, each row of (n, draws) on its own.

    With ``one_scale`` the scales do not depend on f. Weighted least squares for the centres and Fisher scoring for the
    scales in turn. A ridge keeps slopes that nothing determines at 0, and the ends straight.
    """
    num_features, num = basis.shape
    parents = (num_features - 1) // (1 + len(BENDS))
    ridge = num * np.diag([0.0] + [1e-4] * parents + [3e-3] * (num_features - 1 - parents))
    information = basis @ basis.T + ridge
    centre = np.linalg.solve(information, basis @ values.T).T
    log_scale = np.zeros_like(centre)
    log_scale[:, 0] = np.log(np.maximum((values - centre @ basis).std(axis=1), 1e-300))
    pairs = (basis[:, None] * basis[None]).reshape(-1, num)
    for _ in range(0 if one_scale else 40):
        weight = np.exp(np.clip(-2 * log_scale @ basis, -600, 600))
        weight /= weight.mean(axis=1, keepdims=True)
        normal = (weight @ pairs.T).reshape(-1, num_features, num_features) + ridge
        centre = np.linalg.solve(normal, ((weight * values) @ basis.T)[..., None])[..., 0]
        misfit = np.log(np.abs(values - centre @ basis) + 1e-300) - log_scale @ basis
        excess = np.minimum(np.exp(np.minimum(2 * misfit, 5.0)), 50.0) - 1
        pull = excess @ basis.T - 2 * log_scale @ ridge
        step = np.clip(np.linalg.solve(2 * information, pull.T).T, -0.5, 0.5)
        log_scale = log_scale + step
        if np.abs(step).max(initial=0.0) < 1e-3:
            break
    return centre, log_scale


def _marginals(residual: np.ndarray) -> dict[str, Any]:
    """Shift, width, skew and tail of every row of the residual, by its quantiles; those of the identity where that is
    as good.

    For every skew and tail of a grid, shift and width by least squares, a quantile's error in units of its own standard
    error for a tenth of the draws.
    """
    dim, num = residual.shape
    levels = ndtr(_QUANTILES)  # the outermost are one draw in 1,500
    found = np.quantile(residual, levels, axis=1).T
    skews, tails = (part.ravel() for part in np.meshgrid(np.linspace(-1.2, 1.2, 25), np.geomspace(0.45, 2.0, 16)))
    skews, tails = np.append(skews, 0.0), np.append(tails, 1.0)
    bent = (np.arcsinh(_QUANTILES) + skews[:, None]) / tails[:, None]
    shape, slope = np.sinh(bent), np.cosh(bent) / (tails[:, None] * np.sqrt(1 + _QUANTILES**2))
    density = np.exp(-(_QUANTILES**2) / 2) / np.sqrt(2 * np.pi)
    weight = density**2 / (levels * (1 - levels)) / slope**2
    total = weight.sum(axis=1)
    mean_shape = (weight * shape).sum(axis=1) / total
    mean_found = found @ weight.T / total
    centred = shape - mean_shape[:, None]
    width = (found @ (weight * centred).T) / (weight * centred**2).sum(axis=1)
    width = np.maximum(width, 1e-12)
    shift = mean_found - width * mean_shape
    error = (found[:, None] - shift[..., None] - width[..., None] * shape) / width[..., None]
    misfit = 0.1 * num * (weight * error**2).sum(axis=2)
    best = np.argmin(misfit, axis=1)
    rows = np.arange(dim)
    best = np.where(misfit[:, -1] - misfit[rows, best] > _SURE, best, len(skews) - 1)
    plain = best == len(skews) - 1
    return {
        "shift": np.where(plain, 0.0, shift[rows, best]),
        "width": np.where(plain, 1.0, width[rows, best]),
        "skew": skews[best],
        "tail": tails[best],
    }


def _score(transport: TransportMap | None, fitted: np.ndarray, judged: np.ndarray) -> float:
    """Mean log density of ``judged`` under the Gaussian that ``fitted`` draws are in the map's coordinates.

    A draw more than ten deviations out counts as one that far out.
    """
    if transport is None:
        inside, outside, log_det = fitted, judged, 0.0
    else:
        inside, outside = transport.inverse(fitted), transport.inverse(judged)
        log_det = transport.log_det(outside) + np.linalg.slogdet(transport.factor)[1]
    if not (np.isfinite(inside).all() and np.isfinite(outside).all()):
        return -np.inf
    centre = inside.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(np.cov(inside).reshape(len(inside), -1))
    scales = np.sqrt(np.maximum(values, 1e-14 * values[-1]))
    distance = np.minimum((vectors.T @ (outside - centre) / scales[:, None]) ** 2, 100.0)
    return float(np.mean(-distance.sum(axis=0) / 2 - log_det) - np.log(scales).sum())


def _influence(draws: np.ndarray) -> np.ndarray:
    """How much every coordinate says about the spread of the others: the sum of squared correlations between it and
    the log of their squares, what is linear in it taken away; in the user's coordinates or in white ones, whichever
    says more.
    """
    num = draws.shape[1]
    middle, scale = spread(draws)
    x = (draws - middle[:, None]) / scale[:, None]
    x = x - x.mean(axis=1, keepdims=True)
    unit = x / np.maximum(x.std(axis=1, keepdims=True), 1e-12)
    cut = np.clip(unit, -4, 4)
    cut = (cut - cut.mean(axis=1, keepdims=True)) / np.maximum(cut.std(axis=1, keepdims=True), 1e-12)
    values, vectors = np.linalg.eigh(np.cov(x).reshape(len(x), -1))
    white = (vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1]))).T @ x
    correlation = unit @ unit.T / num
    influence = np.zeros(len(x))
    for k in range(len(x)):
        rest = np.delete(unit - correlation[:, k : k + 1] * unit[k], k, axis=0)
        influence[k] = max(np.sum(_correlation(np.log(part**2 + 0.05), cut[k]) ** 2) for part in (rest, white))
    return influence


def _correlation(rows: np.ndarray, standard: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred @ standard / len(standard) / np.maximum(centred.std(axis=1), 1e-12)
