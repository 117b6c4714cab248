"""Draws of `capriole.fit` beside what its pilot saw: means and variances, and modes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.diagnostics import find_modes
from capriole.fitting import Verdict, _search
from capriole.fitting import _api as _fit
from capriole.fitting._reference_check import facts, held_far_out, seen
from capriole.fitting._verdict import grave

pytestmark = pytest.mark.usefixtures("standard_promotion")

RNG = np.random.default_rng(1)


def pilot_of(draws, lp, *, agreed=True):
    return facts(
        SimpleNamespace(draws=draws, modes=find_modes(draws, lp), agreed=agreed, profile=None)
    )


def normal(num_chains=16, *, mean=0.0, sd=1.0):
    noise = RNG.normal(size=(num_chains, 500, 2))
    return mean + sd * noise, -np.sum(noise**2, axis=2) / 2


def test_draws_of_the_same_distribution_agree_with_the_pilot():
    found = seen(normal()[0], pilot_of(*normal()))
    assert found.problems == []
    assert abs(found.against_pilot["z"]) < 4
    assert [mode["draws"] for mode in found.modes] == [1.0]


@pytest.mark.parametrize(
    ("mean", "sd", "of"),
    [(np.array([0.0, 0.2]), 1.0, "mean"), (0.0, np.array([1, 1.2]), "variance")],
)
def test_another_mean_or_variance_is_said_but_is_no_failure(mean, sd, of):
    found = seen(normal(mean=mean, sd=sd)[0], pilot_of(*normal()))
    (problem,) = found.problems
    assert f"the {of} of dimension 1 is" in problem
    assert not grave(found.problems)
    assert found.against_pilot["z"] > 5.2


def test_a_pilot_that_missed_the_end_of_a_funnel_accuses_nobody():
    known = pilot_of(*normal()) | {"marginals": [{"dimension": 0}]}
    found = seen(normal(sd=2.0)[0], known)
    assert found.problems == []
    assert found.against_pilot["z"] > 5.2


def test_a_pilot_that_did_not_agree_has_no_moments():
    assert seen(normal(mean=3.0)[0], pilot_of(*normal(), agreed=False)).against_pilot is None


def two_modes():
    parts = [normal(8), normal(8, mean=np.array([30.0, 0.0]))]
    draws, lp = (np.concatenate(each) for each in zip(*parts, strict=True))
    return pilot_of(draws, lp, agreed=False)


def test_a_mode_without_any_draw_is_an_error_that_says_where():
    found = seen(normal()[0], two_modes())
    assert any(
        text.startswith("error: none of the draws is around (") and "(30" in text
        for text in found.problems
    )
    assert sorted(mode["draws"] for mode in found.modes) == [0.0, 1.0]


def test_a_mode_of_next_to_no_mass_may_be_missed():
    """Half a thousandth of the height, with as many chains."""
    parts = [normal(8), normal(8, mean=np.array([30.0, 0.0]))]
    draws, lp = (
        np.concatenate([parts[0][0], parts[1][0]]),
        np.concatenate([parts[0][1], parts[1][1] - 7.6]),
    )
    jumping = normal(sd=0.9)[0]
    jumping[0, 0] = [30.0, 0.0]
    assert seen(jumping, pilot_of(draws, lp, agreed=False)).problems == []
    assert seen(normal()[0], pilot_of(draws, lp, agreed=False)).problems == [], (
        "nor need chains go there"
    )


def test_chains_that_stay_in_their_modes_are_an_error():
    draws = np.concatenate([normal(8)[0], normal(8, mean=np.array([30.0, 0.0]))[0]])
    found = seen(draws, two_modes())
    (problem,) = found.problems
    assert problem.startswith("error: no chain ever left the mode")
    draws[:, ::2, 0] = 30 - draws[:, ::2, 0]
    assert seen(draws, two_modes()).problems == []


def test_the_verdict_counts_modes_and_fails_where_one_is_missed(monkeypatch):
    """Two modes 40 deviations apart; the final draws are made to be of one, as a sampler's that
    lost it.
    """

    def logdensity(x):
        return jnp.logaddexp(-jnp.sum((x - 20) ** 2) / 2, -jnp.sum((x + 20) ** 2) / 2)

    real = _fit.final_run

    def lost(*args, **kwargs):
        final = real(*args, **kwargs)
        record = final.draws.record
        return final._replace(
            draws=final.draws._replace(record=record._replace(position=np.abs(record.position)))
        )

    monkeypatch.setattr(_fit, "final_run", lost)
    options = {"seed": 2, "num_chains": 8, "num_draws": 100, "train_steps": 0, "compare": False}
    verdict = capriole.fit(logdensity, np.zeros(2), spread=20.0, **options).verdict
    assert verdict.failed
    assert "error: none of the draws is around (-20" in verdict.recommendation()
    assert [round(mode["share"], 1) for mode in verdict.settings["modes"]] == [0.5, 0.5]
    assert "2 modes with " in verdict.health()
    assert verdict.as_dict()["settings"]["modes"][0]["draws"] in (0.0, 1.0)


def test_tails_that_hold_chains_are_said():
    draws = normal()[0]
    rates = np.full((16, 500), 0.8)
    assert held_far_out(draws, rates) == []
    rates[:, 1:][draws[:, :-1, 1] > 2] = 0.1
    (said,) = held_far_out(draws, rates)
    assert "where dimension 1 is above 2." in said
    assert "accepted at a rate of 0.1, elsewhere at 0.78" in said
    assert not grave([said])
    assert held_far_out(draws[:, :300], rates[:, :300]) == [], "24 draws of an end say nothing"


@pytest.mark.parametrize("field", ["against_pilot", "modes", "final"])
@pytest.mark.parametrize("value", [7, [3], {"z": "x", "rhat_max": []}, [{"draws": None}] * 3])
def test_whatever_a_file_says_of_health_can_be_shown(field, value):
    assert isinstance(Verdict((), "rotation", (), False, {field: value}).table(), str)


def test_nuts_that_raises_costs_nothing_that_was_found(monkeypatch):
    """It goes further out than any kernel of ours, and a log density may raise there."""

    def raising(*args, **kwargs):
        raise FloatingPointError("too far out\nand more")

    monkeypatch.setattr(_search, "nuts_row", raising)
    monkeypatch.setattr(_fit, "nuts_tree", raising)
    options = {"seed": 3, "num_chains": 4, "num_draws": 50, "train_steps": 0}
    found = capriole.fit(lambda x: -jnp.sum(x**2) / 2, np.zeros(2), **options)
    assert found.tree["posterior"].sizes["draw"] == 50
    assert "NUTS was not compared" in found.verdict.recommendation()
    assert (
        "Note: NUTS could not be measured: FloatingPointError: too far out."
        in found.verdict.table()
    )
    drawn = _fit._Drawn(found.tree, ["error: something"], {}, _search.Spent(0, 0.0, 0.0))
    after, same = _fit._compared(
        jax.random.split(jax.random.key(0)),
        None,
        _search_result(found),
        drawn,
        50,
        SimpleNamespace(judged=False),
        None,
    )
    assert same is drawn
    assert after.notes == ("NUTS could not draw instead: FloatingPointError: too far out",)


def _search_result(found):
    spent = _search.Spent(0, 0.0, 0.0)
    starts = jnp.zeros((2, 4))
    return _search.Found(
        "rotation", "rotation", found.transition, (), starts, starts, (), spent, spent, True, {}
    )
