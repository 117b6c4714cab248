"""Every unseen target: its log density, draws and moments fit together."""

import functools

import equinox as eqx
import jax
import numpy as np
import pytest

from capriole.kernels import value_and_grad
from capriole_lab.unseen import UNSEEN, AbstractUnseen, Kind, make_unseen

NUM = 40_000
Z_LIMIT = 5.0
DIMS = {
    "gauss-1e6": 40,
    "ar1": 100,
    "log-gamma": 20,
    "students": 10,
    "shoulders": 20,
    "funnel-mild": 51,
    "funnel-strong": 6,
    "two-levels": 33,
    "shrinkage": 11,
    "bananas": 6,
    "parabolas": 3,
    "ring": 2,
    "shell": 4,
    "two-modes": 5,
    "three-widths": 3,
    "narrow-wide": 2,
    "betas": 8,
    "dirichlet": 6,
    "warped": 6,
    "volatile-level": 30,
}
names = pytest.mark.parametrize("name", UNSEEN)


@functools.cache
def case(name):
    """A target, exact draws, and the score there."""
    target = make_unseen(name)

    @eqx.filter_jit
    def draw(target, key):
        draws = target.sample(key, NUM)
        return draws, *value_and_grad(target, draws)

    return target, *map(np.asarray, draw(target, jax.random.key(5)))


def z_scores(values, truth):
    return (values.mean(axis=1) - truth) / (values.std(axis=1) / np.sqrt(NUM))


def test_table_has_twenty_targets_of_all_kinds():
    assert {name: make_unseen(name).dim for name in UNSEEN} == DIMS
    assert len(UNSEEN) == 20
    assert {entry.kind for entry in UNSEEN.values()} == set(Kind)
    assert all(entry.name == name and entry.summary for name, entry in UNSEEN.items())


def test_an_unknown_name_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="did you mean 'bananas'"):
        make_unseen("banana")


@names
def test_score_and_draws_fit(name):
    """Stein's identities: E[d_i log p] = 0 and E[1 + x_j d_i log p] = (i = j)."""
    target, draws, value, score = case(name)
    assert isinstance(target, AbstractUnseen)
    assert np.isfinite(value).all()
    assert np.isfinite(score).all()
    assert np.abs(z_scores(score, 0.0)).max() < Z_LIMIT
    assert np.abs(z_scores(1 + draws * score, 0.0)).max() < Z_LIMIT
    shifted = np.roll(draws, 1, axis=0) * score
    assert np.abs(z_scores(shifted, 0.0)).max() < Z_LIMIT
    bounded = np.tanh(draws)
    assert np.abs(z_scores(1 - bounded**2 + bounded * score, 0.0)).max() < Z_LIMIT


@names
def test_moments_are_those_of_the_draws(name):
    target, draws, _, _ = case(name)
    mean, variance = target.mean, target.variance
    assert mean.shape == variance.shape == (target.dim,)
    known = np.isfinite(mean)
    assert known.any()
    assert np.abs(z_scores(draws - mean[:, None], 0.0)[known]).max() < Z_LIMIT
    known = np.isfinite(variance)
    assert np.abs(z_scores((draws - mean[:, None]) ** 2, variance)[known]).max() < Z_LIMIT


@names
def test_many_chains_are_one_chain_many_times(name):
    target, draws, value, score = case(name)
    single, single_score = eqx.filter_jit(value_and_grad)(target, draws[:, 3])
    np.testing.assert_allclose(single, value[3], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(single_score, score[:, 3], rtol=1e-7, atol=1e-7)


@names
def test_starts_know_nothing_of_the_target(name):
    target = make_unseen(name)
    starts = np.asarray(target.start(jax.random.key(1), 500))
    assert starts.shape == (target.dim, 500)
    assert abs(starts.std() / target.spread - 1) < 0.1
