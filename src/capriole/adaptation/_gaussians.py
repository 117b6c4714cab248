"""Modes as Gaussians: maxima of a log density, their curvature, and their mass by importance."""

import math
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float
from scipy.special import chdtri, logsumexp

from ..diagnostics import floored_scale
from ..kernels import AbstractLogDensity, Vector
from ._logdensities import values_and_gradients
from ._thresholds import MODE_SEARCH


class Oracle:
    """Log densities and gradients at many positions, in float64, with a count.

    A position whose value or gradient is not finite, or where the user's own function raises, has
    the log density ``-inf`` and no gradient: far out there may be no numbers.

    Args:
        target: The log density.
        like: Positions (dim, chains): as many are taken at a time, whose program is there already.
    """

    def __init__(self, target: AbstractLogDensity, like: Vector):
        self.target, self.like, self.num_gradients = target, like, 0

    def __call__(self, x: Float[np.ndarray, "dim n"]) -> tuple[np.ndarray, np.ndarray]:
        """Log densities (n,) and gradients (dim, n)."""
        if not x.shape[1]:
            return np.zeros(0), np.zeros_like(x)
        self.num_gradients += x.shape[1]
        with np.errstate(all="ignore"):
            value, grad = values_and_gradients(self.target, x, self.like)
            sound = np.isfinite(value) & np.isfinite(grad).all(axis=0)
        return np.where(sound, value, -np.inf), np.where(sound, grad, 0.0)


class Place(NamedTuple):
    """A mode as a Gaussian.

    Attributes:
        centre: Its centre (dim,).
        factor: Lower triangular factor (dim, dim) of its covariance.
        top: The log density at its centre.
        log_mass: Its log mass, without the constant ``dim/2 log(2 pi)``.
    """

    centre: np.ndarray
    factor: np.ndarray
    top: float
    log_mass: float

    @classmethod
    def of(cls, centre: np.ndarray, covariance: np.ndarray, top: float) -> Self:
        """A Gaussian with this covariance and this log density at its centre."""
        factor = np.linalg.cholesky(covariance)
        return cls(centre, factor, top, top + float(np.log(np.diagonal(factor)).sum()))

    @classmethod
    def of_draws(cls, draws: np.ndarray, lp: np.ndarray) -> Self:
        """The Gaussian of draws (n, dim), whose mean log density is ``dim / 2`` below the top."""
        dim, centre = draws.shape[1], draws.mean(axis=0)
        scale = floored_scale(draws.std(axis=0), centre)
        if len(draws) < MODE_SEARCH.draws_per_dim * dim:
            covariance = np.diag(scale**2)
        else:
            standard = (draws - centre) / scale
            correlation = standard.T @ standard / len(draws)
            covariance = (correlation + 1e-9 * np.eye(dim)) * scale[:, None] * scale
        return cls.of(centre, covariance, float(np.mean(lp)) + dim / 2)

    def white(self, x: np.ndarray) -> np.ndarray:
        """Positions (dim, n) in units of its deviations, from its centre."""
        return np.linalg.solve(self.factor, x - self.centre[:, None])

    def contains(self, x: np.ndarray) -> np.ndarray:
        """Of every position (dim, n), whether it is in the ellipsoid with 99 % of the Gaussian."""
        limit = chdtri(len(self.centre), 1 - MODE_SEARCH.inside)
        return np.asarray(np.sum(self.white(x) ** 2, axis=0) < limit)

    def explains(self, x: np.ndarray, lp: np.ndarray, grad: np.ndarray) -> np.ndarray:
        """Of every position (dim, n), whether this Gaussian predicts what is there.

        Newton's step must lead to its centre, or a tenth as far from it, and the density must not
        be higher than the Gaussian's.
        """
        z = self.white(x)
        landing = np.sum((z + self.factor.T @ grad) ** 2, axis=0)
        square = np.sum(z**2, axis=0)
        allowed = MODE_SEARCH.excess_nats + MODE_SEARCH.excess_share * square
        lower = lp < self.top - square / 2 + allowed
        near = MODE_SEARCH.landing * len(self.centre) + MODE_SEARCH.landing_share * square
        return np.asarray((landing < near) & lower)


def curvature(oracle: Oracle, centre: np.ndarray, scale: np.ndarray) -> np.ndarray | None:
    """The covariance of a maximum: the inverse of minus the Hessian, by differences of gradients.

    Args:
        oracle: Gradients.
        centre: The maximum (dim,).
        scale: A guess of its deviations (dim,), which may be far too large; a second pass takes
            steps in units of better ones.

    Returns:
        The covariance (dim, dim); None where the curvature is not that of a maximum.
    """
    top, passes = oracle(centre[:, None])[0], 0
    for _ in range(MODE_SEARCH.most_passes):
        steps = np.diag(MODE_SEARCH.difference * scale)
        value, grad = oracle(np.concatenate([centre[:, None] + steps, centre[:, None] - steps], 1))
        # A step that falls far left the mode: it tells nothing of the curvature at the top.
        fall = top - np.minimum(*np.split(value, 2))
        if (far := ~(fall < MODE_SEARCH.most_fall)).any():
            scale = np.where(far, scale / 10, scale)
            continue
        ahead, behind = np.split(grad, 2, axis=1)
        hessian = (behind - ahead) / (2 * MODE_SEARCH.difference * scale)
        diagonal = np.diagonal(hessian)
        if not (np.isfinite(hessian).all() and (diagonal > 0).all()):
            return None
        scale, passes = 1 / np.sqrt(diagonal), passes + 1
        if passes == 2:
            break
    else:
        return None
    unit = (hessian + hessian.T) / 2 * scale[:, None] * scale
    values, vectors = np.linalg.eigh(unit)
    if values[0] < MODE_SEARCH.flattest:
        return None
    covariance = (vectors / values) @ vectors.T * scale[:, None] * scale
    return np.asarray((covariance + covariance.T) / 2)


class Weighed(NamedTuple):
    """A mode by importance sampling.

    Attributes:
        place: Its Gaussian, made of the weighted draws.
        log_mass: Log mass of its ellipsoid, in the units of `Place.log_mass`.
        effective: The share of the draws that are effective.
        draws: Draws (dim, n) of the density in its ellipsoid.
        lp: Log densities of them.
    """

    place: Place
    log_mass: float
    effective: float
    draws: np.ndarray
    lp: np.ndarray


def weigh(rng: np.random.Generator, oracle: Oracle, place: Place) -> Weighed | None:
    """The mass of a mode, by importance sampling from a wider Gaussian, twice::

        mass = mean of p(x) / q(x) over draws x of q in the ellipsoid,   q = N(c, 1.2 C)

    The second Gaussian has the moments of the first weighted draws: what the curvature at the top
    says of a mode that is skewed, or has tails, is not its spread.

    Args:
        rng: NumPy's generator.
        oracle: Log densities.
        place: The mode.

    Returns:
        Its mass; None where no weight is finite.
    """
    dim, num = len(place.centre), MODE_SEARCH.draws
    for last in (False, True):
        noise = rng.normal(size=(dim, num))
        factor = math.sqrt(MODE_SEARCH.wider) * place.factor
        x = place.centre[:, None] + factor @ noise
        lp = oracle(x)[0]
        log_det = float(np.log(np.diagonal(factor)).sum())
        log_weights = lp + np.sum(noise**2, axis=0) / 2 + log_det
        total = logsumexp(log_weights)
        if not np.isfinite(total):
            return None
        weights = np.exp(log_weights - total)
        effective = float(1 / np.sum(weights**2) / num)
        if last:
            break
        if effective * num > MODE_SEARCH.few * dim:
            mean = x @ weights
            covariance = (x - mean[:, None]) * weights @ (x - mean[:, None]).T
            ridge = MODE_SEARCH.ridge * place.factor @ place.factor.T
            # The density at a centre that has moved: that of a Gaussian of the same mass.
            volume = np.linalg.slogdet(covariance + ridge)[1] / 2
            place = Place.of(mean, covariance + ridge, float(total - math.log(num) - volume))
    inside = place.contains(x)
    held = weights[inside].sum()
    if not held > 0:
        return None
    picked = rng.choice(np.flatnonzero(inside), num, p=weights[inside] / held)
    log_mass = float(total - math.log(num) + math.log(held))
    return Weighed(place, log_mass, effective, x[:, picked], lp[picked])
