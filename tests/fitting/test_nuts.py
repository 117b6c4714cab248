"""NUTS's own draws: when they are made longer, and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import capriole
from capriole.diagnostics import FIT_REMEDIES, LEVELS, Marginal, ProblemKind, fatal
from capriole.fitting import Cost, NutsSampler, _api, _final_run, run_until_mixed
from capriole.fitting._final_run import Final
from capriole.fitting.proposers import _nuts as _proposer
from capriole.sampling import run_nuts
from stored import PLANE, peer, stored_found, warmup_facts

DRAWS = np.random.default_rng(0).normal(size=(8, 1000, 2))


def problems(position=DRAWS, thin=1, divergences=0, **warmup):
    run = peer(position, divergences=divergences)
    final = Final(position, 1.0, [], thin, Cost(), 0.0, True, peer=run)
    return _api._nuts_problems(final, run, PLANE, warmup_facts(**warmup))


def test_draws_without_trouble_have_no_problems():
    assert problems() == []


@pytest.mark.parametrize("name", ["num_stuck", "num_missed"])
def test_a_place_that_the_warmup_left_makes_nuts_doubtful(name):
    (said,) = problems(**{name: 2})
    assert said.is_fatal
    assert said.kind is ProblemKind.WARMUP_UNRELIABLE
    assert said.message.startswith("chains of the warm-up ")
    assert "may all have left a place that holds mass" in said.message


def test_nuts_is_held_to_the_rule_on_chains_that_stand_still():
    def standing(still, thin):
        position = DRAWS.copy()
        position[3, 100 : 100 + still] = position[3, 100]
        return problems(position, thin)

    assert standing(190, 1) == []
    words = (
        f"1 of 8 chains rejected 200 proposals in a row, at most 229 of 999: {FIT_REMEDIES.stuck}"
    )
    assert [str(problem) for problem in fatal(standing(230, 1))] == [words]
    (said,) = standing(60, 4)
    assert said.kind is ProblemKind.STUCK
    assert not said.is_fatal, "240 of 4,000 steps are no fifth"


def test_divergences_of_nuts_are_said():
    assert problems(DRAWS[:, :500], 4, 16) == []  # one in a thousand
    (said,) = problems(DRAWS[:, :500], 4, 17)
    assert said.message.startswith("17 of 16000 of NUTS's transitions diverged")
    assert not said.is_fatal


@pytest.mark.parametrize(
    "early", [lambda noise: np.cumsum(noise, axis=1), lambda noise: np.minimum(noise, 1.2)]
)
def test_nuts_is_run_longer_while_its_chains_disagree_or_miss_an_end(monkeypatch, early):
    """Chains of a random walk at first, or cut off; draws of a normal in the third run; runs given
    up are paid for.
    """
    lengths, marginals = [], (Marginal(1, tuple(norm.ppf(LEVELS).tolist())),)

    def run(key, target, starts, *, num_draws, least_acceptance):
        lengths.append(num_draws)
        noise = np.random.default_rng(len(lengths)).normal(size=(8, num_draws, 2))
        position = noise if len(lengths) == 3 else early(noise)
        return peer(position, num_gradients=10 * num_draws)

    monkeypatch.setattr(_final_run, "draw_nuts", run)
    sampler = NutsSampler(jax.random.key(0), PLANE, jnp.zeros((2, 8)), 100, marginals)
    final = run_until_mixed(sampler)
    assert lengths == [100, 400, 1600]
    assert final.thin == 16
    assert final.position.shape == (8, 100, 2)
    assert final.spent.num_gradients == 3 * 100 + 10 * (100 + 400)
    drawn = _api._of_nuts(final, stored_found(PLANE, np.ones(2)), PLANE)
    assert drawn.run.num_gradients == drawn.tree["posterior"].attrs["num_gradients"] == 16_000
    assert drawn.tree["posterior"].attrs["warmup_gradients"] == final.spent.num_gradients


def test_a_pass_that_would_not_fit_into_memory_is_not_begun():
    sampler = NutsSampler(jax.random.key(0), PLANE, jnp.zeros((2, 1000)), 50_000, ())
    assert sampler.is_last


def with_divergent_end(num_draws, *, num_chains=8, share=0.5, seed=0):
    """Draws of NUTS; a share of the steps from below -2.3 in dimension 1 diverge."""
    rng = np.random.default_rng(seed)
    position = rng.normal(size=(num_chains, num_draws, 2))
    acceptance, diverging = np.full(position.shape[:2], 0.8), np.zeros(position.shape[:2], bool)
    starts = position[:, :-1, 1] < -2.3
    diverging[:, 1:] = starts & (rng.random(starts.shape) < share)
    acceptance[:, 1:][starts] = 0.1 if share else 0.8
    num = int(diverging.sum())
    return peer(position, acceptance=acceptance, diverging=diverging, divergences=num)


def test_divergences_of_nuts_that_sit_in_one_end_fail_it(monkeypatch):
    """It is run anew, longer; where that is of no use, its draws are unusable."""
    lengths = []

    def run(key, target, starts, *, num_draws, least_acceptance):
        lengths.append(num_draws)
        return with_divergent_end(num_draws)

    monkeypatch.setattr(_final_run, "draw_nuts", run)
    sampler = NutsSampler(jax.random.key(0), PLANE, jnp.zeros((2, 8)), 1000, ())
    final = run_until_mixed(sampler)
    assert lengths == [1000, 4000]
    assert final.missed == [], "a failure of one of four steps between two draws is a mere delay"
    monkeypatch.setattr(_final_run, "RUN_MULTIPLIERS", (1,))
    final = run_until_mixed(NutsSampler(jax.random.key(0), PLANE, jnp.zeros((2, 8)), 1000, ()))
    drawn = _api._of_nuts(final, stored_found(PLANE, np.ones(2)), PLANE)
    (problem,) = fatal(drawn.problems)
    assert problem.kind is ProblemKind.TAIL_MISSED
    assert "where x[1] is below -2." in problem.message


@pytest.mark.parametrize(
    ("divergences", "used", "last"),
    [
        ((40,), [0.8], 0.8),
        ((41, 3), [0.8, 0.95], 0.95),
        ((900, 300, 100), [0.8, 0.95, 0.99], 0.99),
    ],
)
def test_nuts_gets_smaller_steps_where_it_diverges(monkeypatch, divergences, used, last):
    """Five in a thousand may diverge; runs that are given up are paid for."""
    asked, counts = [], iter(divergences)

    def run(key, target, starts, *, num_draws, num_warmup, dense, target_acceptance):
        asked.append(target_acceptance)
        settings = {"target_acceptance": target_acceptance}
        return peer(DRAWS, divergences=next(counts), settings=settings)

    monkeypatch.setattr(_proposer, "run_nuts", run)
    starts = jnp.zeros((2, 8))
    drawn = _proposer.draw_nuts(jax.random.key(0), PLANE, starts, num_draws=1000)
    assert asked == used
    assert drawn.settings["target_acceptance"] == last
    assert drawn.warmup_gradients == 100 * len(used) + 80_000 * (len(used) - 1)
    assert drawn.num_gradients == 80_000
    counts, asked[:] = iter(divergences[-1:]), []
    _proposer.draw_nuts(jax.random.key(0), PLANE, starts, num_draws=1000, least_acceptance=last)
    assert asked == [last], "a longer pass goes on with it"


def test_the_places_of_nuts_divergences_are_kept():
    """A density that falls off a cliff, where steps diverge."""

    def cliff(x):
        return -jnp.sum(x**2, axis=0) / 2 - 1e4 * jnp.maximum(x[0] - 1.5, 0)

    draws = run_nuts(
        jax.random.key(0), capriole.PerChain(cliff), jnp.zeros((1, 4)), num_draws=200, num_warmup=50
    )
    assert draws.acceptance.shape == draws.diverging.shape == (4, 200)
    assert draws.diverging.sum() == draws.divergences > 0
    np.testing.assert_allclose(draws.acceptance.mean(), draws.acceptance_rate, rtol=1e-5)
