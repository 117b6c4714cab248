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
from ..kernels import (
    AbstractLogDensity,
    Key,
    Scalar,
    SecondDerivatives,
    Vector,
    column,
    second_derivatives,
)
from ..models import trainable
from ._thresholds import MARGINALS


class Profile(NamedTuple):
    """The marginal of one or two dimensions on a grid.

    Attributes:
        parents: The dimensions.
        values: Their values (n, parents).
        steps: The distance of two values (parents,).
        mass: The share of the mass (n,) that is nearest to each value.
        points: Draws (n, kept, dim) of all dimensions given each value, resampled by their
            weights, in the coordinates of the log density.
    """

    parents: tuple[int, ...]
    values: np.ndarray
    steps: np.ndarray
    mass: np.ndarray
    points: np.ndarray

    def draws(self, rng: np.random.Generator, num: int, *, even: float = 0.0) -> np.ndarray:
        """Draws of the target, but for the width of a step.

        Args:
            rng: NumPy's generator.
            num: How many.
            even: The share of them that is spread evenly over all values of the parents; of the
                other dimensions given those they are draws as well.

        Returns:
            Draws (dim, num).
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


def _has_curvature(target: AbstractLogDensity, position: Vector) -> bool:
    """Whether there is a second derivative, and one that JAX can take forward over reverse."""
    full = second_derivatives(target, position) is SecondDerivatives.FULL
    return full and trainable(target, position)[1]


def bending(key: Key, target: AbstractLogDensity, draws: np.ndarray) -> tuple[list[int], int]:
    """The dimensions along which the curvature changes most: likely parents of a funnel.

    They are ordered by the median over draws x of::

        |s_k D^3 log pi(x) [v, v, e_k]|,    v ~ N(0, diag(s^2)),    s the standard deviations

    This needs no chain that moves freely, as the draws' own spread does. On stochastic volatility
    it puts phi, log sigma and mu far above all innovations.

    Args:
        key: Key of the directions v.
        target: The log density; its `SecondDerivatives` must be FULL or NONE.
        draws: Draws (dim, n).

    Returns:
        Dimensions, the best first, and gradients spent; none without second derivatives.
    """
    dtype = jnp.zeros(()).dtype
    if not _has_curvature(target, jnp.asarray(draws[:, 0], dtype)):
        return [], 0
    at = jnp.asarray(draws[:, :: -(-draws.shape[1] // MARGINALS.bent_draws)], dtype)
    steps = jnp.asarray(draws.std(axis=1), dtype)[:, None] * jax.random.normal(key, at.shape, dtype)
    bends = np.abs(np.asarray(_bends(target, at, steps)) * draws.std(axis=1)[:, None])
    # A second derivative of the gradient along v costs as much as four gradients.
    return [
        int(k) for k in np.argsort(-np.nanmedian(bends, axis=1))[: MARGINALS.most_bent]
    ], 4 * at.shape[1]


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
    """The marginal of ``parents``, from the middle of the draws outwards.

    At each value of a grid the mode of the other dimensions is found by Newton's method, from that
    of a neighbour. Gaussian draws around it give the integral by importance weights::

        log p(t) = log mean_k exp(log pi(t, y_k) - log N(y_k; mode, -Hessian^-1))

    It cannot be trusted where weights are worth little, in many dimensions, without second
    derivatives, and where the grid meets a cliff or does not end.

    Args:
        key: Key of the importance samplers.
        target: The log density; its `SecondDerivatives` must be FULL or NONE.
        draws: Draws (dim, n) that say where the middle is.
        parents: One or two dimensions.

    Returns:
        The marginal, None where it cannot be trusted; and gradients spent. A product with the
        Hessian counts as two.

    References:
        Tierney and Kadane 1986; Rue, Martino and Chopin 2009.
    """
    dim = len(draws)
    dtype = jnp.zeros(()).dtype
    if not (
        len(parents) < dim <= MARGINALS.most_dim
        and _has_curvature(target, jnp.asarray(draws[:, 0], dtype))
    ):
        return None, 0
    others, along = np.delete(np.arange(dim), parents), draws[list(parents)]
    middle, deviation = np.median(along, axis=1), along.std(axis=1)
    if not (deviation > 0).all():
        return None, 0
    steps = MARGINALS.steps[len(parents) - 1] * deviation
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
        return len(rows) * (
            MARGINALS.newton * (2 * len(others) + len(MARGINALS.damping)) + MARGINALS.samples
        )

    origin = (0,) * len(parents)
    first = add(origin, np.median(draws[others][:, near], axis=1))
    if not first.is_finite or first.worth < MARGINALS.least_share:
        return None, spent()
    top, waiting = float(first.log_density), [(-float(first.log_density), origin)]
    while waiting:
        here, place = heapq.heappop(waiting)
        if -here < top + MARGINALS.lowest:
            break
        for i, side in itertools.product(range(len(parents)), (-1, 1)):
            there = (*place[:i], place[i] + side, *place[i + 1 :])
            if there in rows:
                continue
            row = add(there, rows[place].mode)
            if (not row.is_finite and -here > top + MARGINALS.cliff) or len(
                rows
            ) > MARGINALS.most_rows:
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
    if mass[[row.worth < MARGINALS.least_share for row in rows]].sum() > 1 - MARGINALS.least_sure:
        return None
    dim = len(parents) + len(others)
    values = np.stack([row.value for row in rows])
    points = np.empty((len(rows), MARGINALS.kept, dim), rows[0].points.dtype)
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
        tried = others[:, None] + ahead[:, None] * jnp.asarray(MARGINALS.damping, others.dtype)
        reached = given(tried)
        return tried[:, jnp.argmax(jnp.where(jnp.isfinite(reached), reached, -jnp.inf))]

    mode = jax.lax.fori_loop(0, MARGINALS.newton, newton, start)
    units, values, vectors = curved(mode)
    noise_key, pick_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (len(mode), MARGINALS.samples), mode.dtype)
    points = mode[:, None] + units[:, None] * (vectors @ (noise / jnp.sqrt(values)[:, None]))
    log_det = jnp.sum(jnp.log(values)) / 2 - jnp.sum(jnp.log(units))
    log_weights = given(points) + jnp.sum(noise**2, axis=0) / 2 - log_det
    log_weights = jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)
    total = logsumexp(log_weights)
    worth = jnp.exp(2 * total - logsumexp(2 * log_weights)) / MARGINALS.samples
    kept = points[:, jax.random.categorical(pick_key, log_weights, shape=(MARGINALS.kept,))]
    return mode, total - math.log(MARGINALS.samples), worth, kept
