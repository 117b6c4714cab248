"""Draws held against the marginals of parents: which ends they miss."""

import jax
import numpy as np
import pytest
from scipy import stats

from capriole.adaptation import Profile
from capriole.coordinates import Estimate
from capriole.diagnostics import LEVELS, Marginal, tail_problems
from capriole.fitting.proposers import _transport as _transported
from capriole.runtime import from_plain, to_plain
from densities import Funnel
from kernels import transport_map

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


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
    assert problem.message.startswith("x[1] is ")
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


def test_where_no_likely_parent_has_a_marginal_those_that_bend_the_curvature_are_asked(monkeypatch):
    asked, draws = [], np.random.default_rng(3).normal(size=(3, 64))
    marginal = Profile(
        (0,), np.asarray([[-0.5], [0.5]]), np.ones(1), np.full(2, 0.5), np.zeros((2, 1, 3))
    )

    def only_of_the_neck(key, target, draws, parents):
        asked.append(parents)
        return (marginal if parents == (0,) else None), 10

    monkeypatch.setattr(_transported, "profile", only_of_the_neck)
    monkeypatch.setattr(_transported, "parent_candidates", lambda draws: [1])
    estimate = Estimate(transport_map(3, [2]), 1.0)
    found, spent = _transported._profile_of(KEY, Funnel(), draws, estimate)
    assert found is marginal
    assert asked == [(2,), (1,), (2, 1), (0,)]  # each once
    assert spent == 4 * 10 + 4 * 64
