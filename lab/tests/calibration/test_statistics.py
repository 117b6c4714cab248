"""p-values are what they say: exact for ranks, bounds for distances, a known rate of false
rejections in stages.
"""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from capriole_lab.calibration import (
    autocorrelation_times,
    chi_square_p,
    ecdf_band,
    ecdf_p,
    found_distance,
    one_sample_p,
    randomised_ranks,
    sequential,
    two_sample_p,
)

RNG = np.random.default_rng


def coverage(counts, num, num_values):
    """g of `ecdf_p`, from scratch."""
    p = np.arange(1, num_values) / num_values
    below = np.cumsum(counts)[:-1]
    return 2 * np.min(np.minimum(stats.binom.cdf(below, num, p), stats.binom.sf(below - 1, num, p)))


def test_p_value_of_ranks_against_every_possible_outcome():
    """4 values, 9 ranks: the p-value is the probability of all outcomes at least as extreme."""
    num, num_values = 9, 4
    outcomes = [c for c in itertools.product(range(num + 1), repeat=num_values) if sum(c) == num]
    chance = np.array(
        [
            math.factorial(num) / math.prod(map(math.factorial, c)) / num_values**num
            for c in outcomes
        ]
    )
    extreme = np.array([coverage(c, num, num_values) for c in outcomes])
    for i in RNG(0).integers(len(outcomes), size=40):
        ranks = np.repeat(np.arange(num_values), outcomes[i])
        expected = chance[extreme <= extreme[i] * (1 + 1e-9)].sum()
        assert ecdf_p(ranks, num_values) == pytest.approx(expected, rel=1e-9)


def test_band_of_ranks_is_left_at_its_level_and_agrees_with_the_p_value():
    num, num_values, level, tries = 200, 16, 0.05, 2000
    band, left = ecdf_band(num, num_values, level), []
    for seed in range(tries):
        ranks = RNG(seed).integers(num_values, size=num)
        counts = np.cumsum(np.bincount(ranks, minlength=num_values))[:-1]
        left.append(np.any((counts < band.low) | (counts > band.high)))
        if seed < 100:
            assert (
                left[-1] == (ecdf_p(ranks, num_values) < level)
                or abs(ecdf_p(ranks, num_values) - level) < 0.01
            )
    # Counts are discrete: the band's level is below the wanted one, not above it.
    assert 0.03 < np.mean(left) < level + 4 * math.sqrt(level / tries)


def test_extreme_ranks():
    assert ecdf_p(np.zeros(300, int), 20) < 1e-100
    assert ecdf_p(np.full(300, 10), 20) < 1e-50
    assert chi_square_p(np.arange(100) % 10, 10) == pytest.approx(1)
    assert chi_square_p(np.zeros(100, int), 10) < 1e-50
    with pytest.raises(ValueError, match="5 ranks per value"):
        chi_square_p(np.zeros(40, int), 10)


def test_distances_are_those_of_scipy_and_the_bounds_hold():
    a, b = RNG(1).normal(size=(2, 1000))
    b = np.round(b + 0.1, 2)
    a = np.round(a, 2)  # ties, within and between
    distance = stats.ks_2samp(a, b).statistic
    assert two_sample_p(a, b) == pytest.approx(2 * np.exp(-1000 * distance**2))
    distance = stats.kstest(a, special.ndtr).statistic
    assert one_sample_p(a, special.ndtr) == pytest.approx(min(1, 2 * np.exp(-2000 * distance**2)))
    assert two_sample_p(a, a) == 1
    assert two_sample_p(a, a + 1) < 1e-20
    assert one_sample_p(np.full(500, np.nan), special.ndtr) == 0
    edge = found_distance(1e-3, 500)
    assert 2 * np.exp(-2 * 500 * edge**2) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match="at least 458, got 100 and 100"):
        two_sample_p(a[:100], b[:100])


def test_a_draw_that_is_no_number_rejects():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 1000))
    assert two_sample_p(first, second) > 0.01
    assert two_sample_p(np.where(first > 2.5, np.nan, first), second) == 0
    assert two_sample_p(first, np.where(second > 2.5, np.nan, second)) == 0


def test_ranks_with_ties_are_uniform():
    """Discrete values: without random tie-breaking the lowest ranks would take all."""
    values = RNG(2).integers(3, size=(8, 40_000)).astype(float)
    ranks = randomised_ranks(values[0], values[1:] + 1e-14, RNG(3))
    assert chi_square_p(ranks, 8) > 1e-4
    assert ranks.max() == 7
    strict = np.sum(values[1:] < values[0], axis=0)
    assert chi_square_p(strict, 8) < 1e-100
    assert randomised_ranks(np.array([np.nan]), np.zeros((4, 1)), RNG(0)) == [0]


def test_autocorrelation_times_of_known_chains():
    noise, x = RNG(4).normal(size=(300, 2000)), np.zeros((300, 2000))
    for t in range(1, 2000):
        x[:, t] = 0.8 * x[:, t - 1] + noise[:, t]
    assert np.median(autocorrelation_times(x)) == pytest.approx(1.8 / 0.2, rel=0.1)
    assert np.median(autocorrelation_times(noise)) < 1.2
    assert autocorrelation_times(np.ones((2, 50))).tolist() == [50, 50]
    assert autocorrelation_times(np.tile([1.0, -1.0], (1, 25))).tolist() == [1]


def test_stages_reject_a_correct_kernel_no_more_often_than_they_say():
    level, tries = 0.1, 4000
    rng, found = RNG(5), []
    for _ in range(tries):
        found.append(
            sequential(lambda stage, num: dict(enumerate(rng.random(3))), level=level, first=10)
        )
    rejected = np.mean([not outcome.passed for outcome in found])
    assert rejected < level + 4 * math.sqrt(level / tries)
    assert rejected > 0.02, "a test that never rejects has no power"
    assert np.mean([outcome.num_stages for outcome in found]) < 2.5


def test_stages_end_at_once_where_all_is_clear_and_grow_where_it_is_not():
    assert sequential(lambda stage, num: {"x": 0.9}, level=1e-3, first=10)[2:] == (1, 10)
    wrong = sequential(lambda stage, num: {"x": 0.9, "y": 1e-9}, level=1e-3, first=10)
    assert (wrong.passed, wrong.num_stages, wrong.smallest) == (False, 1, 2e-9)
    sizes = []

    def unclear(stage, num):
        sizes.append(num)
        return {"x": 0.01 if stage < 2 else 1e-6}

    outcome = sequential(unclear, level=1e-3, first=10)
    assert (outcome.passed, sizes, outcome.num_replicates) == (False, [10, 40, 40], 90)
