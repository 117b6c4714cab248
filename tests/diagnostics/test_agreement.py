"""The rule of agreement: equal distributions pass; shifted, stretched and stuck ones fail."""

import numpy as np
import pytest
from scipy import stats

from capriole.diagnostics import Z_LIMIT, agreement


def normals(seed, chains=8, draws=1000, dim=3):
    return np.random.default_rng(seed).standard_normal((chains, draws, dim))


def autoregression(seed, coefficient):
    noise, states = normals(seed, draws=4000), np.empty((8, 4000, 3))
    states[:, 0] = noise[:, 0]
    for t in range(1, 4000):
        states[:, t] = coefficient * states[:, t - 1] + np.sqrt(1 - coefficient**2) * noise[:, t]
    return states


@pytest.mark.parametrize("coefficient", [0.9, 0.5, -0.5])
def test_correlated_draws_of_the_same_distribution_pass(coefficient):
    result = agreement(autoregression(1, coefficient), normals(2))
    assert result.passed
    assert np.abs([result.z_mean, result.z_square]).max() < 4
    assert (result.ess > 500).all()


def test_figures_are_those_of_the_formulas():
    draws, reference = normals(3), normals(4, draws=500)
    result = agreement(draws, reference)
    flat, other = draws.reshape(-1, 3), reference.reshape(-1, 3)
    plain = (flat.mean(0) - other.mean(0)) / np.sqrt(
        flat.var(0) / len(flat) + other.var(0) / len(other)
    )
    np.testing.assert_allclose(
        result.z_mean, plain, rtol=0.1
    )  # ESS of independent draws is their number within 10 %
    expected = [stats.ks_2samp(a, b).statistic for a, b in zip(flat.T, other.T, strict=True)]
    np.testing.assert_allclose(result.ks, expected, rtol=1e-12)
    full = agreement(normals(5, 10), normals(6, 10))
    np.testing.assert_allclose(full.ks_limit, 0.0381, rtol=0.05)  # of 10,000 draws each, level 1e-6
    assert result._fields == ("z_mean", "z_square", "ks", "ks_limit", "rhat", "rhat_limit", "ess")


WRONG = {
    "shifted": lambda x: x + 0.15,
    "stretched": lambda x: 1.15 * x,
    "skewed": lambda x: (
        (np.exp(0.6 * x) - np.exp(0.18)) / np.sqrt((np.exp(0.36) - 1) * np.exp(0.36))
    ),
    "not a number": lambda x: np.where(x > 3, np.nan, x),
    "constant": lambda x: 0 * x,
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_draws_do_not_pass(how):
    draws = normals(7, 10)
    draws[..., 1] = WRONG[how](draws[..., 1])
    result = agreement(draws, normals(8, 10))
    assert not result.passed
    assert (
        not np.abs([result.z_mean[1], result.z_square[1]]).max() <= Z_LIMIT
        or result.ks[1] > result.ks_limit[1]
    )
    assert np.abs([result.z_mean[::2], result.z_square[::2]]).max() < 5


def test_a_chain_elsewhere_is_seen_though_it_widens_every_error():
    draws = normals(7, 10)
    draws[-1, :, 1] += 30
    result = agreement(draws, normals(8, 10))
    assert np.abs([result.z_mean[1], result.z_square[1]]).max() < Z_LIMIT
    assert result.ess[1] < 40
    assert result.rhat[1] > 1.1
    assert not result.passed


def test_skewness_alone_is_left_to_the_distance():
    draws = normals(9, 10)
    draws = WRONG["skewed"](draws)
    result = agreement(draws, normals(10, 10))
    assert np.abs(result.z_mean).max() < Z_LIMIT
    assert (result.ks > result.ks_limit).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\(8, 1000, 3\) and \(8, 1000, 2\)"):
        agreement(normals(1), normals(1, dim=2))
    with pytest.raises(ValueError, match=r"\(8, 1000\)"):
        agreement(normals(1)[..., 0], normals(1))
    with pytest.raises(ValueError, match="at least 2 chains of draws to know their errors, got 1"):
        agreement(normals(1, chains=1), normals(1))


def test_few_perfect_draws_may_have_an_r_hat_above_the_usual_limit():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(10, 1000, 3))
    found = [agreement(rng.normal(size=(4, 60, 3)), reference) for _ in range(10)]
    assert sum(each.passed for each in found) >= 9
    assert sum(bool((each.rhat > 1.01).any()) for each in found) > 2
