"""Transport maps: coordinates in which a posterior with funnels and skewed tails is nearly
Gaussian.

A hierarchical posterior is a funnel: the spread of many coordinates depends on one of them, the
*parent*, usually the logarithm of a scale. Writing it non-centred by hand removes that; the map
here is such a rewriting, estimated from draws (`_transport_fit`). It is a bijection with a known
Jacobian: kernels in its coordinates are exact, whatever its fit.
"""

from typing import Any, cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..kernels import AbstractLogDensity, Scalar, Vector, column

BENDS = (-1.5, 0.0, 1.5)
"""Where conditional means and log scales may change their slope, in deviations of a parent."""


class TransportMap(eqx.Module):
    """The bijection ``z -> x`` in two steps, tails first and then what the parents do to the
    others::

        w_i = shift_i + width_i sinh((arcsinh(y_i) + skew_i) / tail_i),   y_i = z_i exp(heaviness_i z_i^2 / 2)
        v_i = sum_j (mixing f(p))_ij w_j + exp(own_scale_i f(p)) w_i for i in mixed, else w_i;   p = w[parents]
        x = factor (offset f(p) + exp(log_scale f(p)) (centre f(p) + v))

    Every residual w has the sinh-arcsinh marginal (Jones and Pewsey 2009), of a variable y with
    Tukey's h for heaviness: tails like ``|w|^(-tail / heaviness)``, where there is any. Conditional
    means and log scales bend with the parents (`features`) and end in straight lines; of the
    parents themselves they are constant, and ``factor`` leaves them alone. What of a mean tends to
    0 down a funnel's neck, as the scale does, is in ``centre``, in units of the scale. ``mixing``
    is strictly lower triangular, and says how correlations change with the parents. Arrays have
    shape ``(dim,)``, ``(dim, features)`` and ``(dim, dim)``, of the mixed rows ``(mixed,)``,
    ``(mixed, features)`` and ``(features, mixed, mixed)``. Methods take JAX arrays, or, after
    `on_host`, NumPy arrays, of shape ``(dim, *chains)``.
    """

    parents: Int[Array, " parents"]
    offset: Float[Array, "dim features"]
    centre: Float[Array, "dim features"]
    log_scale: Float[Array, "dim features"]
    factor: Float[Array, "dim dim"]
    inverse_factor: Float[Array, "dim dim"]
    shift: Float[Array, " dim"]
    width: Float[Array, " dim"]
    skew: Float[Array, " dim"]
    tail: Float[Array, " dim"]
    heaviness: Float[Array, " dim"]
    mixed: Int[Array, " mixed"]
    mixing: Float[Array, "features mixed mixed"]
    own_scale: Float[Array, "mixed features"]

    def forward(self, z: Any) -> Any:
        """Positions x of shape ``(dim, *chains)``."""
        xp = _library(z)
        w = column(self.shift, z) + column(self.width, z) * xp.sinh(
            self._bent(_heavier(z, self.heaviness))
        )
        basis = features(w[self.parents])
        level, centre = _times(self.log_scale, basis), _times(self.centre, basis)
        inside = (
            self._mixed(level, centre, w, basis)
            if self.mixed.size
            else xp.exp(level) * (centre + w)
        )
        return _times(self.factor, _times(self.offset, basis) + inside)

    def inverse(self, x: Any) -> Any:
        """Coordinates z of positions x; `forward` undone."""
        xp = _library(x)
        standard = (self.residual(x) - column(self.shift, x)) / column(self.width, x)
        return _lighter(
            xp.sinh(column(self.tail, x) * xp.arcsinh(standard) - column(self.skew, x)),
            self.heaviness,
        )

    def residual(self, x: Any) -> Any:
        """What the parents leave of positions x: w."""
        xp = _library(x)
        location, log_scale = self.offset[self.parents, 0], self.log_scale[self.parents, 0]
        parents = x[self.parents]
        basis = features(
            (parents - column(location, parents)) * xp.exp(-column(log_scale, parents))
        )
        inside = _times(self.inverse_factor, x) - _times(self.offset, basis)
        return self._unmixed(
            inside * xp.exp(-_times(self.log_scale, basis)) - _times(self.centre, basis), basis
        )

    def log_det(self, z: Any) -> Any:
        """``log |dx / dz|`` of shape ``(*chains)``, without the constant ``log |factor|``."""
        xp = _library(z)
        y, squared = _heavier(z, self.heaviness), column(self.heaviness, z) * z**2
        bent = self._bent(y)
        w = column(self.shift, z) + column(self.width, z) * xp.sinh(bent)
        slopes = column(self.width / self.tail, z) * xp.cosh(bent) / xp.sqrt(1 + y**2)
        stretch = xp.log1p(squared) + squared / 2
        basis = features(w[self.parents])
        total = xp.sum(xp.log(slopes) + stretch + _times(self.log_scale, basis), axis=0)
        return total + xp.sum(_times(self.own_scale, basis), axis=0) if self.mixed.size else total

    def _mixed(self, level: Any, centre: Any, w: Any, basis: Any) -> Any:
        """``exp(level) (centre + v)``, where the product of two scales is finite even if one of
        them is not.
        """
        xp, at, rows = _library(w), self.mixed, w[self.mixed]
        others = xp.sum(basis[:, None] * _times(self.mixing, rows), axis=0)
        whole = xp.exp(level) * _replaced(centre + w, at, centre[at] + others)
        return _replaced(
            whole, at, whole[at] + xp.exp(level[at] + _times(self.own_scale, basis)) * rows
        )

    def _unmixed(self, v: Any, basis: Any) -> Any:
        if not self.mixed.size:
            return v
        xp, rows, scales = _library(v), v[self.mixed], _times(self.own_scale, basis)
        found: list[Any] = []
        for i in range(len(rows)):
            rest = rows[i]
            if found:
                slopes = xp.tensordot(self.mixing[:, i, :i], basis, axes=((0,), (0,)))
                rest = rest - xp.sum(slopes * xp.stack(found), axis=0)
            found.append(rest * xp.exp(-scales[i]))
        return _replaced(v, self.mixed, xp.stack(found))

    def _bent(self, y: Any) -> Any:
        return (_library(y).arcsinh(y) + column(self.skew, y)) / column(self.tail, y)


class Transported(AbstractLogDensity):
    """``logdensity`` in the coordinates of a map: ``z -> logdensity(map(z)) + log |d map / dz|``."""

    logdensity: AbstractLogDensity
    transport: TransportMap

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at positions z."""
        moved = self.logdensity(self.transport.forward(position))
        return cast(Scalar, moved + self.transport.log_det(position))


def _heavier(z: Any, heaviness: Any) -> Any:
    """``z exp(heaviness z^2 / 2)``."""
    return z * _library(z).exp(column(heaviness, z) * z**2 / 2)


def _lighter(y: Any, heaviness: Any) -> Any:
    """`_heavier` undone: ``s = log |z|`` solves ``s + h exp(2 s) / 2 = log |y|``, by Newton's
    method from above.
    """
    xp = _library(y)
    moved = (column(heaviness, y) > 0) & (y != 0)
    known = xp.where(moved, column(heaviness, y), 1.0)
    level = xp.log(xp.where(moved, xp.abs(y), 1.0))
    above = xp.log(2 * xp.maximum(level, 1e-30) / known) / 2
    s = xp.minimum(level, xp.maximum(above, 0.0))
    for _ in range(12):
        curved = known * xp.exp(2 * s)
        s = s - (s + curved / 2 - level) / (1 + curved)
    return xp.where(moved, xp.sign(y) * xp.exp(s), y)


def features(parents: Any) -> Any:
    """1, then p, then ``sqrt(1 + (p - b)^2) - sqrt(1 + b^2)`` for every bend b, of parents
    (parents, *chains).
    """
    xp = _library(parents)
    one = xp.ones((1, *parents.shape[1:]), parents.dtype)
    bends = [xp.sqrt(1 + (parents - b) ** 2) - (1 + b * b) ** 0.5 for b in BENDS]
    return xp.concatenate([one, parents, *bends])


def _replaced(values: Any, at: Any, rows: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return values.at[at].set(rows)
    values = values.copy()
    values[at] = rows
    return values


def _times(matrix: Any, vectors: Any) -> Any:
    return _library(vectors).tensordot(matrix, vectors, axes=1)


def _library(values: Any) -> Any:
    return np if isinstance(values, np.ndarray) else jnp
