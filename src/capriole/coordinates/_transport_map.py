"""Transport maps: coordinates that turn funnels and skewed tails into a near Gaussian.

In a hierarchical posterior the scale of many coordinates depends on one of them, the *parent*,
which is usually the logarithm of a scale. The non-centred parametrisation removes this dependence.
A transport map does the same, estimated from draws (`_transport_estimation`). It is a bijection
with a known Jacobian, so kernels in its coordinates are exact however well it fits.
"""

from typing import Any, cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..kernels import AbstractLogDensity, Scalar, Vector, column

BENDS = (-1.5, 0.0, 1.5)
"""Standard deviations of a parent at which conditional means and log scales may change slope."""


class TransportMap(eqx.Module):
    """A bijection ``z -> x`` that first shapes each tail and then lets parents act on the others::

        y_i = z_i exp(heaviness_i z_i^2 / 2)
        w_i = shift_i + width_i sinh((arcsinh(y_i) + skew_i) / tail_i)
        p   = w[parents];   f = features(p)
        v_i = sum_j (mixing f)_ij w_j + exp(own_scale_i f) w_i  for mixed rows i, else w_i
        x   = factor (offset f + exp(log_scale f) (centre f + v))

    Each w has a sinh-arcsinh marginal of a variable with Tukey's h; where heaviness is positive,
    tails fall like ``|w|^(-tail / heaviness)``. Conditional means and log scales bend smoothly and
    end in straight lines. For the parents themselves they are constant, and ``factor`` leaves
    parents alone. ``centre`` is in units of the scale, so that part of a mean shrinks with the
    scale in a funnel's neck. Methods take JAX arrays, or NumPy arrays after `on_host`.

    Attributes:
        parents: indices of the parents, shape ``(parents,)``.
        offset: coefficients of the part of a mean that does not shrink, shape ``(dim, features)``.
        centre: coefficients of the part that shrinks with the scale, shape ``(dim, features)``.
        log_scale: coefficients of the log scales, shape ``(dim, features)``.
        factor: axes of the children, shape ``(dim, dim)``.
        inverse_factor: inverse of ``factor``, shape ``(dim, dim)``.
        shift: location of each marginal, shape ``(dim,)``.
        width: scale of each marginal, shape ``(dim,)``.
        skew: 0 for symmetric marginals, shape ``(dim,)``.
        tail: 1 for Gaussian tails, less for longer ones, shape ``(dim,)``.
        heaviness: Tukey's h, 0 for none, shape ``(dim,)``.
        mixed: indices of the mixed rows, shape ``(mixed,)``.
        mixing: strictly lower triangular; how correlations change with parents, shape ``(features,
            mixed, mixed)``.
        own_scale: coefficients of the mixed rows' log scales, shape ``(mixed, features)``.

    References:
        Parno and Marzouk 2018 (transport maps); Jones and Pewsey 2009 (sinh-arcsinh); Tukey 1977
        (h).
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
        """Positions x from coordinates z.

        Args:
            z: shape ``(dim, *chains)``.
        """
        xp = _array_library(z)
        w = column(self.shift, z) + column(self.width, z) * xp.sinh(
            self._sinh_argument(_tukey(z, self.heaviness))
        )
        basis = features(w[self.parents])
        level, centre = _matrix_times(self.log_scale, basis), _matrix_times(self.centre, basis)
        inside = (
            self._mixed(level, centre, w, basis)
            if self.mixed.size
            else xp.exp(level) * (centre + w)
        )
        return _matrix_times(self.factor, _matrix_times(self.offset, basis) + inside)

    def inverse(self, x: Any) -> Any:
        """Coordinates z from positions x; the inverse of `forward`.

        Args:
            x: shape ``(dim, *chains)``.
        """
        xp = _array_library(x)
        standard = (self.residual(x) - column(self.shift, x)) / column(self.width, x)
        return _tukey_inverse(
            xp.sinh(column(self.tail, x) * xp.arcsinh(standard) - column(self.skew, x)),
            self.heaviness,
        )

    def residual(self, x: Any) -> Any:
        """The residuals w of positions x: what is left when the effect of the parents is removed.

        Args:
            x: shape ``(dim, *chains)``.
        """
        xp = _array_library(x)
        location, log_scale = self.offset[self.parents, 0], self.log_scale[self.parents, 0]
        parents = x[self.parents]
        basis = features(
            (parents - column(location, parents)) * xp.exp(-column(log_scale, parents))
        )
        inside = _matrix_times(self.inverse_factor, x) - _matrix_times(self.offset, basis)
        return self._unmixed(
            inside * xp.exp(-_matrix_times(self.log_scale, basis))
            - _matrix_times(self.centre, basis),
            basis,
        )

    def log_det(self, z: Any) -> Any:
        """``log |dx / dz|`` of shape ``(*chains)``, without the constant ``log |factor|``.

        Args:
            z: shape ``(dim, *chains)``.
        """
        xp = _array_library(z)
        y, squared = _tukey(z, self.heaviness), column(self.heaviness, z) * z**2
        bent = self._sinh_argument(y)
        w = column(self.shift, z) + column(self.width, z) * xp.sinh(bent)
        slopes = column(self.width / self.tail, z) * xp.cosh(bent) / xp.sqrt(1 + y**2)
        stretch = xp.log1p(squared) + squared / 2
        basis = features(w[self.parents])
        total = xp.sum(xp.log(slopes) + stretch + _matrix_times(self.log_scale, basis), axis=0)
        return (
            total + xp.sum(_matrix_times(self.own_scale, basis), axis=0)
            if self.mixed.size
            else total
        )

    def _mixed(self, level: Any, centre: Any, w: Any, basis: Any) -> Any:
        """``exp(level) (centre + v)``, with log scales added before exp, against overflow."""
        xp, at, rows = _array_library(w), self.mixed, w[self.mixed]
        others = xp.sum(basis[:, None] * _matrix_times(self.mixing, rows), axis=0)
        whole = xp.exp(level) * _with_rows(centre + w, at, centre[at] + others)
        return _with_rows(
            whole, at, whole[at] + xp.exp(level[at] + _matrix_times(self.own_scale, basis)) * rows
        )

    def _unmixed(self, v: Any, basis: Any) -> Any:
        """The residuals w from v, by forward substitution."""
        if not self.mixed.size:
            return v
        xp, rows, scales = _array_library(v), v[self.mixed], _matrix_times(self.own_scale, basis)
        found: list[Any] = []
        for i in range(len(rows)):
            rest = rows[i]
            if found:
                slopes = xp.tensordot(self.mixing[:, i, :i], basis, axes=((0,), (0,)))
                rest = rest - xp.sum(slopes * xp.stack(found), axis=0)
            found.append(rest * xp.exp(-scales[i]))
        return _with_rows(v, self.mixed, xp.stack(found))

    def _sinh_argument(self, y: Any) -> Any:
        """Argument of the sinh: ``(arcsinh(y) + skew) / tail``."""
        return (_array_library(y).arcsinh(y) + column(self.skew, y)) / column(self.tail, y)


class Transported(AbstractLogDensity):
    """A log density in the coordinates of a transport map::

        z -> logdensity(map(z)) + log |d map / dz|

    Attributes:
        logdensity: log density in the outer coordinates.
        transport: the map.
    """

    logdensity: AbstractLogDensity
    transport: TransportMap

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)`` at positions z."""
        moved = self.logdensity(self.transport.forward(position))
        return cast(Scalar, moved + self.transport.log_det(position))


def _tukey(z: Any, heaviness: Any) -> Any:
    """Tukey's h: ``z exp(heaviness z^2 / 2)``."""
    return z * _array_library(z).exp(column(heaviness, z) * z**2 / 2)


def _tukey_inverse(y: Any, heaviness: Any) -> Any:
    """The inverse of `_tukey`: Newton on ``s + h exp(2 s) / 2 = log |y|`` for s = log |z|."""
    xp = _array_library(y)
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
    """Features of the parents p: a constant, p, and one smooth bend at each b of `BENDS`::

        f = (1, p, sqrt(1 + (p - b)^2) - sqrt(1 + b^2))

    Args:
        parents: residuals of the parents, shape ``(parents, *chains)``.

    Returns:
        Shape ``(1 + 4 parents, *chains)``.
    """
    xp = _array_library(parents)
    one = xp.ones((1, *parents.shape[1:]), parents.dtype)
    bends = [xp.sqrt(1 + (parents - b) ** 2) - (1 + b * b) ** 0.5 for b in BENDS]
    return xp.concatenate([one, parents, *bends])


def _with_rows(values: Any, at: Any, rows: Any) -> Any:
    """The array with other rows at the given places; the input does not change."""
    if not isinstance(values, np.ndarray):
        return values.at[at].set(rows)
    values = values.copy()
    values[at] = rows
    return values


def _matrix_times(matrix: Any, vectors: Any) -> Any:
    """``matrix`` times vectors with any trailing axes."""
    return _array_library(vectors).tensordot(matrix, vectors, axes=1)


def _array_library(values: Any) -> Any:
    """NumPy for NumPy arrays, else ``jax.numpy``."""
    return np if isinstance(values, np.ndarray) else jnp
