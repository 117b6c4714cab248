"""Targets with a mode that no start is near, and one-mode targets that must raise no alarm."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class ModeCase(NamedTuple):
    """A mixture of round Gaussians, or a target with one mode.

    Attributes:
        summary: What it is.
        dim: Its dimension; starts are ``spread * N(0, I)``.
        spread: Scale of the starts.
        logdensity: Its log density.
        weights: Weights of the modes.
        centres: Their centres (modes, dim).
        scales: Their standard deviations.
        within_reach: Whether the mode can be found: at least one in 1,000 points of the search
            leads to it.
    """

    summary: str
    dim: int
    spread: float
    logdensity: Callable
    weights: np.ndarray
    centres: np.ndarray
    scales: np.ndarray
    within_reach: bool = True

    def label(self, x: np.ndarray) -> np.ndarray:
        """The mode of every position (..., dim): the component that is most responsible."""
        away = np.sum((x[..., None, :] - self.centres) ** 2, axis=-1) / self.scales**2
        return np.argmax(np.log(self.weights) - self.dim * np.log(self.scales) - away / 2, axis=-1)


def mixture(
    summary: str,
    weights: list[float],
    centres: list[list[float]],
    scales: list[float],
    *,
    spread: float = 1.0,
    within_reach: bool = True,
) -> ModeCase:
    """A mixture of round Gaussians: ``log sum_k w_k N(x; c_k, s_k^2 I)``."""
    middle, width = np.array(centres, float), np.array(scales, float)
    dim = middle.shape[1]
    constants = np.log(weights) - dim * np.log(width)

    def logdensity(x: jax.Array) -> jax.Array:
        away = jnp.sum((x - middle) ** 2, axis=1) / width**2
        return jax.nn.logsumexp(constants - away / 2)

    parts = np.array(weights, float), middle, width
    return ModeCase(summary, dim, spread, logdensity, *parts, within_reach)


def pair(dim: int, scale: float, *, within_reach: bool = True) -> ModeCase:
    """Modes at -1.8 and +1.8 in every coordinate, the second one narrow."""
    summary = f"{dim} dimensions, modes at -1.8 and +1.8, deviations 1 and {scale:g}"
    centres = [[-1.8] * dim, [1.8] * dim]
    return mixture(summary, [0.5, 0.5], centres, [1.0, scale], within_reach=within_reach)


def line(scale: float, spread: float) -> ModeCase:
    """N(0, 1)/2 + N(10, scale^2)/2."""
    summary = f"one dimension, N(0, 1) and N(10, {scale:g}²), spread {spread:g}"
    return mixture(summary, [0.5, 0.5], [[0.0], [10.0]], [1.0, scale], spread=spread)


def one(summary: str, dim: int, logdensity: Callable) -> ModeCase:
    """A target with one mode."""
    return ModeCase(summary, dim, 1.0, logdensity, np.ones(1), np.zeros((1, dim)), np.ones(1))


def _funnel(x: jax.Array) -> jax.Array:
    return -(x[0] ** 2) / 18 - jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) / 2 - 2 * x[0]


def _banana(x: jax.Array) -> jax.Array:
    return -(x[0] ** 2) / 8 - jnp.sum((x[1:] + 0.3 * (x[0] ** 2 - 4)) ** 2) / 2


def _schools(x: jax.Array) -> jax.Array:
    effects = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    tau = jnp.exp(x[0])
    prior = -(x[1] ** 2) / 50 - jnp.log1p((tau / 5) ** 2) - 7 * x[0]
    return (
        prior
        - jnp.sum(((x[2:] - x[1]) / tau) ** 2) / 2
        - jnp.sum(((effects - x[2:]) / errors) ** 2) / 2
    )


def _logistic(x: jax.Array) -> jax.Array:
    rng = np.random.default_rng(0)
    design, labels = jnp.asarray(rng.normal(size=(60, 4))), jnp.asarray(rng.random(60) < 0.5)
    logits = design @ x
    likelihood = jnp.sum(jnp.where(labels, logits, 0.0) - jax.nn.softplus(logits))
    return likelihood - jnp.sum(x**2) / 8


def _rough(x: jax.Array) -> jax.Array:
    return -jnp.sum(x**2 / 2 + 0.01 * jnp.cos(x / 1e-4))


CASES: dict[str, ModeCase] = {
    "pair-10": pair(10, 0.35),
    "line-0.05": line(0.05, 10.0),
    "line-0.01": line(0.01, 5.0),
    "line-0.001": line(0.001, 5.0),
    "three": mixture(
        "five dimensions, three modes of different widths, starts near none",
        [0.4, 0.3, 0.3],
        [[-3.0] * 5, [2.5] * 5, [3.0, -3.0, 3.0, -3.0, 3.0]],
        [1.0, 0.3, 0.5],
    ),
    "three-widths": mixture(
        "three dimensions, three modes of deviations 0.3, 1 and 2",
        [0.3, 0.3, 0.4],
        [[-5.0, 0.0, 2.0], [4.0, 4.0, 0.0], [2.0, -8.0, -3.0]],
        [0.3, 1.0, 2.0],
        spread=5.0,
    ),
    "in-wide": mixture(
        "five dimensions, a mode ten times narrower within a wide one",
        [0.6, 0.4],
        [[0.0] * 5, [0.5] * 5],
        [1.0, 0.1],
    ),
    "rare": mixture(
        "three dimensions, a narrow mode with a twentieth of the mass",
        [0.95, 0.05],
        [[0.0] * 3, [6.0] * 3],
        [1.0, 0.3],
    ),
    "pair-20": pair(20, 0.5),
    "pair-50": pair(50, 0.7),
    "pair-20-narrow": pair(20, 0.35, within_reach=False),
    "gaussian": one("N(0, I) in ten dimensions", 10, lambda x: -jnp.sum(x**2) / 2),
    "student": one(
        "Student's t, 3 degrees of freedom", 3, lambda x: -2 * jnp.sum(jnp.log1p(x**2 / 3))
    ),
    "funnel": one("Neal's funnel, four children", 5, _funnel),
    "banana": one("a bent Gaussian", 3, _banana),
    "schools": one("eight schools, centred", 10, _schools),
    "logistic": one("a logistic regression", 4, _logistic),
    "rough": one("N(0, I) with a ripple of 1e-4", 2, _rough),
}
"""The cases by name; those with one mode come last."""

TOO_FEW = math.log(2)
"""Nats by which a mode's weight may differ from the truth, before draws count as wrong."""
