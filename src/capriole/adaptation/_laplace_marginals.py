"""The marginal density of one or two dimensions, the others integrated out: where chains ought to
have been.

In the neck of a funnel no chain that passes R-hat need ever have been. But there, and in much of a
posterior's bulk, the other dimensions are nearly Gaussian given those that are a funnel's parents,
so an importance sampler has their integral to about one per cent: Laplace's approximation at a grid
of values (Tierney and Kadane 1986; the idea of Rue, Martino and Chopin 2009), put right by
importance weights.
"""

import heapq
import itertools
import math
from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp
from jaxtyping import Array

from ..diagnostics import LEVELS, Marginal, is_middle
from ..kernels import AbstractLogDensity, Key, Scalar, Vector, column
from ..models import trainable

MOST_DIM = 300
_STEPS = (0.2, 0.35)
_LOWEST = -9.0
_CLIFF = -4.0
_MOST_ROWS = 800
_NEWTON = 8
_SAMPLES = 2048
_KEPT = 256
_BENT, _MOST_BENT = 256, 3
_LEAST_SHARE = 0.03
_LEAST_SURE = 0.99
_DAMPING = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.0)


class Profile(NamedTuple):
    """The marginal of the dimensions ``parents``, one or two, at ``values`` (n, parents), ``steps``
    (parents,) apart.

    ``mass`` (n,) is normalised: the share of the mass that is nearest to each value. ``points`` (n,
    kept, dim), in the coordinates of the log density, are draws of the other dimensions given each
    value, resampled by their weights.
    """

    parents: tuple[int, ...]
    values: np.ndarray
    steps: np.ndarray
    mass: np.ndarray
    points: np.ndarray

    def draws(self, rng: np.random.Generator, num: int, *, even: float = 0.0) -> np.ndarray:
        """``num`` draws (dim, num) of the target, but for the width of a step; a share of ``even``
        spread evenly over all values of the parents instead: of the other dimensions given those
        they are draws as well.
        """
        levels = (rng.permutation(num) + rng.uniform(size=num)) / num
        mass = (1 - even) * self.mass + even / len(self.mass)
        rows = np.minimum(np.searchsorted(np.cumsum(mass), levels), len(mass) - 1)
        found = self.points[rows, rng.integers(self.points.shape[1], size=num)].T.astype(float)
        found[list(self.parents)] += self.steps[:, None] * (
            rng.uniform(size=(len(self.parents), num)) - 0.5
        )
        return found

    def quantile(self, i: int, level: float) -> float:
        """The value of the ``i``-th parent below which ``level`` of the mass lies."""
        values, place = np.unique(self.values[:, i], return_inverse=True)
        mass = np.bincount(place, self.mass)
        return float(np.interp(level, np.cumsum(mass), values + self.steps[i] / 2))

    def marginals(self) -> tuple[Marginal, ...]:
        """The marginal of each parent."""
        quantiles = [[self.quantile(i, p) for p in LEVELS] for i in range(len(self.parents))]
        return tuple(
            Marginal(parent, tuple(values))
            for parent, values in zip(self.parents, quantiles, strict=True)
        )

    def agrees(self, draws: np.ndarray) -> bool:
        """Whether its medians are in the middle of ``draws`` (dim, n)."""
        return all(
            is_middle(self.quantile(i, 0.5), draws[parent]) for i, parent in enumerate(self.parents)
        )


def bending(key: Key, target: AbstractLogDensity, draws: np.ndarray) -> tuple[list[int], int]:
    """The dimensions along which the curvature changes most, best first, and gradients spent.

    By the median of ``|s_k D^3 log pi(x) [v, v, e_k]|`` over some of the ``draws`` x (dim, n), with
    s the deviations and v ~ N(0, diag(s^2)). It needs no chain that moves freely, as the draws' own
    spread does: on stochastic volatility it puts phi, log sigma and mu far above all innovations.
    None for log densities without second derivatives.
    """
    dtype = jnp.zeros(()).dtype
    if not trainable(target, jnp.asarray(draws[:, 0], dtype))[1]:
        return [], 0
    at = jnp.asarray(draws[:, :: -(-draws.shape[1] // _BENT)], dtype)
    steps = jnp.asarray(draws.std(axis=1), dtype)[:, None] * jax.random.normal(key, at.shape, dtype)
    bends = np.abs(np.asarray(_bends(target, at, steps)) * draws.std(axis=1)[:, None])
    # A second derivative of the gradient along v costs as much as four gradients.
    return [int(k) for k in np.argsort(-np.nanmedian(bends, axis=1))[:_MOST_BENT]], 4 * at.shape[1]


@eqx.filter_jit
def _bends(target: AbstractLogDensity, at: Vector, steps: Vector) -> Vector:
    def along(position: Vector, step: Vector) -> Vector:
        def slope(where: Vector) -> Vector:
            return cast(Vector, jax.jvp(jax.grad(target), (where,), (step,))[1])

        return cast(Vector, jax.jvp(slope, (position,), (step,))[1])

    return jax.vmap(along, in_axes=1, out_axes=1)(at, steps)


def profile(
    key: Key, target: AbstractLogDensity, draws: np.ndarray, parents: tuple[int, ...]
) -> tuple[Profile | None, int]:
    """The marginal of ``parents``, from the middle of the ``draws`` (dim, n) outwards, and
    gradients spent: as many as log densities, and two for a product with the Hessian.

    On a grid the mode of the others is found by Newton's method, from that of a neighbour; Gaussian
    draws around it give the integral by importance weights, ``log p(t) = log mean_k exp(log pi(t,
    y_k) - log N(y_k; mode, -Hessian^-1))``. The grid ends where that is 9 nats below its top. None
    where it cannot be trusted: more than 99 % of the mass must be where weights are worth 3 % of
    their number; for more than `MOST_DIM` dimensions, for log densities without second derivatives,
    and where the grid meets a cliff or does not end.
    """
    dim = len(draws)
    dtype = jnp.zeros(()).dtype
    if not (
        len(parents) < dim <= MOST_DIM and trainable(target, jnp.asarray(draws[:, 0], dtype))[1]
    ):
        return None, 0
    others, along = np.delete(np.arange(dim), parents), draws[list(parents)]
    middle, deviation = np.median(along, axis=1), along.std(axis=1)
    if not (deviation > 0).all():
        return None, 0
    steps = _STEPS[len(parents) - 1] * deviation
    distance = np.max(np.abs(along - middle[:, None]) / deviation[:, None], axis=0)
    near = distance <= np.quantile(distance, 0.05)
    at = jnp.asarray(others), jnp.asarray(parents)  # as arrays: one program serves all parents
    rows: dict[tuple[int, ...], _Row] = {}

    def add(place: tuple[int, ...], start: np.ndarray) -> _Row:
        value = middle + steps * place
        row_key = jax.random.fold_in(key, len(rows))
        found = _integrated(
            target, jnp.asarray(start, dtype), jnp.asarray(value, dtype), *at, row_key
        )
        rows[place] = _Row(value, *map(np.asarray, found))
        return rows[place]

    def spent() -> int:
        return len(rows) * (_NEWTON * (2 * len(others) + len(_DAMPING)) + _SAMPLES)

    origin = (0,) * len(parents)
    first = add(origin, np.median(draws[others][:, near], axis=1))
    if not first.is_finite or first.worth < _LEAST_SHARE:
        return None, spent()
    top, waiting = float(first.log_density), [(-float(first.log_density), origin)]
    while waiting:
        here, place = heapq.heappop(waiting)
        if -here < top + _LOWEST:
            break
        for i, side in itertools.product(range(len(parents)), (-1, 1)):
            there = (*place[:i], place[i] + side, *place[i + 1 :])
            if there in rows:
                continue
            row = add(there, rows[place].mode)
            if (not row.is_finite and -here > top + _CLIFF) or len(rows) > _MOST_ROWS:
                return None, spent()
            if row.is_finite:
                top = max(top, float(row.log_density))
                heapq.heappush(waiting, (-float(row.log_density), there))
    return _profile(
        parents, others, steps, [row for row in rows.values() if row.is_finite]
    ), spent()


def _profile(
    parents: tuple[int, ...], others: np.ndarray, steps: np.ndarray, rows: list["_Row"]
) -> Profile | None:
    log_density = np.asarray([row.log_density for row in rows], np.float64)
    mass = np.exp(log_density - log_density.max())
    mass /= mass.sum()
    if mass[[row.worth < _LEAST_SHARE for row in rows]].sum() > 1 - _LEAST_SURE:
        return None
    dim = len(parents) + len(others)
    values = np.stack([row.value for row in rows])
    points = np.empty((len(rows), _KEPT, dim), rows[0].points.dtype)
    points[:, :, others] = np.stack([row.points.T for row in rows])
    points[:, :, list(parents)] = values[:, None]
    return Profile(parents, values, steps, mass, points)


class _Row(NamedTuple):
    value: np.ndarray
    mode: np.ndarray
    log_density: np.ndarray
    worth: np.ndarray
    points: np.ndarray

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.log_density) and np.isfinite(self.mode).all())


@eqx.filter_jit
def _integrated(
    target: AbstractLogDensity,
    start: Vector,
    value: Vector,
    others_at: Array,
    parents_at: Array,
    key: Key,
) -> tuple[Array, Array, Array, Array]:
    """Mode, log integral, effective share of the importance weights and points (others, kept) of
    the others given ``value``.
    """

    def given(others: Vector) -> Scalar:
        whole = jnp.zeros((len(others) + len(value), *others.shape[1:]), others.dtype)
        return target(whole.at[others_at].set(others).at[parents_at].set(column(value, others)))

    def curved(others: Vector) -> tuple[Vector, Vector, Array]:
        """The Hessian's negative as units, eigenvalues and vectors in them."""
        hessian = -jax.hessian(given)(others)
        units = 1 / jnp.sqrt(jnp.maximum(jnp.abs(jnp.diagonal(hessian)), 1e-30))
        values, vectors = jnp.linalg.eigh(units[:, None] * hessian * units)
        return units, jnp.maximum(jnp.abs(values), 1e-6), vectors

    def newton(_: int, others: Vector) -> Vector:
        units, values, vectors = curved(others)
        ahead = units * (vectors @ ((vectors.T @ (units * jax.grad(given)(others))) / values))
        tried = others[:, None] + ahead[:, None] * jnp.asarray(_DAMPING, others.dtype)
        reached = given(tried)
        return tried[:, jnp.argmax(jnp.where(jnp.isfinite(reached), reached, -jnp.inf))]

    mode = jax.lax.fori_loop(0, _NEWTON, newton, start)
    units, values, vectors = curved(mode)
    noise_key, pick_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (len(mode), _SAMPLES), mode.dtype)
    points = mode[:, None] + units[:, None] * (vectors @ (noise / jnp.sqrt(values)[:, None]))
    log_det = jnp.sum(jnp.log(values)) / 2 - jnp.sum(jnp.log(units))
    log_weights = given(points) + jnp.sum(noise**2, axis=0) / 2 - log_det
    log_weights = jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)
    total = logsumexp(log_weights)
    worth = jnp.exp(2 * total - logsumexp(2 * log_weights)) / _SAMPLES
    kept = points[:, jax.random.categorical(pick_key, log_weights, shape=(_KEPT,))]
    return mode, total - math.log(_SAMPLES), worth, kept
