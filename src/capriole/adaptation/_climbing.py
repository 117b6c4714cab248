"""Many climbs side by side: from points to maxima of a log density, by first derivatives."""

from typing import NamedTuple

import numpy as np

from ._gaussians import Oracle, Place, curvature
from ._thresholds import MODE_SEARCH


class Points(NamedTuple):
    """Positions (dim, n) with their log densities (n,) and gradients (dim, n)."""

    x: np.ndarray
    lp: np.ndarray
    grad: np.ndarray

    def where(self, kept: np.ndarray) -> "Points":
        """Some of them."""
        return Points(self.x[:, kept], self.lp[kept], self.grad[:, kept])

    def explained(self, places: list[Place]) -> np.ndarray:
        """Of every point, whether a Gaussian explains it."""
        known = np.zeros(len(self.lp), bool)
        for place in places:
            known |= place.explains(*self)
        return known

    def unexplained(self, places: list[Place]) -> "Points":
        """Those that no Gaussian explains."""
        return self.where(~self.explained(places))


def climb(
    oracle: Oracle, points: Points, unit: Place, known: list[Place], num_steps: int
) -> Points:
    """The points after steps uphill, in white coordinates of ``unit``; those explained are gone.

    A step has the length of Barzilai and Borwein, ``|dz|^2 / |dz . dg|``, and is taken only
    if the density rises; else the next one is a fifth as long.

    Args:
        oracle: Log densities and gradients.
        points: Where to begin.
        unit: The Gaussian whose deviations are the unit of length.
        known: Gaussians that explain what need not be climbed to.
        num_steps: Steps, of one gradient each.

    Returns:
        The points that no known Gaussian explains.

    References:
        Barzilai and Borwein 1988.
    """
    dim = len(points.x)
    size = np.linalg.norm(unit.factor.T @ points.grad, axis=0)
    step = MODE_SEARCH.first_step * np.sqrt(dim) / np.maximum(size, 1e-300)
    step = np.minimum(step, 1.0)
    for _ in range(num_steps):
        if not len(points.lp):
            break
        force = unit.factor.T @ points.grad
        tried = points.x + unit.factor @ (step * force)
        lp, grad = oracle(tried)
        up = lp > points.lp
        moved = step * force
        bend = np.sum(moved * (unit.factor.T @ grad - force), axis=0)
        length = np.sum(moved**2, axis=0)
        curved = np.where(bend < 0, length / np.maximum(-bend, 1e-300), 4 * step)
        step = np.where(up, np.minimum(curved, 100 * step), step / 5)
        points = Points(
            np.where(up, tried, points.x),
            np.where(up, lp, points.lp),
            np.where(up, grad, points.grad),
        )
        kept = ~points.explained(known)
        points, step = points.where(kept), step[kept]
    return points


def top(oracle: Oracle, point: Points, unit: Place) -> Place | None:
    """The Gaussian of the curvature at a maximum next to one point; None where there is none.

    A few steps of Newton's method lead to the top.
    """
    scale = np.sqrt(np.sum(unit.factor**2, axis=1))
    for _ in range(2):
        covariance = curvature(oracle, point.x[:, 0], scale)
        if covariance is None:
            return None
        scale = np.sqrt(np.diagonal(covariance))
        for _ in range(3):
            tried = point.x + covariance @ point.grad
            lp, grad = oracle(tried)
            if not lp[0] > point.lp[0]:
                break
            point = Points(tried, lp, grad)
        decrement = float(point.grad[:, 0] @ covariance @ point.grad[:, 0])
        if decrement < MODE_SEARCH.still * len(scale):
            return Place.of(point.x[:, 0], covariance, float(point.lp[0]))
    return None
