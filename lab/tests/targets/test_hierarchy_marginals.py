"""Laplace marginals of two hierarchies with known answers: batting and volatility."""

import jax
import numpy as np
import pytest
from scipy import stats

from capriole.adaptation import bending, profile
from capriole.coordinates import estimate_transport
from capriole_lab.targets import make_target
from densities import Funnel

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def batting():
    target = make_target("batting")
    start = np.asarray(target.start(KEY, 2000)) * 0.3 - np.r_[np.ones(19), 2][:, None]
    return profile(KEY, target, start, (19,))[0]


def test_batting_agrees_with_its_quadrature(batting):
    found = batting
    means, variances = make_target("batting").hyper_moments()
    log_tau = found.values[:, 0]
    np.testing.assert_allclose(found.mass @ log_tau, means[1], atol=0.02)
    np.testing.assert_allclose(found.mass @ (log_tau - means[1]) ** 2, variances[1], rtol=0.05)


def test_even_draws_make_a_map_that_holds_where_one_draw_in_a_thousand_is(batting):
    rng = np.random.default_rng(1)
    draws, even = batting.draws(rng, 8000), batting.draws(rng, 8000, even=0.5)
    deep = batting.draws(rng, 20_000, even=1.0)
    deep = deep[:, deep[19] < batting.quantile(0, 0.003)]
    assert len(deep[0]) > 2000
    found = [estimate_transport(draws), estimate_transport(draws, even=even)]
    inside = [jax.tree.map(np.asarray, each.transport) for each in found]
    worst = [np.abs(np.log(each.inverse(deep)[:19].std(axis=1))).max() for each in inside]
    assert worst[1] < 0.2 < 0.5 < worst[0], worst
    assert stats.kstest(even[19, :4000], draws[19]).statistic > 0.1


def test_the_curvature_names_the_parents_whatever_the_draws():
    """Of a volatility's 203 dimensions those three that the innovations' curvature depends on, by
    independent draws.
    """
    target = make_target("volatility", dtype="float64")
    draws = np.asarray(target.start(jax.random.key(1), 400))
    found, gradients = bending(jax.random.key(0), target, draws)
    assert set(found) == {200, 201, 202}
    assert gradients == 4 * 200
    assert (
        bending(jax.random.key(0), Funnel(), np.random.default_rng(0).normal(size=(3, 64)))[0][0]
        == 0
    )
