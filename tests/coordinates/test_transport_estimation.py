"""Transport maps are found where draws ask for them, and only there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole.coordinates import (
    Transported,
    Whitened,
    _transport_mixing,
    _transport_parts,
    draws_to_user,
    estimate_transport,
    estimate_whitening,
    from_user,
    in_coordinates_of,
    maps,
    refitted,
    to_user,
    users,
)
from capriole.coordinates import _transport_estimation as _transport_fit
from capriole.coordinates._thresholds import THRESHOLDS
from capriole.coordinates._transport_map import features
from capriole.coordinates._transport_mixing import fit_mixing
from capriole.coordinates._transport_parts import (
    _jointly_diagonalised,
    fit_conditionals,
    fit_marginals,
)
from densities import Banana
from kernels import transport_map


def test_coordinates_of_coordinates():
    inner = Transported(Banana(), transport_map(2, [0]))
    target = Whitened(
        inner, estimate_whitening(np.random.default_rng(0).normal([[1.0], [2.0]], size=(2, 500)))
    )
    z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)))
    x = inner.transport.forward(target.whitening.forward(z))
    np.testing.assert_allclose(to_user(target, z), x, rtol=1e-12)
    np.testing.assert_allclose(from_user(target, x), z, rtol=0, atol=1e-9)
    draws = draws_to_user(target, np.asarray(z).T[:, None])
    np.testing.assert_allclose(draws[:, 0].T, x, rtol=1e-12)
    assert users(target) is inner.logdensity
    assert [type(step).__name__ for step in maps(target)] == ["Whitening", "TransportMap"]
    np.testing.assert_allclose(in_coordinates_of(target, Banana())(z), target(z), rtol=1e-12)
    expected = Banana()(x) + inner.transport.log_det(target.whitening.forward(z))
    np.testing.assert_allclose(target(z), expected, rtol=1e-10)


def schools(n, dim=8, seed=0):
    """A centred hierarchy: log tau with a long left tail, mu, and coordinates that share both;
    chains of 100.
    """
    rng = np.random.default_rng(seed)
    log_tau = np.log(rng.gamma(1.0, 1.0, size=n) + 1e-3)
    mu = rng.normal(size=n)
    return np.concatenate([mu + np.exp(log_tau) * rng.normal(size=(dim, n)), [mu, log_tau]])


def test_a_funnel_is_found_and_straightened():
    draws = schools(6400)
    found = estimate_transport(draws)
    assert list(np.asarray(found.transport.parents)) == [9]
    assert found.gain > 2
    fresh = schools(50_000, seed=1)
    z = np.asarray(jax.tree.map(np.asarray, found.transport).inverse(fresh))
    neck = fresh[9] < np.quantile(fresh[9], 0.05)
    for part in (z[:, neck], z[:, ~neck]):
        spread = part[:8].std(axis=1)
        assert spread.min() > 0.8
        assert spread.max() < 1.25
    parent = (z[9] - z[9].mean()) / z[9].std()
    assert stats.kstest(parent, "norm").statistic < 0.03
    assert stats.kstest((fresh[9] - fresh[9].mean()) / fresh[9].std(), "norm").statistic > 0.06


def test_draws_of_a_gaussian_ask_for_nothing():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(6, 6))
    assert estimate_transport(mixing @ rng.normal(size=(6, 6400))) is None


def test_skewed_tails_alone_are_straightened_without_a_parent():
    rng = np.random.default_rng(4)
    draws = np.stack([np.log(rng.gamma(1.5, 1.0, 6400)), rng.normal(size=6400)])
    found = estimate_transport(draws)
    assert found.transport.parents.size == 0
    np.testing.assert_array_equal(found.transport.tail[1], 1)
    np.testing.assert_array_equal(found.transport.heaviness, 0)
    z = np.asarray(found.transport.inverse(jnp.asarray(draws)))[0]
    assert abs(stats.skew(z)) < 0.15 < 0.8 < abs(stats.skew(draws[0]))


@pytest.mark.parametrize("degrees", [1.5, 2.5, 3.0])
def test_tails_that_fall_like_a_power_are_straightened_to_the_end(degrees):
    draws = np.random.default_rng(6).standard_t(degrees, size=(1, 6400))
    transport = estimate_transport(draws).transport
    assert transport.heaviness[0] > 0
    far = stats.t.isf(
        np.asarray([[5e-4, 5e-6]]), degrees
    )  # the second is far from any of the draws
    z = np.asarray(transport.inverse(jnp.asarray(far)))[0]
    np.testing.assert_allclose(z, stats.norm.isf([5e-4, 5e-6]), rtol=0.25)


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_tails_that_are_skewed_are_not_taken_for_powers(shape):
    rng = np.random.default_rng(7)
    draws = np.stack([np.log(rng.gamma(shape, size=6400)), rng.normal(size=6400)])
    np.testing.assert_array_equal(fit_marginals(draws)["heaviness"], 0)


def test_even_tails_that_may_be_powers_are_taken_for_those():
    levels = (np.arange(6400) + 0.5) / 6400
    middle = np.sinh(np.arcsinh(stats.norm.ppf(levels)) / 0.55)  # suits t(3) up to its 0.1 % points
    found = fit_marginals(np.stack([middle, stats.laplace.ppf(levels), stats.norm.ppf(levels)]))[
        "heaviness"
    ]
    np.testing.assert_array_equal(found, [0.05, 0.05, 0])


@pytest.fixture
def few_are_many(monkeypatch):
    """More than ten dimensions are many, so that a test of many takes a second."""
    few = dataclasses.replace(THRESHOLDS, max_dense_dim=10)
    for module in (_transport_fit, _transport_mixing, _transport_parts):
        monkeypatch.setattr(module, "THRESHOLDS", few)


@pytest.mark.usefixtures("few_are_many")
def test_in_many_dimensions_only_the_children_that_gain_are_bent():
    dim, n = 15, 6400
    rng = np.random.default_rng(5)
    draws = rng.normal(size=(dim, n))
    draws[7] *= np.exp(draws[3])
    found = estimate_transport(draws)
    assert list(np.asarray(found.transport.parents)) == [3]
    bent = np.flatnonzero(np.any(np.asarray(found.transport.log_scale)[:, 1:], axis=1))
    np.testing.assert_array_equal(bent, [7])
    again = refitted(found.transport, draws[:, ::2])
    np.testing.assert_array_equal(
        np.flatnonzero(np.any(np.asarray(again.log_scale)[:, 1:], axis=1)), [7]
    )


def turning(n, dim, seed, pair=(0, 1)):
    """Independent normals, but the second of ``pair`` follows the first, with the last as its
    slope.

    Every other draw has the last two spread evenly.
    """
    rng = np.random.default_rng(seed)
    draws = rng.normal(size=(dim, n))
    draws[-2:, ::2] = rng.uniform(-3, 3, size=draws[-2:, ::2].shape)
    i, j = pair
    draws[j] += draws[-1] * draws[i]
    return draws


def test_a_correlation_that_changes_with_the_parents_is_undone():
    draws = turning(8000, 6, seed=5)
    basis = features(draws[-2:])
    found = fit_mixing(draws[:4], basis)
    assert found.rows.tolist() == [0, 1]
    assert not found.own_scale[0].any()
    fresh = turning(40_000, 6, seed=6)
    transport = _transport_fit._fit_map(draws, [5], np.arange(5), reliable=True)
    assert transport.mixed.size
    z = transport.inverse(fresh)
    for low, high in ((-3, -1.5), (-0.3, 0.3), (1.5, 3)):
        inside = (fresh[-1] > low) & (fresh[-1] < high)
        np.testing.assert_allclose(np.cov(z[:4, inside]), np.eye(4), atol=0.25)


def test_correlations_that_stay_are_not_mixed():
    draws = turning(8000, 6, seed=7)
    assert not fit_mixing(draws[2:4], features(draws[-2:])).rows.size


def test_no_more_rows_are_mixed_than_there_is_room_for(monkeypatch):
    draws = np.concatenate([turning(8000, 4, seed=8)[:2], turning(8000, 4, seed=8)])
    draws[2] += draws[0]
    every = fit_mixing(draws[:4], features(draws[-2:])).rows
    few = dataclasses.replace(THRESHOLDS, max_dense_dim=2)
    monkeypatch.setattr(_transport_mixing, "THRESHOLDS", few)
    assert len(fit_mixing(draws[:4], features(draws[-2:])).rows) == 2 < len(every)


@pytest.mark.usefixtures("few_are_many")
def test_in_many_dimensions_those_are_children_whose_correlations_change():
    dim = 14
    even = turning(8000, dim, seed=9, pair=(4, 10))
    draws = even[:, 1::2]  # of the target: all normal, so that next to nothing tells of the pair
    along = (dim - 2, dim - 1)
    transport = estimate_transport(
        np.tile(skewed(draws), 2), even=skewed(even), along=along
    ).transport
    assert set(np.asarray(transport.parents).tolist()) == set(along)
    fresh = skewed(turning(40_000, dim, seed=10, pair=(4, 10)))
    z = np.asarray(transport.inverse(jnp.asarray(fresh)))[[4, 10]]
    for low, high in ((-3, -1.5), (1.5, 3)):
        inside = (fresh[-1] > low) & (fresh[-1] < high)
        assert abs(np.corrcoef(fresh[[4, 10]][:, inside])[0, 1]) > 0.8
        assert abs(np.corrcoef(z[:, inside])[0, 1]) < 0.2


def skewed(draws):
    """The first coordinate's mean and scale bent by the last, which makes a parent of that."""
    bent = draws.copy()
    bent[0] = draws[-1] ** 2 + np.exp(draws[-1] + draws[-2]) * draws[0]
    return bent


def test_down_a_neck_that_no_draw_reached_means_shrink_with_scales():
    rng = np.random.default_rng(3)
    parent = rng.normal(size=6000)
    scale = np.exp(1.5 * parent)
    child = 5 + scale * (0.4 + 0.3 * rng.normal(size=6000))
    found = estimate_transport(np.stack([parent, child])).transport
    deep = np.stack([np.full(4000, -4.5), 5 + np.exp(-6.75) * (0.4 + 0.3 * rng.normal(size=4000))])
    z = np.asarray(jax.tree.map(np.asarray, found).inverse(deep))[1]
    assert abs(z.mean()) < 1
    assert 0.3 < z.std() < 3
    assert not np.any(np.asarray(found.offset)[1, 1:])


def test_means_that_do_not_shrink_move_on_their_own():
    rng = np.random.default_rng(4)
    parent = rng.normal(size=6000)
    child = 2 * parent + np.exp(-1.5 * parent) * 0.1 * rng.normal(size=6000)
    (offset, centre, log_scale) = fit_conditionals(child[None], features(parent[None]))
    assert np.any(offset[0, 1:])
    level = np.exp(log_scale @ features(parent[None]))[0]
    residual = (child - (offset @ features(parent[None]))[0]) / level - (
        centre @ features(parent[None])
    )[0]
    assert abs(residual[parent > 1].mean()) < 0.1
    np.testing.assert_allclose(residual[parent > 1].std(), 1, atol=0.35)


def test_a_candidate_parent_that_overflows_does_not_end_the_search(monkeypatch):
    """Exact draws of Neal's funnel: children as parents ask for scales beyond all numbers."""
    rng = np.random.default_rng(5)
    neck = 3 * rng.normal(size=8000)
    draws = np.stack([neck, *(np.exp(neck / 2) * rng.normal(size=(9, 8000)))])
    score = _transport_fit._score

    def fragile(transport, *args):
        if transport is not None and transport.parents.tolist() == [1]:
            raise np.linalg.LinAlgError
        return score(transport, *args)

    monkeypatch.setattr(_transport_fit, "_score", fragile)
    monkeypatch.setattr(
        _transport_fit, "scale_influence", lambda draws: -np.abs(np.arange(len(draws)) - 1.4)
    )
    found = estimate_transport(draws)
    assert found.transport.parents.tolist() == [0]
    assert found.gain > 15


@pytest.mark.parametrize(
    "draws", [np.full((2, 500), np.nan), np.zeros((400, 9000)), np.zeros((50, 100))]
)
def test_no_map_for_draws_that_cannot_tell(draws):
    assert estimate_transport(draws) is None


WIDE = np.random.default_rng(9).standard_cauchy(size=(4, 3000))


@pytest.mark.parametrize(
    ("draws", "mapped"),
    [
        (np.vstack([WIDE[:2], np.ones((1, 3000))]), True),
        (np.vstack([WIDE[:2], WIDE[:1]]), False),
        (WIDE * 1e150, True),
        (WIDE * 1e-150, True),
        (np.sign(WIDE), False),
        (WIDE**7, True),
        (np.zeros((3, 3000)), False),
    ],
    ids=["constant", "twice the same", "huge", "tiny", "two values", "tails", "zero"],
)
def test_no_draws_are_too_odd_to_be_asked(draws, mapped):
    found = estimate_transport(draws)
    assert (found is not None) == mapped
    for transport in [] if found is None else [found.transport, refitted(found.transport, draws)]:
        host = jax.tree.map(lambda part: np.asarray(part), transport)
        np.testing.assert_allclose(
            host.forward(host.inverse(draws)), draws, rtol=1e-5, atol=1e-5 * np.abs(draws).max()
        )


def test_covariances_with_common_axes_become_diagonal_however_small_some_are():
    rng = np.random.default_rng(6)
    axes, scales = rng.normal(size=(5, 5)), np.exp(4 * rng.normal(size=(6, 5)))
    covariances = np.asarray([axes @ np.diag(s) @ axes.T for s in scales])
    found = _jointly_diagonalised(covariances, np.ones(6))
    moved = found @ covariances @ found.T
    deviations = np.sqrt(np.einsum("kii->ki", moved))
    np.testing.assert_allclose(
        moved / deviations[:, :, None] / deviations[:, None],
        np.tile(np.eye(5), (6, 1, 1)),
        atol=1e-6,
    )


def test_fewer_draws_than_dimensions_name_no_narrow_direction():
    """Some of their correlation's eigenvalues are 0 but for rounding, which says nothing about the
    target.
    """
    found = estimate_whitening(np.random.default_rng(8).normal(size=(50, 20)), num_independent=20)
    assert found.stretches.size == 0 or found.stretches.min() > 1
