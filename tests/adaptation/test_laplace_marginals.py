"""Marginals of parents by Laplace's approximation and importance weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole.adaptation import _laplace_marginals as _profile
from capriole.adaptation import profile
from capriole.adaptation._thresholds import MARGINALS
from capriole.kernels import AbstractLogDensity, PerChain
from densities import Funnel, Gaussian

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def near_the_middle(dim, num=2000):
    """Draws that have seen little of a funnel: a parent within half a deviation, and others as it
    wants them.
    """
    v = 1.5 * RNG.normal(size=num)
    return np.stack([v, *(np.exp(v / 2) * RNG.normal(size=(dim - 1, num)))])


def test_the_marginal_of_a_funnels_parent_is_exact_where_no_draw_was():
    found, spent = profile(KEY, Funnel(3.0), near_the_middle(6), (0,))
    for level in (0.001, 0.01, 0.3, 0.5, 0.9, 0.99):
        np.testing.assert_allclose(found.quantile(0, level), 3 * stats.norm.ppf(level), atol=0.03)
    np.testing.assert_allclose(found.mass.sum(), 1)
    rows = len(found.mass)
    assert spent == rows * (MARGINALS.newton * (2 * 5 + len(MARGINALS.damping)) + MARGINALS.samples)


def test_its_draws_are_those_of_the_target():
    found, _ = profile(KEY, Funnel(3.0), near_the_middle(6), (0,))
    draws = found.draws(RNG, 20_000)
    assert stats.kstest(draws[0], stats.norm(scale=3).cdf).statistic < 0.02
    unit = draws[1:] * np.exp(-draws[0] / 2)
    assert stats.kstest(unit.ravel(), stats.norm.cdf).statistic < 0.02
    np.testing.assert_allclose(np.corrcoef(unit), np.eye(5), atol=0.05)


@pytest.mark.slow
def test_two_parents_of_a_gaussian():
    scales = np.array([2.0, 0.1, 30.0, 1.0])
    target = Gaussian(jnp.asarray(scales))
    draws = scales[:, None] * RNG.normal(size=(4, 2000))
    found, _ = profile(KEY, target, draws, (2, 0))
    for i, scale in enumerate((30.0, 2.0)):
        np.testing.assert_allclose(found.quantile(i, 0.975) / scale, 1.96, atol=0.06)
    np.testing.assert_allclose(found.draws(RNG, 20_000).std(axis=1), scales, rtol=0.04)
    assert found.agrees(draws)
    assert not found.agrees(draws + 2 * scales[:, None])


class Cliff(AbstractLogDensity):
    """A Gaussian of which the half above ``edge`` in the first dimension is missing."""

    edge: float

    def __call__(self, position):
        inside = -jnp.sum(position**2, axis=0) / 2
        return jnp.where(position[0] < self.edge, inside, -jnp.inf)


class Tails(AbstractLogDensity):
    """Students with one degree of freedom each, which no Gaussian covers."""

    def __call__(self, position):
        return -(position[0] ** 2) / 2 - jnp.sum(jnp.log1p(position[1:] ** 2), axis=0)


def without_second_derivative(x):
    return -jax.lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] + jnp.sum(x**2)), (0, 0.0)
    )[1]


@pytest.mark.parametrize(
    ("target", "dim"),
    [
        (Cliff(0.5), 3),
        (Tails(), 40),
        (PerChain(without_second_derivative), 3),
        (Gaussian(jnp.ones(301)), 301),
    ],
    ids=["cliff", "tails", "derivative", "dimensions"],
)
def test_no_marginal_is_better_than_a_wrong_one(target, dim):
    draws = RNG.normal(size=(dim, 1000))
    assert profile(KEY, target, draws, (0,))[0] is None


def test_a_parent_that_never_moved_has_no_marginal():
    draws = RNG.normal(size=(3, 1000))
    draws[0] = 0.5
    assert profile(KEY, Gaussian(jnp.ones(3)), draws, (0,)) == (None, 0)


def test_a_grid_without_an_end_is_given_up(monkeypatch):
    draws = RNG.normal(size=(3, 1000))
    found, _ = profile(KEY, Gaussian(jnp.ones(3)), draws, (0,))
    assert len(found.mass) > 10
    monkeypatch.setattr(_profile, "MARGINALS", dataclasses.replace(MARGINALS, most_rows=10))
    assert profile(KEY, Gaussian(jnp.ones(3)), draws, (0,))[0] is None
