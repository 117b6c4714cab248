"""NUTS's own draws: when they are made longer, and what is said of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from capriole.diagnostics import FIT_REMEDIES, LEVELS, Marginal, ProblemKind, fatal
from capriole.fitting import Cost, NutsSampler, _api, _final_run, run_until_mixed
from capriole.fitting._final_run import Final
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

    def run(key, target, starts, *, num_draws):
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
