"""Rotations as candidates: the best angle, whitening, the ladder of lengths."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import Whitened, Whitening, identity
from capriole.fitting import (
    LADDER,
    Account,
    Budget,
    Coordinates,
    Kind,
    LongerRotations,
    with_small_steps,
)
from capriole.fitting.proposers import _rotations
from capriole.fitting.proposers._rotations import _chosen_length, rotations, smoothed_best
from capriole.kernels import Rotation, Transition
from densities import Gaussian
from stored import PLANE, candidate, context, exploration, metrics

pytestmark = pytest.mark.usefixtures("standard_promotion")

DTYPE = jnp.zeros(()).dtype


def test_rotations_of_a_white_gaussian_turn_by_a_right_angle():
    target = Whitened(Gaussian(jnp.ones(4)), identity(4, DTYPE))
    start = jax.random.normal(jax.random.key(1), (4, 32))
    (found,) = rotations(jax.random.key(0), target, start, Budget())
    assert found.kind is Kind.ROTATION, "others are tried only where they may gain something"
    assert found.num_leapfrogs == 1
    assert 1.1 < float(found.transition.dynamics.angle) < 2
    assert found.worst > 0.6


def test_a_sharper_whitening_is_kept_where_it_is_better():
    """Scales off by 30 % against exact ones."""
    none = jnp.zeros((3, 0)), jnp.zeros(0)
    rough = Whitening(jnp.zeros(3), jnp.array([0.5, 1.0, 1.8]), *none)
    position = rough.inverse(jax.random.normal(jax.random.key(1), (3, 32), DTYPE))
    found = rotations(
        jax.random.key(0),
        Whitened(Gaussian(jnp.ones(3)), rough),
        position,
        Budget(),
        fisher=identity(3, DTYPE),
        refinements=0,
    )
    np.testing.assert_array_equal(found[0].transition.target.whitening.scale, np.ones(3))
    assert found[0].worst > 0.6


def test_the_ladder_is_climbed_while_all_are_slow(monkeypatch):
    limits = replace(_rotations.THRESHOLDS, hard_rate=10.0, good_rate=10.0)
    monkeypatch.setattr(_rotations, "THRESHOLDS", limits)
    tried = []
    grid = _rotations._best_angle

    def watched(key, target, position, build, num_leapfrogs, angles, account):
        tried.append(num_leapfrogs)
        trial = grid(key, target, position, build, num_leapfrogs, angles, account)
        return trial._replace(score=0.01)

    monkeypatch.setattr(_rotations, "_best_angle", watched)
    target = Whitened(PLANE, identity(2, DTYPE))
    start = jax.random.normal(jax.random.key(1), (2, 16))
    with Budget() as budget:
        found = rotations(jax.random.key(0), target, start, budget, refinements=0)
    assert tried == [*LADDER[:-1], 1], "the last is the Crank-Nicolson move"
    assert [c.kind for c in found] == [Kind.ROTATION, Kind.PCN]
    assert found[0].num_leapfrogs == LADDER[-2], "of similar slow ones the longest"
    accounts = {id(c.account): c.account.cost.num_gradients for c in found}
    assert budget.total.num_gradients == sum(accounts.values())


@pytest.mark.parametrize(("longer", "kept"), [(0.03, 9), (0.005, 2)])
def test_longer_rotations_take_the_place_of_a_slow_one_if_they_are_better(
    monkeypatch, longer, kept
):
    asked = []
    kernel = Transition(Whitened(PLANE, identity(2, DTYPE)), Rotation(jnp.asarray(1.0), 2))

    def stub(key, target, position, budget, *, lengths, **options):
        asked.append(tuple(lengths))
        (account := budget.open()).charge(100)
        return [candidate(worst=0.5, transition=kernel, num_leapfrogs=9, account=account)]

    def in_a_long_run(key, made, positions, marginals, **options):
        return replace(made, metrics=metrics(longer))

    monkeypatch.setattr(_rotations, "rotations", stub)
    monkeypatch.setattr(_rotations, "revalidated", in_a_long_run)
    base = candidate(worst=0.01, transition=kernel, num_leapfrogs=2)
    freed = with_small_steps(base, 0.3, Account())
    other = candidate(Kind.PCN, 0.02)
    after = LongerRotations().propose(context([base, freed, other]))
    assert asked == [(6, 9, 14)]
    lengths = [c.num_leapfrogs for c in after.candidates]
    assert lengths == ([9, 1] if kept == 9 else [2, 2, 1]), "what was made of the old one goes, too"
    assert after.candidates[-1] is other
    assert after.budget.total.num_gradients == 100, "what lost is paid for"


@pytest.mark.parametrize(
    ("changes", "rhat_max"),
    [
        ({"worst": 0.5}, 1.0),
        ({"worst": 0.01, "coordinates": Coordinates.TRANSPORT}, 1.0),
        ({"worst": 0.01}, 2.0),  # chains of the warm-up disagreed
    ],
    ids=str,
)
def test_longer_rotations_are_not_tried_where_they_are_not_needed(monkeypatch, changes, rhat_max):
    monkeypatch.setattr(_rotations, "rotations", None)
    before = context([candidate(**changes)], warmup=exploration(rhat_max=rhat_max))
    assert LongerRotations().propose(before) is before


@pytest.mark.parametrize(
    ("scores", "length"),
    [
        ({1: 0.2, 2: 0.5, 3: 0.45}, 2),  # the best
        ({1: 0.01, 2: 0.05, 3: 0.04, 4: 0.031, 6: 0.02}, 4),  # slow: the longest of similar ones
        ({1: 0.0, 2: 0.0}, 2),
    ],
)
def test_the_length_that_is_chosen(scores, length):
    assert _chosen_length(scores) == length


def test_the_best_angle_is_read_off_smooth_curves():
    angles = np.geomspace(0.8, 1.6, 8)
    curves = np.stack(
        [np.exp(-((np.log(angles / 1.4)) ** 2)), np.exp(-((np.log(angles / 1.0)) ** 2))], axis=1
    )
    noise = np.exp(0.05 * np.random.default_rng(0).standard_normal(curves.shape))
    angle, value = smoothed_best(angles, curves * noise)
    assert angle == pytest.approx(np.sqrt(1.4), rel=0.06)
    assert value == pytest.approx(np.exp(-(np.log(1.4) ** 2) / 4), rel=0.06)
    assert smoothed_best(angles[:2], np.array([[1.0, 3.0], [2.0, 2.0]])) == (angles[1], 2.0)
