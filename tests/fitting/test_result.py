"""What `fit` returns shows itself in a few lines, escaped; a failed fit is never silent."""

import html.parser
import logging
import re

import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.diagnostics import Problem, ProblemKind, Severity
from capriole.fitting import Fit, Note, NoteKind, Verdict, _api
from capriole.sampling import to_tree
from densities import Gaussian
from stored import SCALE, Stored, row

OPTIONS = {"num_chains": 8, "num_draws": 50, "train_steps": 0, "compare": False}
STUCK = Problem(ProblemKind.STUCK, Severity.FATAL, "2 chains stood still", "start elsewhere")
WORDS = r"the fit failed, do not use its draws: 2 chains stood still: start elsewhere"


class Parsed(html.parser.HTMLParser):
    """Tags that are open, and all text."""

    VOID = {"meta", "link", "input", "br", "path", "use", "circle", "ellipse", "symbol"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def verdict(**changes):
    made = Verdict((row(), row(worst=0.1)), "rotation", (), False, (), False, {})
    return made._replace(**changes)


def fitted(**changes):
    draws = np.random.default_rng(0).normal(size=(4, 100, 3))
    return Fit(to_tree(Gaussian(jnp.ones(3)), draws, {}, {}), verdict(**changes), None)


def fit(monkeypatch, problems, **options):
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: list(problems))
    target = Gaussian(jnp.asarray(SCALE))
    return capriole.fit(target, np.zeros(3), resume=Stored(SCALE), **OPTIONS | options)


def test_a_failed_fit_warns_of_its_first_problem_where_it_was_called(monkeypatch, caplog):
    warning = Problem(ProblemKind.DIVERGENT, Severity.WARNING, "3 divergences")
    with caplog.at_level(logging.WARNING, "capriole"):
        with pytest.warns(capriole.FitFailedWarning, match=f"^{WORDS}$") as seen:
            found = fit(monkeypatch, [warning, STUCK])
    assert found.verdict.failed
    assert seen[0].filename == __file__
    assert re.search(WORDS, caplog.text)


def test_several_problems_are_counted(monkeypatch):
    with pytest.warns(capriole.FitFailedWarning, match=r"elsewhere \(and 1 more: see .verdict\)$"):
        fit(monkeypatch, [STUCK, STUCK])


def test_a_failed_fit_may_be_raised_with_its_draws(monkeypatch):
    with pytest.raises(capriole.FitFailedError, match=f"^{WORDS}$") as seen:
        fit(monkeypatch, [STUCK], on_failure="raise")
    assert seen.value.fit.tree["posterior"]["x"].shape == (8, 50, 3)
    assert seen.value.fit.verdict.failed


def test_a_failed_fit_may_be_ignored(monkeypatch):
    assert fit(monkeypatch, [STUCK], on_failure="ignore").verdict.failed


@pytest.mark.parametrize("on_failure", ["warn", "raise", "ignore"])
def test_a_fit_that_passed_with_warnings_is_silent(monkeypatch, on_failure):
    warning = STUCK._replace(severity=Severity.WARNING)
    found = fit(monkeypatch, [warning], on_failure=on_failure)  # warnings are errors here
    assert found.verdict.status == "passed with warnings"


@pytest.mark.parametrize("on_failure", [None, True, "error", "Warn", ["warn"]])
def test_other_ways_to_fail_are_refused(on_failure):
    words = "on_failure must be 'warn', 'raise' or 'ignore', got"
    with pytest.raises(ValueError, match=words):
        capriole.fit(lambda x: -x, 0.0, on_failure=on_failure)


def test_a_verdict_prints_its_table():
    made = verdict()
    assert str(made) == repr(made) == made.table()
    assert made.recommendation in str(made)
    assert len(str(made)) < 1000


def test_a_fit_prints_a_few_lines():
    text = repr(fitted(failed=True, problems=(STUCK,)))
    assert text.startswith(
        "<capriole.Fit: 4 chains of 100 draws by the rotation, failed; of x[3]\n"
    )
    assert "Failed: 2 chains stood still" in text
    assert len(text.splitlines()) == 2


def test_a_fit_may_be_taken_apart():
    tree, told, kernel = fitted()
    assert tree["posterior"]["x"].shape == (4, 100, 3)
    assert (told, kernel) == (verdict(), None)


def test_a_summary_has_a_row_for_each_number():
    table = fitted().summary(var_names=["x"])
    assert list(table.index) == ["x[0]", "x[1]", "x[2]"]
    assert {"mean", "sd", "r_hat"} <= set(table.columns)


@pytest.mark.parametrize(
    ("changes", "badge"),
    [
        ({}, "passed"),
        ({"problems": (STUCK._replace(severity=Severity.WARNING),)}, "passed with warnings"),
        ({"problems": (STUCK,), "failed": True}, "failed"),
    ],
)
def test_a_notebook_shows_the_verdict(changes, badge):
    for shown in (verdict(**changes), fitted(**changes)):
        page = Parsed(shown._repr_html_())
        assert page.open == []
        assert badge in page.text
        assert shown is not None
        assert "rotation (drew)" in page.text
        assert ("2 chains stood still: start elsewhere" in page.text) == bool(changes)


@pytest.mark.parametrize("field", ["problems", "notes", "chosen", "failed problems"])
def test_text_of_others_is_escaped_in_html(field):
    """An error message of a user's log density may stand in notes and problems."""
    text = "<script>alert(1)</script> & <b>"
    problem = STUCK._replace(message=text)
    changes = {
        "problems": {"problems": (problem._replace(severity=Severity.WARNING),)},
        "notes": {"notes": (Note(NoteKind.LEFT_OUT, text),)},
        "chosen": {"chosen": text},
        "failed problems": {"problems": (problem,), "failed": True},
    }[field]
    for shown in (verdict(**changes), fitted(**changes)):
        page = Parsed(shown._repr_html_())
        assert "script" not in page.tags
        assert text in page.text
