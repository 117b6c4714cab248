"""Marginals by Laplace's approximation and importance weights, and what draws are found to miss of
them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole.adaptation import Profile, bending, profile
from capriole.adaptation import _laplace_marginals as _profile
from capriole.coordinates import Estimate, estimate_transport
from capriole.diagnostics import LEVELS, Marginal, tail_problems
from capriole.fitting.proposers import _transport as _transported
from capriole.kernels import AbstractLogDensity, PerChain
from capriole.runtime import from_plain, to_plain
from capriole_lab.targets import make_target
from densities import Funnel, Gaussian
from kernels import transport_map

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
    assert spent == rows * (_profile._NEWTON * (2 * 5 + len(_profile._DAMPING)) + _profile._SAMPLES)


def test_its_draws_are_those_of_the_target():
    found, _ = profile(KEY, Funnel(3.0), near_the_middle(6), (0,))
    draws = found.draws(RNG, 20_000)
    assert stats.kstest(draws[0], stats.norm(scale=3).cdf).statistic < 0.02
    unit = draws[1:] * np.exp(-draws[0] / 2)
    assert stats.kstest(unit.ravel(), stats.norm.cdf).statistic < 0.02
    np.testing.assert_allclose(np.corrcoef(unit), np.eye(5), atol=0.05)


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
    monkeypatch.setattr(_profile, "_MOST_ROWS", 10)
    assert profile(KEY, Gaussian(jnp.ones(3)), draws, (0,))[0] is None


STANDARD = Marginal(1, tuple(stats.norm.ppf(LEVELS)))


def chains(values):
    return np.reshape(values, (8, 1000))


def missed(draws):
    """The problem of draws whose dimension 1 is these, if there is one."""
    return next(iter(tail_problems(np.stack([0 * draws, draws], axis=-1), [STANDARD])), None)


def test_draws_that_reach_everywhere_miss_nothing():
    assert missed(chains(RNG.normal(size=8000))) is None


@pytest.mark.parametrize(
    ("draws", "side", "low", "high"),
    [
        (stats.truncnorm.rvs(-1.6, 9, size=8000, random_state=1), "below -1.88 in 0.00%", 0, 0),
        (stats.truncnorm.rvs(-9, 1.6, size=8000, random_state=1), "above 1.88 in 0.00%", 0, 0),
        (RNG.normal(size=8000) * 3, "2.75 in 1", 0.01, 0.03),
        (
            stats.truncnorm.rvs(-2.5, 9, size=8000, random_state=1),
            "below -2.75 in 0.00% of the draws, but 0.3%",
            0,
            0,
        ),
        (
            np.concatenate([np.minimum(RNG.normal(size=6000), 1.0), RNG.normal(size=2000)]),
            "above 1",
            0.1,
            0.4,
        ),
    ],
)
def test_an_end_that_is_missed_or_overfull_is_an_error(draws, side, low, high):
    problem = missed(chains(draws))
    assert low <= problem.reach <= high
    assert problem.is_fatal
    assert problem.message.startswith("dimension 1 is ")
    assert side in problem.message


def test_few_draws_or_another_mode_say_nothing():
    assert missed(chains(stats.truncnorm.rvs(-1.6, 9, size=8000, random_state=1))[:2, :10]) is None
    assert missed(chains(2 + RNG.normal(size=8000))) is None


def test_marginals_travel_as_plain_values():
    grid = np.linspace(-4, 4, 81)[:, None]
    mass = stats.norm.pdf(grid[:, 0]) / 10
    found = Profile((1,), grid, np.array([0.1]), mass, np.zeros((81, 1, 2))).marginals()
    (read,) = from_plain(tuple[Marginal, ...], to_plain(found))
    assert read.checked(2) == found[0]
    np.testing.assert_allclose(read.quantiles, STANDARD.quantiles, atol=0.02)
    position = np.stack(
        [chains(RNG.normal(size=8000)), chains(np.maximum(RNG.normal(size=8000), -1))], axis=-1
    )
    assert len(tail_problems(position, found)) == 1
    assert tail_problems(position, ()) == []


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        {},
        [1],
        [{"dimension": 2, "quantiles": list(STANDARD.quantiles)}],
        [{"dimension": True, "quantiles": list(STANDARD.quantiles)}],
        [{"dimension": 0, "quantiles": [0.0]}],
        [{"dimension": 0, "quantiles": [float("nan")] * 7}],
        [{"dimension": 0, "quantiles": ["0"] * 7}],
    ],
)
def test_marginals_that_cannot_be_are_refused(hostile):
    with pytest.raises(ValueError, match="marginal"):
        [read.checked(2) for read in from_plain(tuple[Marginal, ...], hostile, "marginals")]


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


def test_where_no_likely_parent_has_a_marginal_those_that_bend_the_curvature_are_asked(monkeypatch):
    asked, draws = [], np.random.default_rng(3).normal(size=(3, 64))
    marginal = Profile(
        (0,), np.asarray([[-0.5], [0.5]]), np.ones(1), np.full(2, 0.5), np.zeros((2, 1, 3))
    )

    def only_of_the_neck(key, target, draws, parents):
        asked.append(parents)
        return (marginal if parents == (0,) else None), 10

    monkeypatch.setattr(_transported, "profile", only_of_the_neck)
    monkeypatch.setattr(_transported, "likely_parents", lambda draws: [1])
    estimate = Estimate(transport_map(3, [2]), 1.0)
    found, spent = _transported._profile_of(KEY, Funnel(), draws, estimate)
    assert found is marginal
    assert asked == [(2,), (1,), (2, 1), (0,)]  # each once
    assert spent == 4 * 10 + 4 * 64
