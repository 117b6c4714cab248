"""Tails that are heavier than a proposal's: where a gradient-free rotation is held, and what fit
makes of them.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import capriole
from capriole.coordinates import Whitened, estimate_whitening
from capriole.fitting import Account, Addition, Candidate, Coordinates, Kind, evaluate
from capriole.fitting.proposers._pcn import acceptance_ratio, gradient_free, with_rotation
from capriole.kernels import CrankNicolson, Mixture, Rotation, Transition
from densities import Gaussian

KEY = jax.random.key(3)
WIDE = Gaussian(jnp.asarray([0.3, 5.0]))


def student(position):
    return -1.75 * jnp.sum(jnp.log1p(position**2 / 2.5), axis=0)


class Student(capriole.AbstractLogDensity):
    def __call__(self, position):
        return student(position)


def positions(target):
    rng = np.random.default_rng(0)
    if isinstance(target, Student):
        return rng.standard_t(2.5, size=(2, 20_000))
    return np.asarray(target.scale)[:, None] * rng.normal(size=(2, 20_000))


def candidate(target, **changes):
    """The Crank-Nicolson move, measured."""
    white = Whitened(target, estimate_whitening(positions(target)))
    kernel = Transition(white, CrankNicolson(jnp.asarray(1.5)))
    dispersed_starts = jax.random.normal(KEY, (2, 64))
    made = Candidate(
        kind=Kind.PCN,
        transition=kernel,
        metrics=evaluate(KEY, kernel, dispersed_starts),
        num_leapfrogs=1,
        account=Account(),
        **changes,
    )
    return made, dispersed_starts


def test_proposals_lighter_than_the_target_hold_chains_in_its_tails():
    free, _ = candidate(Student())
    assert acceptance_ratio(KEY, free.transition, positions(Student())) > 50


def test_a_place_where_the_log_density_is_no_number_holds_nobody():
    free, _ = candidate(WIDE)
    odd = np.concatenate([positions(WIDE), np.full((2, 20_000), np.nan)], axis=1)
    assert acceptance_ratio(KEY, free.transition, odd) < 4


def test_a_rotation_that_may_be_held_goes_with_one_that_may_not():
    free, dispersed_starts = candidate(Student(), coordinates=Coordinates.TRANSPORT)
    rotation = Transition(free.transition.target, Rotation(jnp.asarray(0.8), 3))
    account = Account()
    turned = replace(
        free, kind=Kind.ROTATION, transition=rotation, num_leapfrogs=3, account=account
    )
    mixed = with_rotation(KEY, free, turned, positions(Student()), dispersed_starts)
    assert mixed.name == "transported Crank-Nicolson and rotation"
    assert mixed.additions == (Addition.ROTATION,)
    assert isinstance(mixed.transition, Mixture)
    assert mixed.transition.transitions == (free.transition, turned.transition)
    alone, other = mixed.transition.probabilities
    assert 3 * other / (alone + 3 * other) == pytest.approx(0.25)
    assert mixed.account is free.account
    assert mixed.account.cost.num_gradients == mixed.metrics.spent_gradients + 8192
    assert account.cost.num_gradients == 0
    assert gradient_free([turned, mixed]).transition is free.transition
    assert gradient_free([turned, mixed]).name == free.name
    assert gradient_free([turned]) is None


def test_a_gradient_free_rotation_that_goes_everywhere_stays_alone():
    free, dispersed_starts = candidate(WIDE)
    assert acceptance_ratio(KEY, free.transition, positions(WIDE)) < 1.1
    kept = with_rotation(KEY, free, free, positions(WIDE), dispersed_starts)
    assert kept is free
    assert kept.account.cost.num_gradients == 8192


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_far_tails_are_visited_as_often_as_they_should_be():
    found = capriole.fit(student, np.zeros(1), seed=1, compare=False, train_steps=0, num_draws=2000)
    assert not found.verdict.failed
    far = np.abs(found.tree.posterior["x"].values.ravel())
    for share, least, most in ((0.01, 0.75, 1.3), (0.001, 0.4, 1.8)):
        beyond = np.mean(far > stats.t.isf(share / 2, 2.5)) / share
        assert least < beyond < most
