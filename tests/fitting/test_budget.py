"""What a fit spends: the ledger holds every gradient, also those of what was given up."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole import AbstractLogDensity
from capriole.fitting import Account, Budget, Cost, Kind, _api, search
from capriole.fitting.proposers import LongRuns, Networks, Rotations, _networks
from stored import candidate

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARTS = ("preparation", "final_warmup", "final")


class Watched(AbstractLogDensity):
    """A density that counts the positions at which it is evaluated."""

    count: list = eqx.field(static=True)
    energy: object = eqx.field(static=True)

    def __call__(self, position):
        jax.debug.callback(lambda size: self.count.append(int(size)), position[0].size)
        return -self.energy(position)


def gaussian(x):
    return jnp.sum(x**2, axis=0) / 2


def with_tails(x):
    return jnp.sum(jnp.sqrt(1 + x**2), axis=0)


def funnel(x):
    return (
        x[0] ** 2 / 18 + jnp.sum(x[1:] ** 2, axis=0) * jnp.exp(-x[0]) / 2 + x[0] * (len(x) - 1) / 2
    )


def told_and_counted(energy, dim=2, **options):
    """The verdict of a fit, and the gradients that it tells of and those that were computed."""
    seen = []
    options = {"seed": 0, "num_chains": 8, "num_draws": 100, "train_steps": 0} | options
    options["on_failure"] = "ignore"
    verdict = capriole.fit(Watched(seen, energy), np.zeros(dim), compare=False, **options).verdict
    jax.effects_barrier()
    told = sum(verdict.settings[part]["num_gradients"] for part in PARTS[:2])
    return verdict, told + verdict.final.num_gradients, sum(int(size) for size in seen)


def test_the_gradients_of_a_whole_fit_are_those_that_were_computed():
    verdict, told, computed = told_and_counted(gaussian)
    assert 0 <= computed - told < 0.01 * told, "but for those of the first checks and of starts"
    names = ["warm-up", "rotations", "warm-up of the draws", "draws"]
    assert [stage.name for stage in verdict.stages] == names
    assert sum(stage.cost.num_gradients for stage in verdict.stages) == told
    rotations = verdict.stages[1]
    assert 0.2 < rotations.cost.num_gradients / rotations.expected.num_gradients < 5


@pytest.mark.slow
def test_so_they_are_where_a_transport_map_and_a_marginal_are_made():
    verdict, told, computed = told_and_counted(funnel, 3)
    assert verdict.settings["warmup"]["marginals"]
    assert abs(computed - told) < 0.02 * told


@pytest.mark.slow
def test_networks_are_trained_from_the_rotation_measured_and_paid_for(monkeypatch):
    """Where rotations suffice they are not; here nothing suffices."""
    limits = replace(_networks.THRESHOLDS, no_networks_rate=1e9, no_networks_rate_transported=1e9)
    monkeypatch.setattr(_networks, "THRESHOLDS", limits)
    proposers = (Rotations(), Networks(), LongRuns())
    monkeypatch.setattr(_api, "search", partial(search, proposers=proposers))
    verdict, told, computed = told_and_counted(with_tails, train_steps=40)
    network, settings = verdict.row("small network"), verdict.settings
    assert network is not None
    assert network.worst > 0
    trained = 40 * 200 * network.num_leapfrogs
    assert network.fixed_gradients > settings["warmup"]["num_gradients"] + trained
    assert settings["training"]["num_gradients"] > trained
    assert abs(computed - told) < 0.02 * told, "but for those of the first checks and of starts"


def test_what_a_candidate_that_is_given_up_cost_counts():
    with Budget() as budget:
        budget.common.charge(100)
        kept, given_up = budget.open(), budget.open()
        kept.charge(30)
        given_up.charge(7)
        before = budget.total.num_gradients
        budget.absorb(given_up)
        budget.absorb(given_up)
    assert before == budget.total.num_gradients == 137
    assert budget.common.cost.num_gradients == 107
    assert (kept.cost.num_gradients, given_up.cost.num_gradients) == (30, 0), "counted once"


def test_a_stage_has_what_was_spent_in_it_whoever_was_charged():
    with Budget() as budget:
        budget.common.charge(100)
        with budget.stage("rotations", Cost(40)):
            account = budget.open()
            account.charge(30)
            budget.absorb(account)
        with budget.stage("networks", Cost(10)):
            pass
        with budget.stage("measuring NUTS"):
            budget.comparison = Account()
            budget.comparison.add(Cost(7, 0.5, 0.25))
    first, nuts = budget.stages
    assert (first.name, first.cost.num_gradients, first.expected) == ("rotations", 30, Cost(40))
    assert (nuts.name, nuts.cost.num_gradients, nuts.expected) == ("measuring NUTS", 7, Cost())
    assert budget.total.num_gradients == 130, "comparing is no part of it"


def test_a_strangers_account_is_not_absorbed():
    with Budget() as budget:
        other = Budget().open()
        other.charge(5)
        budget.absorb(other)
    assert budget.total.num_gradients == 0


def test_a_row_pays_for_the_common_costs_its_own_and_those_it_shares():
    with Budget() as budget:
        own, shared = budget.open(), budget.open()
        own.add(Cost(10, 2.0, 1.0))
        shared.add(Cost(30, 5.0, 0.0))
        made = candidate(Kind.PCN, account=own, shared=(shared,))
        row = made.report(Cost(100, 20.0, 10.0))
    assert row.fixed_gradients == 140
    assert row.fixed_seconds == 38


def test_seconds_of_a_block_that_raises_are_kept():
    with Budget() as budget:
        account = budget.open()
        with pytest.raises(KeyboardInterrupt), account.timed():
            raise KeyboardInterrupt
    assert account.cost.seconds > 0
    assert account.cost.num_gradients == 0
    assert budget.total.seconds >= account.cost.seconds
