"""Estimation of a transport map from draws: parents, children, and what the map gains."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ._parent_candidates import scale_influence
from ._thresholds import THRESHOLDS
from ._transport_map import TransportMap, features
from ._transport_mixing import Mixing, fit_mixing, no_mixing, split_blocks
from ._transport_parts import common_axes, fit_conditionals, fit_marginals
from ._whitening_estimation import spread


class Estimate(NamedTuple):
    """An estimated map.

    Attributes:
        transport: the map.
        gain: nats by which it raises the mean log density of draws that it was not fitted to.
    """

    transport: TransportMap
    gain: float


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # maps that overflow are rejected
def estimate_transport(
    draws: np.ndarray,
    *,
    even: np.ndarray | None = None,
    along: tuple[int, ...] = (),
    reliable: bool = True,
    dtype: Any = None,
) -> Estimate | None:
    """Estimate the map under which draws are most nearly Gaussian.

    Parents are added one by one as long as the log density of held-out draws rises by
    `Thresholds.min_parent_gain`. In more than `Thresholds.max_dense_dim` dimensions there is one
    parent, or the given ``along``, and only those coordinates are children whose held-out
    prediction improves or whose correlations change.

    Args:
        draws: shape ``(dim, n)``, in the user's coordinates; draws of one chain next to each other,
            because blocks are held out.
        even: draws spread evenly over the values of the parents, if there are any. They determine
            the effect of the parents; it is the same under any distribution of the parents.
        along: the parents along which ``even`` is spread.
        reliable: whether chains agree, so that narrow slices of the draws can be trusted. A first
            parent then only needs `Thresholds.min_part_gain`. False for chains that stick or sit in
            several modes.
        dtype: floating type of the map; by default JAX's.

    Returns:
        The map and its gain. None if the gain is below `Thresholds.min_map_gain`, if there are more
        than `Thresholds.max_dim` dimensions, or if draws are too few or not finite.
    """
    draws = np.asarray(draws, np.float64)
    dim, num = draws.shape
    if (
        dim > THRESHOLDS.max_dim
        or num < THRESHOLDS.min_draws_per_dim * dim
        or not np.isfinite(draws).all()
    ):
        return None
    draws = draws[:, :: -(-num // THRESHOLDS.max_draws)]
    fitted, judged = split_blocks(draws)
    order = np.argsort(-scale_influence(draws))
    least = THRESHOLDS.min_part_gain if reliable else THRESHOLDS.min_parent_gain
    try:
        if dim > THRESHOLDS.max_dense_dim:
            parents, children, gain = _some_children(draws, even, order, along)
        else:
            parents, children, gain = _all_children(fitted, judged, order, least=least)
        found = (
            _fit_map(draws, parents, children, reliable=reliable, even=even)
            if gain > THRESHOLDS.min_map_gain
            else None
        )
    except np.linalg.LinAlgError:  # draws of deficient rank, or with scales that overflow
        return None
    sound = found is not None and _is_sound(found, draws)
    return Estimate(on_device(found, dtype), gain) if found is not None and sound else None


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def refitted(transport: TransportMap, draws: np.ndarray, *, dtype: Any = None) -> TransportMap:
    """The map with the same parents and children, fitted to other draws.

    Args:
        transport: map that names parents and children.
        draws: shape ``(dim, n)``.
        dtype: floating type of the map; by default JAX's.

    Returns:
        The new map, or ``transport`` itself if the fit fails.
    """
    draws = np.asarray(draws, np.float64)
    parents = [int(k) for k in np.asarray(transport.parents)]
    children = np.flatnonzero(np.any(np.asarray(transport.log_scale)[:, 1:] != 0, axis=1))
    try:
        found = _fit_map(
            draws[:, :: -(-draws.shape[1] // THRESHOLDS.max_draws)],
            parents,
            children,
            reliable=True,
        )
    except np.linalg.LinAlgError:
        return transport
    return on_device(found, dtype) if _is_sound(found, draws) else transport


def _is_sound(transport: TransportMap, draws: np.ndarray) -> bool:
    """Whether the map takes all draws to finite coordinates and, up to rounding, back."""
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
    """Parents, children (all others) and the gain; the first parent must gain ``least``."""
    every, parents = np.arange(len(fitted)), list[int]()

    def score(parents: list[int]) -> float:
        children = np.setdiff1d(every, parents) if parents else every[:0]
        try:
            return _score(_fit_map(fitted, parents, children, reliable=False), fitted, judged)
        except np.linalg.LinAlgError:  # this candidate fails, others may not
            return -np.inf

    before, best = _score(None, fitted, judged), score([])
    while len(parents) < min(THRESHOLDS.max_parents, len(every) - 1):
        asked = [int(k) for k in order if k not in parents][: THRESHOLDS.max_candidates]
        scores = [score([*parents, k]) for k in asked]
        if not max(scores) > best + (THRESHOLDS.min_parent_gain if parents else least):
            break
        parents.append(asked[int(np.argmax(scores))])
        best = max(scores)
    return parents, np.setdiff1d(every, parents) if parents else every[:0], best - before


def _some_children(
    draws: np.ndarray, even: np.ndarray | None, order: np.ndarray, along: tuple[int, ...]
) -> tuple[list[int], np.ndarray, float]:
    """Parents, the children that each gain on their own, and the sum of these gains."""
    asked = [[int(k)] for k in order[: THRESHOLDS.max_candidates]] + (
        [list(along)] if len(along) > 1 else []
    )
    location_scale, given = spread(draws), draws if even is None else even
    gains = np.asarray([_single_gains(given, location_scale, parents) for parents in asked])
    gains = np.where(gains > THRESHOLDS.min_part_gain, gains, 0.0)
    best = int(np.argmax(gains.sum(axis=1)))
    parents, children = asked[best], np.flatnonzero(gains[best])
    if even is None:
        return parents, children, float(gains[best].sum())
    others = np.setdiff1d(np.arange(len(draws)), parents)
    found = _gaussian_parts(even, location_scale, parents, others, np.eye(len(others)), mixed=True)
    children = np.union1d(children, found["mixed"])
    return parents, children, float(_single_gains(draws, location_scale, parents)[children].sum())


def _single_gains(
    draws: np.ndarray, location_scale: tuple[np.ndarray, np.ndarray], parents: list[int]
) -> np.ndarray:
    """Gain of every coordinate alone if its mean and scale bend with the parents."""
    inside, outside = split_blocks(
        (draws - location_scale[0][:, None]) / location_scale[1][:, None]
    )
    basis, there = features(inside[parents]), features(outside[parents])
    densities = []
    for width in (1 + len(parents), len(basis)):  # linear with constant scale, then with bends
        offset, centre, log_scale = fit_conditionals(
            inside, basis[:width], one_scale=width < len(basis)
        )
        level = log_scale @ there[:width]
        residual = (outside - offset @ there[:width]) * np.exp(-level) - centre @ there[:width]
        misfit = np.minimum(residual**2, THRESHOLDS.max_residual**2)
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


def _fit_map(
    draws: np.ndarray,
    parents: list[int],
    children: np.ndarray,
    *,
    reliable: bool,
    even: np.ndarray | None = None,
) -> TransportMap:
    """The map with these parents and children; all other coordinates keep only their marginals."""
    middle, scale = spread(draws)
    given = draws if even is None else even
    standard = (given - middle[:, None]) / scale[:, None]
    axes = (
        common_axes(standard[children], standard[parents], use_slices=reliable)
        if len(children)
        else np.eye(0)
    )
    whole = _gaussian_parts(given, (middle, scale), parents, children, axes, mixed=reliable)
    if reliable and len(children):
        own = _gaussian_parts(
            given, (middle, scale), parents, children, np.eye(len(children)), mixed=True
        )
        if (
            own["mixed"].size
            and _log_density(own, given) > _log_density(whole, given) + THRESHOLDS.min_own_axes_gain
        ):
            whole = own
    return TransportMap(**whole | fit_marginals(TransportMap(**whole).residual(draws)))


def _gaussian_parts(
    given: np.ndarray,
    location_scale: tuple[np.ndarray, np.ndarray],
    parents: list[int],
    children: np.ndarray,
    axes: np.ndarray,
    *,
    mixed: bool,
) -> dict[str, Any]:
    """The parts of a map with given axes of the children, before the marginals are fitted."""
    dim, (middle, scale) = len(given), location_scale
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
        parts[:, children] = fit_conditionals(inverse[at] @ given[children], basis)
    zeros, ones = np.zeros(dim), np.ones(dim)
    whole: dict[str, Any] = {
        "parents": np.asarray(parents, int),
        **dict(zip(("offset", "centre", "log_scale"), parts, strict=True)),
        "factor": factor,
        "inverse_factor": inverse,
        **{"shift": zeros, "width": ones, "skew": zeros, "tail": ones, "heaviness": zeros},
    }
    whole |= _mixing_fields(no_mixing(len(basis)))
    if mixed and len(children):
        rows = fit_mixing(TransportMap(**whole).residual(given)[children], basis)
        whole |= _mixing_fields(rows._replace(rows=children[rows.rows]))
    return whole


def _log_density(parts: dict[str, Any], draws: np.ndarray) -> float:
    """Mean log density of the draws, up to a constant, if all residuals are normal."""
    transport = TransportMap(**parts)
    residual = transport.residual(draws)
    squares = np.minimum(residual**2, THRESHOLDS.max_residual**2).sum(axis=0)
    basis = features(residual[transport.parents])
    scales = transport.log_scale.sum(axis=0) @ basis + transport.own_scale.sum(axis=0) @ basis
    return float(np.mean(-squares / 2 - scales) - np.linalg.slogdet(transport.factor)[1])


def _mixing_fields(found: Mixing) -> dict[str, Any]:
    """The fields of a `TransportMap` that hold a mixing."""
    return {"mixed": found.rows, "mixing": found.mixing, "own_scale": found.own_scale}


def _score(transport: TransportMap | None, fitted: np.ndarray, judged: np.ndarray) -> float:
    """Mean log density of held-out draws under the Gaussian fitted in the map's coordinates.

    A draw more than `Thresholds.max_residual` standard deviations out counts as one at that
    distance.
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
    scales = np.sqrt(np.maximum(values, THRESHOLDS.min_eigenvalue * values[-1]))
    distance = np.minimum(
        (vectors.T @ (outside - centre) / scales[:, None]) ** 2, THRESHOLDS.max_residual**2
    )
    return float(np.mean(-distance.sum(axis=0) / 2 - log_det) - np.log(scales).sum())
