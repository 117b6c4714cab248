"""Modes that no chain of the warm-up met: found, weighed, and not made up where there are none."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import PerChain
from capriole.adaptation import _mode_search, search_modes
from capriole.adaptation._gaussians import Oracle, Place, curvature, weigh
from capriole.adaptation._thresholds import MODE_SEARCH
from capriole.diagnostics import Modes, ModeSearch
from capriole.runtime import from_plain, to_plain
from densities import Rough, cliff
from stored import exploration

pytestmark = pytest.mark.usefixtures("standard_promotion")


def mixture(weights, centres, scales):
    """A mixture of round Gaussians in as many dimensions as a centre has."""
    centres, scales = np.array(centres, float), np.array(scales, float)
    constants = np.log(weights) - centres.shape[1] * np.log(scales)

    def logdensity(x):
        return jax.nn.logsumexp(constants - jnp.sum((x - centres) ** 2, axis=1) / 2 / scales**2)

    return logdensity


def met(density, draws, *, label=None, **changes):
    """A warm-up with these draws (chains, draws, dim)."""
    target = PerChain(density)
    flat = jnp.asarray(draws.reshape(-1, draws.shape[2]).T)
    lp = np.asarray(target(flat)).reshape(draws.shape[:2])
    label = np.zeros(len(draws), int) if label is None else label
    modes = Modes(label, np.zeros(label.max() + 1))
    made = exploration(draws.shape[2], len(draws))
    position = jnp.asarray(draws[:, -1].T)
    return made._replace(position=position, draws=draws, lp=lp, modes=modes, **changes)


def searched(density, draws, *, seed=0, spread=1.0, centre=0.0, **changes):
    dim = draws.shape[2]
    starts = centre + spread * np.random.default_rng(seed + 50).normal(size=(dim, 64))
    warmup = met(density, draws, **changes)
    return search_modes(jax.random.key(seed), PerChain(density), jnp.asarray(starts), warmup)


def gaussian(dim, centre=0.0, scale=1.0, seed=0):
    return centre + scale * np.random.default_rng(seed).normal(size=(64, 30, dim))


UNSEEN = {
    "ten dimensions": (
        mixture([0.5, 0.5], [[-1.8] * 10, [1.8] * 10], [1.0, 0.35]),
        gaussian(10, -1.8),
        1.0,
    ),
    "0.05 wide": (mixture([0.5, 0.5], [[0.0], [10.0]], [1.0, 0.05]), gaussian(1), 10.0),
    "0.01 wide": (mixture([0.5, 0.5], [[0.0], [10.0]], [1.0, 0.01]), gaussian(1), 5.0),
    "0.001 wide": (mixture([0.5, 0.5], [[0.0], [10.0]], [1.0, 0.001]), gaussian(1), 5.0),
    "twenty dimensions": (
        mixture([0.5, 0.5], [[-1.8] * 20, [1.8] * 20], [1.0, 0.5]),
        gaussian(20, -1.8),
        1.0,
    ),
    "wide beside narrow": (mixture([0.5, 0.5], [[0.0] * 2, [60.0] * 2], [1, 9]), gaussian(2), 1.0),
    "narrow in wide": (mixture([0.6, 0.4], [[0.0] * 5, [0.5] * 5], [1, 0.1]), gaussian(5), 1.0),
}


def slowly(cases, *names):
    """The cases, those of these names only among slow tests."""
    marked = pytest.mark.slow
    return [pytest.param(name, marks=marked) if name in names else name for name in cases]


@pytest.mark.parametrize("case", slowly(UNSEEN, "twenty dimensions", "narrow in wide"))
def test_a_mode_that_no_chain_met_is_found_and_weighed(case):
    density, draws, spread = UNSEEN[case]
    found = searched(density, draws, spread=spread, seed=3)
    assert found.search.num_found == 1
    assert not found.agreed
    assert found.is_multimodal
    shares = sorted(mode.share for mode in found.weighed)
    expected = [0.4, 0.6] if case == "narrow in wide" else [0.5, 0.5]
    np.testing.assert_allclose(shares, expected, atol=0.05)
    assert found.num_gradients - 1000 == found.search.num_gradients < 60_000


def test_chains_are_moved_to_the_mode_and_keep_the_old_one():
    density, draws, spread = UNSEEN["0.05 wide"]
    found = searched(density, draws, spread=spread)
    for values in (np.asarray(found.position)[0], found.draws[:, :, 0]):
        there = np.mean(np.abs(values - 10) < 0.3)
        assert 0.3 < there < 0.6
        assert np.mean(np.abs(values) < 5) == pytest.approx(1 - there)
    np.testing.assert_allclose(
        found.lp.ravel(), PerChain(density)(jnp.asarray(found.draws.reshape(1, -1))), rtol=1e-5
    )


@pytest.mark.slow
def test_two_of_three_modes_are_found():
    centres, widths = [[-3.0] * 5, [2.5] * 5, [3.0, -3.0, 3.0, -3.0, 3.0]], [1.0, 0.3, 0.5]
    found = searched(mixture([0.4, 0.3, 0.3], centres, widths), gaussian(5, -3.0))
    assert found.search.num_found == 2
    np.testing.assert_allclose([m.share for m in found.weighed], [0.4, 0.3, 0.3], atol=0.05)
    np.testing.assert_allclose(found.weighed[0].centre, centres[0], atol=0.2)


def student(x):
    return -2 * jnp.sum(jnp.log1p(x**2 / 3))


def funnel(x):
    return -(x[0] ** 2) / 18 - jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) / 2 - 2 * x[0]


def banana(x):
    return -(x[0] ** 2) / 8 - jnp.sum((x[1:] + 0.3 * (x[0] ** 2 - 4)) ** 2) / 2


def peak(x):
    """N(0, I) and a peak without bound that holds next to nothing."""
    return -jnp.sum(x**2) / 2 + 0.2 * jnp.log1p(1e-3 / jnp.sum((x - 3) ** 2))


def raising(x):
    return eqx.error_if(-jnp.sum(x**2) / 2, jnp.max(jnp.abs(x)) > 6, "too far out")


def bent(seed=0):
    draws = gaussian(3, seed=seed)
    draws[..., 0] *= 2
    draws[..., 1:] -= 0.3 * (draws[..., :1] ** 2 - 4)
    return draws


def funnelled(seed=0):
    draws = gaussian(5, seed=seed)
    draws[..., 0] *= 3
    draws[..., 1:] *= np.exp(draws[..., :1] / 2)
    return draws


def cut(seed=0):
    draws = np.random.default_rng(seed).normal(size=(64, 1000, 2))
    sound = (draws[..., 0] > -1) & (draws[..., 0] < 1.5) & (draws[..., 1] < 1)
    return np.stack([chain[keep][:30] for chain, keep in zip(draws, sound, strict=True)])


ALONE = {
    "gaussian": (lambda x: -jnp.sum(x**2) / 2, gaussian(5)),
    "student": (student, np.random.default_rng(0).standard_t(3, size=(64, 30, 3))),
    "funnel": (funnel, funnelled()),
    "banana": (banana, bent()),
    "exponential": (
        lambda x: -jnp.sum(jnp.abs(x)),
        np.random.default_rng(0).laplace(size=(64, 30, 4)),
    ),
    "rough": (lambda x: Rough()(x), gaussian(2)),
    "peak": (peak, gaussian(3)),
    "cliff": (cliff, cut()),
    "raising": (raising, gaussian(2)),
    "rare": (mixture([0.998, 0.002], [[0.0] * 2, [6.0] * 2], [1.0, 0.5]), gaussian(2)),
}


@pytest.mark.parametrize("case", slowly(ALONE, "student", "banana", "exponential", "raising"))
def test_no_mode_is_made_up(case):
    density, draws = ALONE[case]
    found = searched(density, draws)
    assert found.agreed
    assert not found.weighed
    assert found.search.num_found == 0
    assert found.search.num_finite <= found.search.num_points
    np.testing.assert_array_equal(found.draws, draws)


def test_modes_where_chains_sat_are_weighed():
    """A quarter of the chains is in a mode with half of the mass: chains' shares say nothing."""
    density = mixture([0.5, 0.5], [[0.0] * 2, [20.0] * 2], [1.0, 3.0])
    draws, label = gaussian(2), np.repeat([0, 1], [48, 16])
    draws[label == 1] = 20 + 3 * draws[label == 1]
    found = searched(density, draws, label=label, max_separation=20.0)
    assert found.search.num_found == 0
    np.testing.assert_allclose([mode.share for mode in found.weighed], 0.5, atol=0.05)
    np.testing.assert_array_equal(found.draws, draws)


def test_parts_of_a_funnel_are_no_modes():
    draws = funnelled()
    order = np.argsort(draws[..., 0].ravel())
    draws = draws.reshape(-1, 5)[order].reshape(draws.shape)
    found = searched(funnel, draws, label=np.repeat([0, 1], 32), max_separation=20.0)
    assert not found.weighed


def test_a_rough_surface_has_no_modes():
    def rough(x):
        return -jnp.sum(x**2) / 1800 - 5 * jnp.sum(jnp.cos(x))

    draws = 30 * gaussian(2)[:, -1:] + 0.1 * gaussian(2, seed=1)
    found = searched(rough, draws, spread=30.0, max_separation=20.0)
    assert not found.weighed


def test_the_cloud_is_told_in_the_users_coordinates():
    found = searched(lambda x: -jnp.sum((x - 7) ** 2) / 2, gaussian(2, 7.0), centre=7.0)
    search = found.search
    assert search.low[0] < 0 < 14 < search.high[0]
    assert abs((search.low[0] + search.high[0]) / 2 - 7) < 6
    text = str(search)
    assert f"{search.num_points:,} points at 0.5 to 50 spreads of the starts" in text
    assert f"{search.low[0]:.3g} to {search.high[0]:.3g}" in text
    assert f"{search.num_gradients:,} gradients" in text
    assert "0 modes were found" in text
    assert from_plain(ModeSearch, to_plain(search)) == search
    with pytest.raises(ValueError, match="no search for modes in 3 dimensions"):
        search.checked(3)


def test_the_curvature_and_the_mass_of_a_gaussian_are_its_own():
    scale = np.array([0.01, 1.0, 300.0])
    factor = np.diag(scale) @ np.linalg.cholesky(np.eye(3) / 2 + 0.5)
    centre = np.array([3.0, -2.0, 500.0])
    whiten = np.linalg.inv(factor)
    target = PerChain(lambda x: -jnp.sum((whiten @ (x - centre)) ** 2) / 2 + 4)
    oracle = Oracle(target, jnp.zeros((3, 8)))
    covariance = curvature(oracle, centre, np.ones(3))
    np.testing.assert_allclose(covariance, factor @ factor.T, rtol=1e-2, atol=1e-3 * scale[0] ** 2)
    assert oracle.num_gradients == 19  # the top, and three passes of two steps a dimension
    one = weigh(np.random.default_rng(0), oracle, Place.of(centre, covariance, 4.0))
    expected = 4 + np.log(np.diagonal(factor)).sum() + math.log(MODE_SEARCH.inside)
    assert one.log_mass == pytest.approx(expected, abs=0.05)
    assert one.effective > 0.5


def test_a_saddle_has_no_gaussian():
    oracle = Oracle(PerChain(lambda x: x[0] ** 2 - x[1] ** 2), jnp.zeros((2, 8)))
    assert curvature(oracle, np.zeros(2), np.ones(2)) is None


def test_a_point_is_explained_by_where_newtons_step_leads_and_by_its_density():
    place = Place.of(np.zeros(2), np.eye(2), 0.0)
    x = np.array([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    grad = np.array([[-2.0, -9.0, -2.0], [0.0, 0.0, 0.0]])
    lp = np.array([-2.0, -2.0, 5.0])
    np.testing.assert_array_equal(place.explains(x, lp, grad), [True, False, False])


def test_nothing_is_searched_in_too_many_dimensions(monkeypatch):
    few = dataclasses.replace(MODE_SEARCH, most_dim=1)
    monkeypatch.setattr(_mode_search, "MODE_SEARCH", few)
    density, draws, spread = UNSEEN["wide beside narrow"]
    found = searched(density, draws, spread=spread)
    assert found.search is None
    assert found.agreed
