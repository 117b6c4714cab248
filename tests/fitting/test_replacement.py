"""Who draws instead of a sampler that failed in its final run, and what that is said to cost.

The search is stored, and NUTS's draws are independent ones.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import capriole
from capriole.coordinates import Whitened, identity
from capriole.diagnostics import (
    LEVELS,
    Marginal,
    ModeSummary,
    Problem,
    ProblemKind,
    Severity,
    not_mixed,
    z_scores,
)
from capriole.fitting import Kind, NoteKind, _api, _search
from capriole.fitting.proposers import _nuts
from capriole.fitting.proposers._mode_jumps import Gaussians, made
from capriole.kernels import Transition
from stored import (
    BY_NUTS,
    GAUSSIAN,
    SCALE,
    SEARCH_COST,
    Stored,
    quick_nuts,
    settings,
    warmup_facts,
)

pytestmark = pytest.mark.usefixtures("standard_promotion")

SEPARATION = not_mixed(1.3, 1.01)
OPTIONS = {"seed": 3, "num_chains": 8, "num_draws": 300, "train_steps": 0}
OPTIONS |= {"on_failure": "ignore"}


def fit(found=None, target=GAUSSIAN, init=(0.0, 0.0, 0.0), scale=SCALE, **options):
    keeper = Stored(scale, **(found or {}))
    return capriole.fit(target, np.asarray(init), resume=keeper, **OPTIONS | options)


def assert_normal(fitted):
    draws = fitted.tree["posterior"]["x"].values
    assert draws.shape == (8, 300, 3)
    assert np.abs(z_scores(draws, np.zeros(3), SCALE**2)).max() < 5


def spent(verdict, *parts):
    return sum(verdict.settings[part]["num_gradients"] for part in parts)


def test_draws_of_a_kernel_that_passes_are_its_own(monkeypatch):
    quick_nuts(monkeypatch)
    found = fit()
    assert_normal(found)
    assert found.verdict.chosen == "rotation"
    assert not found.verdict.failed
    assert found.verdict.nuts is not None
    assert found.verdict.settings["comparison"]["decided"] is False
    assert spent(found.verdict, "preparation") == SEARCH_COST.num_gradients


def test_nuts_draws_where_the_kernel_fails_in_its_final_run(monkeypatch):
    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [SEPARATION])
    given_up = fit()
    verdict = given_up.verdict
    assert verdict.chosen == "NUTS"
    assert given_up.transition is None
    assert not verdict.failed
    assert verdict.notes[-1].kind is NoteKind.NUTS_DREW_INSTEAD
    words = "the rotation failed in its final run and NUTS drew instead: R-hat is 1.300"
    assert words in verdict.notes[-1].text
    assert verdict.recommendation.startswith(f"The draws are NUTS's: {words}")
    assert_normal(given_up)
    max_separation = fit(compare=False)
    assert max_separation.verdict.failed
    assert max_separation.transition is not None
    paid = (
        spent(max_separation.verdict, "preparation", "final_warmup")
        + max_separation.verdict.final.num_gradients
    )
    assert spent(verdict, "preparation") == paid, "the run that was given up is paid for, too"


@pytest.mark.parametrize("found", [{"warmup": warmup_facts(max_separation=40.0, num_modes=2)}, {}])
def test_the_kernel_keeps_its_draws_where_nuts_is_no_choice_or_fails_too(monkeypatch, found):
    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [SEPARATION])
    monkeypatch.setattr(_api, "_nuts_problems", lambda *args: [SEPARATION])
    kept = fit(found)
    assert kept.verdict.chosen == "rotation"
    assert kept.verdict.failed
    assert kept.transition is not None
    assert kept.verdict.notes == ()


@pytest.mark.parametrize("kernel_fails", [False, True])
def test_the_best_candidate_draws_where_nuts_was_chosen_and_fails(monkeypatch, kernel_fails):
    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_nuts_problems", lambda *args: [SEPARATION])
    if kernel_fails:
        problem = Problem(ProblemKind.STUCK, Severity.FATAL, "this one as well")
        monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [problem])
    found = fit(BY_NUTS)
    verdict = found.verdict
    assert verdict.chosen == "rotation"
    assert verdict.failed == kernel_fails
    assert found.transition is not None
    words = "NUTS failed in its final run and the rotation drew instead: R-hat is 1.300"
    assert words in verdict.notes[-1].text
    assert verdict.notes[-1].kind is NoteKind.NUTS_FAILED
    if not kernel_fails:
        assert verdict.recommendation.startswith(f"The draws are those of the rotation: {words}")
        assert_normal(found)
    given_up = 100 + 10 * 8 * 300
    assert spent(verdict, "preparation") == SEARCH_COST.num_gradients + given_up


def test_draws_of_nuts_that_failed_are_kept_where_no_kernel_stands_by(monkeypatch):
    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_nuts_problems", lambda *args: [SEPARATION])

    class WithoutKernel(Stored):
        def search(self, target, find):
            return super().search(target, find)._replace(kernel=None)

    keeper = WithoutKernel(**BY_NUTS)
    found = capriole.fit(GAUSSIAN, np.zeros(3), resume=keeper, **OPTIONS)
    assert (found.verdict.chosen, found.verdict.failed) == ("NUTS", True)
    assert found.transition is None


@pytest.mark.parametrize("missed", [False, True])
def test_draws_that_miss_an_end_of_a_marginal_fail(missed):
    """A marginal with an end further out than the density has it is what the chains miss."""
    quantiles = norm.ppf(LEVELS).tolist()
    if missed:
        quantiles[LEVELS.index(0.03)] = -8.5
    marginal = Marginal(0, tuple(quantiles))
    found = fit({"warmup": warmup_facts(marginals=(marginal,))}, num_draws=1000, compare=False)
    assert found.verdict.failed == missed
    assert ("along a funnel" in found.verdict.recommendation) == missed
    assert found.verdict.settings["thin"] == (16 if missed else 1)


@pytest.mark.parametrize("lost", [False, True])
def test_the_verdict_counts_modes_and_fails_where_one_is_missed(monkeypatch, lost):
    """Two modes 40 deviations apart; the final draws are made to be of one, as a sampler's that
    lost it.
    """

    def logdensity(x):
        return jnp.logaddexp(-jnp.sum((x - 20) ** 2) / 2, -jnp.sum((x + 20) ** 2) / 2)

    class Jumping(Stored):
        def search(self, target, find):
            modes = Gaussians(
                np.full((2, 2), 20.0) * [[1], [-1]], np.stack([np.eye(2)] * 2), np.zeros(2)
            )
            white = Whitened(target, identity(2, jnp.zeros(()).dtype))
            self.changes["kernel"] = Transition(white, made(modes, 1.4, np.dtype(float)))
            return super().search(target, find)

    real = _api.run_until_mixed

    def of_one_mode(sampler, num_effective):
        final = real(sampler, num_effective)
        record = final.draws.record
        record = record._replace(position=np.abs(record.position))
        draws = final.draws._replace(record=record)
        return final._replace(position=record.position, draws=draws)

    if lost:
        monkeypatch.setattr(_api, "run_until_mixed", of_one_mode)
    modes = tuple(ModeSummary((c, c), (1.0, 1.0), 0.5) for c in (20.0, -20.0))
    keeper = Jumping(
        np.full(2, 20.0),
        warmup=warmup_facts(modes=modes, max_separation=40.0, num_modes=2, is_multimodal=True),
    )
    options = OPTIONS | {"num_draws": 100, "compare": False}
    verdict = capriole.fit(logdensity, np.full(2, 20.0), resume=keeper, **options).verdict
    assert verdict.failed == lost, verdict.problems
    assert ("none of the draws is around (-20" in verdict.recommendation) == lost
    assert [mode.share for mode in verdict.modes] == [0.5, 0.5]
    assert "2 modes with " in verdict.health
    assert (verdict.as_dict()["modes"][0]["draws"] == 1.0) == lost
    assert verdict.is_multimodal


def test_acceptance_that_is_noise_fails_and_nuts_is_no_way_out(monkeypatch):
    quick_nuts(monkeypatch, np.ones(2))

    def far_up(x):
        return 1e17 - jnp.sum(x**2) / 2

    found = fit(target=far_up, init=(0.0, 0.0), scale=np.ones(2), num_draws=100)
    assert found.verdict.failed
    assert found.verdict.chosen != "NUTS"
    assert "rounded by about 2.2e+03 %" in found.verdict.recommendation


def test_nuts_that_raises_costs_nothing_that_was_found(monkeypatch):
    """It goes further out than any kernel of ours, and a log density may raise there."""

    def raising(*args, **kwargs):
        raise FloatingPointError("too far out\nand more")

    monkeypatch.setattr("capriole.fitting.proposers._nuts.draw_nuts", raising)
    monkeypatch.setattr("capriole.fitting._final_run.draw_nuts", raising)
    found = fit()
    assert_normal(found)
    assert "NUTS was not compared" in found.verdict.recommendation
    text = "NUTS could not be measured: FloatingPointError: too far out"
    assert f"Note: {text}." in found.verdict.table()
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [SEPARATION])
    failed = fit()
    assert_normal(failed)
    assert failed.verdict.failed
    instead = "NUTS could not draw instead: FloatingPointError: too far out"
    assert [note.text for note in failed.verdict.notes] == [text, instead]


def test_nuts_wins_and_draws(monkeypatch):
    """A real search and NUTS's real draws, as if NUTS were the best."""

    def nuts_first(rows, criterion):
        return next((row for row in rows if row.is_nuts), rows[0])

    monkeypatch.setattr(_nuts, "nuts_cannot_win", lambda *args: False)
    monkeypatch.setattr(_search, "choose", nuts_first)
    options = settings(num_warmup_chains=16)._asdict()
    found = capriole.fit(GAUSSIAN, np.zeros(3), seed=3, **options)
    verdict = found.verdict
    assert (verdict.chosen, verdict.failed) == ("NUTS", False)
    assert found.transition is None
    assert_normal(found)
    assert verdict.row("NUTS").kind is Kind.NUTS
    assert "No candidate that can be trusted beats NUTS" in verdict.recommendation
    assert verdict.settings["comparison"]["decided"] is True
    attributes = found.tree["posterior"].attrs
    assert attributes["sampler"] == "NUTS"
    assert attributes["num_gradients"] > 8 * 300
    assert attributes["completed"] == 1
