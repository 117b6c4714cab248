"""Which transport map a crowd of draws asks for, if any: its parents, and its parts by maximum
likelihood.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._transport_map import TransportMap, features
from ._transport_mixing import Mixing, halves, mixing, no_mixing
from ._transport_parts import common_axes, marginals, regressed
from ._whitening import spread

WORTH = 0.03
"""Nats by which a transport map must raise the mean log density of draws that it was not fitted to."""
MOST_DIM = 300
DENSE_UP_TO = 60
_FIRST_WORTH = 0.02
_PARENT_WORTH = 0.3
_CHILD_WORTH = 0.02
_OWN_AXES_WORTH = 0.05
_MOST_PARENTS = 3
_ASKED = 4
_MOST_DRAWS = 8000


class Estimate(NamedTuple):
    """A map, and by how many nats it raises the mean log density of draws it was not fitted to."""

    transport: TransportMap
    gain: float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # of maps that will be found useless
def estimate_transport(
    draws: np.ndarray,
    *,
    even: np.ndarray | None = None,
    along: tuple[int, ...] = (),
    sharp: bool = True,
    dtype: Any = None,
) -> Estimate | None:
    """The map under which ``draws`` (dim, n) are most nearly Gaussian; None if none is `WORTH` it.

    Parents are added one by one, as long as the log density of draws left out rises by 0.3 nats.
    Draws of one chain should be next to one another: it is blocks of them that are left out. In
    more than `DENSE_UP_TO` dimensions there is one parent at most, or those ``along`` which the
    ``even`` draws are spread, and only those coordinates are its children which it helps to predict
    on their own, or whose correlations it changes. ``sharp`` trusts even narrow slices of the
    draws, and takes a first parent that gains 0.02 nats, for what is slow in the bulk may be far
    slower in a tail: not to be asked of chains that stick, or sit in several modes. What the
    parents do to the others is told by draws that are ``even``, if there are such: right given the
    parents, whatever their distribution. None as well for more than `MOST_DIM` dimensions, or too
    few draws to tell.
    """
    draws = np.asarray(draws, np.float64)
    dim, num = draws.shape
    if dim > MOST_DIM or num < 20 * dim or not np.isfinite(draws).all():
        return None
    draws = draws[:, :: -(-num // _MOST_DRAWS)]
    fitted, judged = halves(draws)
    order = np.argsort(-_influence(draws))
    least = _FIRST_WORTH if sharp else _PARENT_WORTH
    try:
        if dim > DENSE_UP_TO:
            parents, children, gain = _some_children(draws, even, order, along)
        else:
            parents, children, gain = _all_children(fitted, judged, order, least=least)
        found = _map(draws, parents, children, sharp=sharp, even=even) if gain > WORTH else None
    except (
        np.linalg.LinAlgError
    ):  # draws of rank below their dimension, or hundreds of orders of magnitude wide
        return None
    sound = found is not None and _is_sound(found, draws)
    return Estimate(on_device(found, dtype), gain) if found is not None and sound else None


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def refitted(transport: TransportMap, draws: np.ndarray, *, dtype: Any = None) -> TransportMap:
    """The map with the same parents and children that suits ``draws`` (dim, n) best; itself if they
    make none.
    """
    draws = np.asarray(draws, np.float64)
    parents = [int(k) for k in np.asarray(transport.parents)]
    children = np.flatnonzero(np.any(np.asarray(transport.log_scale)[:, 1:] != 0, axis=1))
    try:
        found = _map(draws[:, :: -(-draws.shape[1] // _MOST_DRAWS)], parents, children, sharp=True)
    except np.linalg.LinAlgError:
        return transport
    return on_device(found, dtype) if _is_sound(found, draws) else transport


def _is_sound(transport: TransportMap, draws: np.ndarray) -> bool:
    """Whether the map takes all draws to finite coordinates and those back to where they were, but
    for rounding.
    """
    inside = transport.inverse(draws)
    back = transport.forward(inside)
    return bool(
        np.isfinite(inside).all()
        and np.allclose(
            back, draws, rtol=1e-6, atol=1e-6 * np.abs(draws).max(axis=1, keepdims=True)
        )
    )


def _all_children(
    fitted: np.ndarray, judged: np.ndarray, order: np.ndarray, *, least: float
) -> tuple[list[int], np.ndarray, float]:
    """Parents, of which the first must gain ``least``, children (all others) and the gain."""
    every, parents = np.arange(len(fitted)), list[int]()

    def score(parents: list[int]) -> float:
        children = np.setdiff1d(every, parents) if parents else every[:0]
        try:
            return _score(_map(fitted, parents, children, sharp=False), fitted, judged)
        except np.linalg.LinAlgError:  # of one candidate, which says nothing of the others
            return -np.inf

    before, best = _score(None, fitted, judged), score([])
    while len(parents) < min(_MOST_PARENTS, len(every) - 1):
        asked = [int(k) for k in order if k not in parents][:_ASKED]
        scores = [score([*parents, k]) for k in asked]
        if not max(scores) > best + (_PARENT_WORTH if parents else least):
            break
        parents.append(asked[int(np.argmax(scores))])
        best = max(scores)
    return parents, np.setdiff1d(every, parents) if parents else every[:0], best - before


def _some_children(
    draws: np.ndarray, even: np.ndarray | None, order: np.ndarray, along: tuple[int, ...]
) -> tuple[list[int], np.ndarray, float]:
    """Parents, children, and their gain, each for itself: chosen by the ``even`` draws, told of the
    others.
    """
    asked = [[int(k)] for k in order[:_ASKED]] + ([list(along)] if len(along) > 1 else [])
    spreads, given = spread(draws), draws if even is None else even
    gains = np.asarray([_alone(given, spreads, parents) for parents in asked])
    gains = np.where(gains > _CHILD_WORTH, gains, 0.0)
    best = int(np.argmax(gains.sum(axis=1)))
    parents, children = asked[best], np.flatnonzero(gains[best])
    if even is None:
        return parents, children, float(gains[best].sum())
    others = np.setdiff1d(np.arange(len(draws)), parents)
    found = _conditional(even, spreads, parents, others, np.eye(len(others)), mixed=True)
    children = np.union1d(children, found["mixed"])
    return parents, children, float(_alone(draws, spreads, parents)[children].sum())


def _alone(
    draws: np.ndarray, spreads: tuple[np.ndarray, np.ndarray], parents: list[int]
) -> np.ndarray:
    """By how many nats every coordinate is predicted better if parents bend its mean and scale; 0
    for themselves.
    """
    inside, outside = halves((draws - spreads[0][:, None]) / spreads[1][:, None])
    basis, there = features(inside[parents]), features(outside[parents])
    densities = []
    for width in (1 + len(parents), len(basis)):  # straight and of one scale, then bent
        offset, centre, log_scale = regressed(inside, basis[:width], one_scale=width < len(basis))
        level = log_scale @ there[:width]
        residual = (outside - offset @ there[:width]) * np.exp(-level) - centre @ there[:width]
        misfit = np.minimum(residual**2, 100.0)
        densities.append(np.mean(-level - misfit / 2, axis=1))
    gain = densities[1] - densities[0]
    gain[parents] = 0.0
    return gain


def on_device(transport: TransportMap, dtype: Any = None) -> TransportMap:
    """The same map as JAX arrays."""
    dtype = dtype or jnp.zeros(()).dtype
    parts: dict[str, Any] = {
        name: jnp.asarray(part, dtype) for name, part in vars(transport).items()
    }
    whole = {
        name: jnp.asarray(getattr(transport, name), jnp.int32) for name in ("parents", "mixed")
    }
    return TransportMap(**parts | whole)


def _map(
    draws: np.ndarray,
    parents: list[int],
    children: np.ndarray,
    *,
    sharp: bool,
    even: np.ndarray | None = None,
) -> TransportMap:
    """The map with these parents and children, whose conditionals are those of the ``even`` draws
    if there are any; all other coordinates keep to themselves.
    """
    middle, scale = spread(draws)
    given = draws if even is None else even
    standard = (given - middle[:, None]) / scale[:, None]
    axes = (
        common_axes(standard[children], standard[parents], sharp=sharp)
        if len(children)
        else np.eye(0)
    )
    whole = _conditional(given, (middle, scale), parents, children, axes, mixed=sharp)
    if sharp and len(children):
        own = _conditional(
            given, (middle, scale), parents, children, np.eye(len(children)), mixed=True
        )
        if (
            own["mixed"].size
            and _log_density(own, given) > _log_density(whole, given) + _OWN_AXES_WORTH
        ):
            whole = own
    return TransportMap(**whole | marginals(TransportMap(**whole).residual(draws)))


def _conditional(
    given: np.ndarray,
    spreads: tuple[np.ndarray, np.ndarray],
    parents: list[int],
    children: np.ndarray,
    axes: np.ndarray,
    *,
    mixed: bool,
) -> dict[str, Any]:
    """The parts of a map with these axes of the children, all residuals Gaussian, by the draws
    ``given``.
    """
    dim, (middle, scale) = len(given), spreads
    basis = features((given[parents] - middle[parents, None]) / scale[parents, None])
    parts = np.zeros((3, dim, len(basis)))
    factor, inverse = np.eye(dim), np.eye(dim)
    parts[0, :, 0], parts[2, :, 0] = middle, np.log(scale)
    if len(children):
        at = np.ix_(children, children)
        factor[at], inverse[at] = (
            scale[children, None] * axes,
            np.linalg.inv(axes) / scale[children],
        )
        parts[:, children] = regressed(inverse[at] @ given[children], basis)
    zeros, ones = np.zeros(dim), np.ones(dim)
    whole: dict[str, Any] = {
        "parents": np.asarray(parents, int),
        **dict(zip(("offset", "centre", "log_scale"), parts, strict=True)),
        "factor": factor,
        "inverse_factor": inverse,
        **{"shift": zeros, "width": ones, "skew": zeros, "tail": ones, "heaviness": zeros},
    }
    whole |= _mixing_of(no_mixing(len(basis)))
    if mixed and len(children):
        rows = mixing(TransportMap(**whole).residual(given)[children], basis)
        whole |= _mixing_of(rows._replace(rows=children[rows.rows]))
    return whole


def _log_density(parts: dict[str, Any], draws: np.ndarray) -> float:
    """Mean log density of the draws, up to a constant, if all residuals are normal."""
    transport = TransportMap(**parts)
    residual = transport.residual(draws)
    squares = np.minimum(residual**2, 100.0).sum(axis=0)
    basis = features(residual[transport.parents])
    scales = transport.log_scale.sum(axis=0) @ basis + transport.own_scale.sum(axis=0) @ basis
    return float(np.mean(-squares / 2 - scales) - np.linalg.slogdet(transport.factor)[1])


def _mixing_of(found: Mixing) -> dict[str, Any]:
    return {"mixed": found.rows, "mixing": found.mixing, "own_scale": found.own_scale}


def _score(transport: TransportMap | None, fitted: np.ndarray, judged: np.ndarray) -> float:
    """Mean log density of ``judged`` under the Gaussian that ``fitted`` draws are in the map's
    coordinates.

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
    covariance = np.cov(inside).reshape(len(inside), -1)
    if not np.isfinite(covariance).all():
        return -np.inf
    values, vectors = np.linalg.eigh(covariance)
    scales = np.sqrt(np.maximum(values, 1e-14 * values[-1]))
    distance = np.minimum((vectors.T @ (outside - centre) / scales[:, None]) ** 2, 100.0)
    return float(np.mean(-distance.sum(axis=0) / 2 - log_det) - np.log(scales).sum())


def likely_parents(draws: np.ndarray) -> list[int]:
    """Those dimensions that say most about the spread of the others in ``draws`` (dim, n), best
    first.
    """
    draws = np.asarray(draws, np.float64)
    return [
        int(k)
        for k in np.argsort(-_influence(draws[:, :: -(-draws.shape[1] // _MOST_DRAWS)]))[:_ASKED]
    ]


def _influence(draws: np.ndarray) -> np.ndarray:
    """How much every coordinate says about the spread of the others: the sum of squared
    correlations between it and the log of their squares, what is linear in it taken away; in the
    user's coordinates or in white ones, whichever says more.
    """
    num = draws.shape[1]
    middle, scale = spread(draws)
    x = (draws - middle[:, None]) / scale[:, None]
    x = x - x.mean(axis=1, keepdims=True)
    unit = x / np.maximum(x.std(axis=1, keepdims=True), 1e-12)
    cut = np.clip(unit, -4, 4)
    cut = (cut - cut.mean(axis=1, keepdims=True)) / np.maximum(
        cut.std(axis=1, keepdims=True), 1e-12
    )
    values, vectors = np.linalg.eigh(np.cov(x).reshape(len(x), -1))
    white = (vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1]))).T @ x
    correlation = unit @ unit.T / num
    influence = np.zeros(len(x))
    for k in range(len(x)):
        rest = np.delete(unit - correlation[:, k : k + 1] * unit[k], k, axis=0)
        influence[k] = max(
            np.sum(_correlation(np.log(part**2 + 0.05), cut[k]) ** 2) for part in (rest, white)
        )
    return influence


def _correlation(rows: np.ndarray, standard: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred @ standard / len(standard) / np.maximum(centred.std(axis=1), 1e-12)
