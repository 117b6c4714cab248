"""Draws beside what the warm-up saw: means and variances, and modes."""

import numpy as np
import pytest

from capriole.diagnostics import (
    ProblemKind,
    Severity,
    find_modes,
    moments,
    reference_check,
    sticky_tails,
    summarise_modes,
)

RNG = np.random.default_rng(1)


def warmup_of(draws, lp, *, agreed=True):
    """Moments and modes as a warm-up with these draws knows them."""
    return moments(draws) if agreed else None, summarise_modes(find_modes(draws, lp), draws)


def checked(draws, warmup, judges_moments=True):
    return reference_check(draws, *warmup, judges_moments=judges_moments)


def normal(num_chains=16, *, mean=0.0, sd=1.0):
    noise = RNG.normal(size=(num_chains, 500, 2))
    return mean + sd * noise, -np.sum(noise**2, axis=2) / 2


def test_draws_of_the_same_distribution_agree_with_the_warmup():
    found = checked(normal()[0], warmup_of(*normal()))
    assert found.problems == []
    assert abs(found.difference.z) < 4
    assert [mode.draws for mode in found.modes] == [1.0]


@pytest.mark.parametrize(
    ("mean", "sd", "of"),
    [(np.array([0.0, 0.2]), 1.0, "mean"), (0.0, np.array([1, 1.2]), "variance")],
)
def test_another_mean_or_variance_is_said_but_is_no_failure(mean, sd, of):
    found = checked(normal(mean=mean, sd=sd)[0], warmup_of(*normal()))
    (problem,) = found.problems
    assert (problem.kind, problem.severity) == (
        ProblemKind.DIFFERS_FROM_WARMUP,
        Severity.WARNING,
    )
    assert f"the {of} of x[1] is" in problem.message
    assert (found.difference.of, found.difference.dimension) == (of, 1)
    assert found.difference.z > 5.2


def test_a_warmup_that_missed_the_end_of_a_funnel_accuses_nobody():
    found = checked(normal(sd=2.0)[0], warmup_of(*normal()), judges_moments=False)
    assert found.problems == []
    assert found.difference.z > 5.2


def test_a_warmup_that_did_not_agree_has_no_moments():
    assert checked(normal(mean=3.0)[0], warmup_of(*normal(), agreed=False)).difference is None


def two_modes():
    parts = [normal(8), normal(8, mean=np.array([30.0, 0.0]))]
    draws, lp = (np.concatenate(each) for each in zip(*parts, strict=True))
    return warmup_of(draws, lp, agreed=False)


def test_a_mode_without_any_draw_is_an_error_that_says_where():
    found = checked(normal()[0], two_modes())
    missed = [p for p in found.problems if p.kind is ProblemKind.MODE_MISSED]
    assert all(problem.is_fatal for problem in missed)
    assert ["(30" in problem.message for problem in missed] == [True]
    assert sorted(mode.draws for mode in found.modes) == [0.0, 1.0]


def test_a_mode_of_next_to_no_mass_may_be_missed():
    """Half a thousandth of the height, with as many chains."""
    parts = [normal(8), normal(8, mean=np.array([30.0, 0.0]))]
    draws, lp = (
        np.concatenate([parts[0][0], parts[1][0]]),
        np.concatenate([parts[0][1], parts[1][1] - 7.6]),
    )
    jumping = normal(sd=0.9)[0]
    jumping[0, 0] = [30.0, 0.0]
    assert checked(jumping, warmup_of(draws, lp, agreed=False)).problems == []
    assert checked(normal()[0], warmup_of(draws, lp, agreed=False)).problems == [], (
        "nor need chains go there"
    )


def test_chains_that_stay_in_their_modes_are_an_error():
    draws = np.concatenate([normal(8)[0], normal(8, mean=np.array([30.0, 0.0]))[0]])
    found = checked(draws, two_modes())
    (problem,) = found.problems
    assert (problem.kind, problem.severity) == (ProblemKind.MODE_NEVER_LEFT, Severity.FATAL)
    assert "no chain ever left the mode" in problem.message
    draws[:, ::2, 0] = 30 - draws[:, ::2, 0]
    assert checked(draws, two_modes()).problems == []


def test_tails_that_hold_chains_are_said():
    draws = normal()[0]
    rates = np.full((16, 500), 0.8)
    assert sticky_tails(draws, rates) == []
    rates[:, 1:][draws[:, :-1, 1] > 2] = 0.1
    (said,) = sticky_tails(draws, rates)
    assert "where x[1] is above 2." in said.message
    assert "accepted at a rate of 0.1, elsewhere at 0.78" in said.message
    assert (said.kind, said.is_fatal) == (ProblemKind.TAIL_STICKY, False)
    assert sticky_tails(draws[:, :150], rates[:, :150]) == [], "23 draws of an end say nothing"
