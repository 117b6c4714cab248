"""Quick looks at draws find what all of them would have found."""

import numpy as np
import pytest

from capriole.diagnostics import bulk_ess, bulk_ess_sq, fast_ess, fast_max_rhat, fast_min_ess, rhat


def test_the_slowest_dimensions_are_looked_at():
    """Dimension 7 of 10 moves by a slow walk: its ESS is the worst, of x and of x^2, and only few
    are computed.
    """
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(8, 500, 10))
    for t in range(1, 500):
        draws[:, t, 7] = 0.98 * draws[:, t - 1, 7] + 0.2 * draws[:, t, 7]
    for found, exact in zip(
        fast_min_ess(draws), (bulk_ess(draws), bulk_ess_sq(draws)), strict=True
    ):
        assert found.shape == (4,)
        assert found.min() == pytest.approx(exact.min(), rel=1e-6)
    assert fast_min_ess(draws[..., :3])[0].shape == (3,)


@pytest.mark.parametrize(("persistence", "most"), [(0.0, 1.5), (0.9, 2.0), (0.98, 6.0)])
def test_a_rough_figure_is_near_the_ess_of_the_worst_dimension_and_too_high_for_slow_chains(
    persistence, most
):
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(8, 1000, 3))
    for t in range(1, 1000):
        draws[:, t, 1] = (
            persistence * draws[:, t - 1, 1] + np.sqrt(1 - persistence**2) * draws[:, t, 1]
        )
    exact = min(bulk_ess(draws).min(), bulk_ess_sq(draws).min())
    assert 0.7 < fast_ess(draws) / exact < most


def test_draws_that_stand_still_or_run_away_are_worth_nothing():
    draws = np.random.default_rng(0).normal(size=(8, 100, 3))
    draws[:, :, 2] = 1.0
    assert fast_ess(draws) == 0
    draws[0, 7, 2] = np.inf
    assert fast_ess(draws) == 0


@pytest.mark.parametrize("kind", ["places", "scales"])
def test_chains_that_differ_in_one_dimension_of_many_are_noticed(kind):
    draws = np.random.default_rng(0).normal(size=(8, 200, 20))
    if kind == "places":
        draws[0, :, 13] += 3
    else:
        draws[0, :, 13] *= 5
    assert fast_max_rhat(draws) == pytest.approx(np.max(rhat(draws)))
    assert fast_max_rhat(draws) > 1.05
