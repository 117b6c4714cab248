"""The verdict: break-even points, the words, and that a failed run says so."""

import contextlib
import json

import pytest

from capriole.diagnostics import Difference, ModeShare, Problem, ProblemKind, Severity, not_mixed
from capriole.fitting import (
    Coordinates,
    Cost,
    Kind,
    Note,
    NoteKind,
    SamplerReport,
    Stage,
    Verdict,
    break_even,
    cheaper_until,
)
from stored import metrics


def row(kind=Kind.ROTATION, *, ess=0.4, sq=0.3, second=1000.0, gradients=100_000, seconds=20.0):
    figures = (ess, sq, second, 0.9, 1.001, gradients, seconds)
    return SamplerReport(kind, Coordinates.AFFINE, (), 2, *figures)


NUTS = row(Kind.NUTS, ess=0.1, sq=0.06, second=500.0, gradients=10_000, seconds=10.0)
NONFINITE = Problem(ProblemKind.NONFINITE, Severity.WARNING, "3 % of proposals are not finite")


def verdict(*rows, chosen="rotation", problems=(), failed=False, **changes):
    made = Verdict(tuple(rows), chosen, tuple(problems), failed, (), False, {})
    return made._replace(**changes)


def final(ess, sq, num_gradients):
    return metrics(ess_per_gradient=ess, ess_sq_per_gradient=sq, num_gradients=num_gradients)


def test_break_even_is_where_the_total_costs_cross():
    ours = row()
    n = break_even(ours, NUTS, unit="gradients")
    assert 100_000 + n / 0.3 == pytest.approx(10_000 + n / 0.06)
    n = break_even(ours, NUTS, unit="seconds")
    assert 20 + n / 1000 == pytest.approx(10 + n / 500)


def test_break_even_of_the_never_and_the_always_cheaper():
    assert break_even(row(ess=0.05), NUTS, unit="gradients") is None
    assert break_even(row(gradients=5_000), NUTS, unit="gradients") == 0
    assert break_even(row(), NUTS._replace(ess_per_gradient=float("nan")), unit="gradients") == 0


def test_a_lower_rate_may_be_cheaper_for_few_draws():
    """0.05 effective draws per gradient after 5,000, against 0.06 after 10,000: cheaper up to
    1,500.
    """
    ours = row(ess=0.05, gradients=5_000)
    until = cheaper_until(ours, NUTS, unit="gradients")
    assert 5_000 + until / 0.05 == pytest.approx(10_000 + until / 0.06)
    assert until == pytest.approx(1500)
    assert cheaper_until(row(ess=0.05), NUTS, unit="gradients") == 0, "more is spent before, too"
    assert cheaper_until(row(), NUTS, unit="gradients") == 0, "it is cheaper for many"
    text = verdict(ours, NUTS, final=final(0.05, 0.3, 20_000)).recommendation
    assert "it is cheaper than NUTS in gradients below 1,500 effective draws" in text
    assert "For the 1,000 effective draws of this run NUTS would have been cheaper in time." in text
    longer = verdict(ours, NUTS, final=final(0.05, 0.3, 40_000)).recommendation
    assert (
        "For the 2,000 effective draws of this run NUTS would have been cheaper in gradients and "
        "in time." in longer
    )


def test_the_worst_of_a_kernel_that_never_moves_is_zero():
    assert row(ess=float("nan")).worst == 0


def test_the_words_name_gain_and_break_even():
    text = verdict(row(), NUTS).recommendation
    assert "5 times NUTS's effective draws per gradient" in text
    assert "NUTS is cheaper in gradients below 6,800 effective draws" in text
    assert "NUTS is cheaper in time below 10,000 effective draws" in text


@pytest.mark.parametrize(
    ("gradients", "cheaper"),
    [
        (2e4, "For the 6,000 effective draws of this run NUTS would have been cheaper in gradients "
              "and in time."),
        (3e4, "For the 9,000 effective draws of this run NUTS would have been cheaper in time."),
        (4e4, ""),
        (0, ""),
    ],
)  # fmt: skip
def test_the_words_say_what_was_cheaper_for_the_run_at_hand(gradients, cheaper):
    found = verdict(row(), NUTS)
    text = found._replace(final=final(0.4, 0.3, gradients)).recommendation
    assert text == f"{cheaper} {found.recommendation}".strip(), "the sober words come first"
    unknown = found._replace(final=final(float("nan"), 0.3, gradients))
    assert unknown.recommendation == found.recommendation


@pytest.mark.parametrize("rhat", [1.57, 1.06, float("nan")])
def test_nothing_is_said_of_a_rival_that_had_not_mixed_when_it_was_measured(rhat):
    made = verdict(row(), NUTS._replace(rhat_max=rhat), final=final(0.4, 0.3, 2e4))
    words = f"NUTS's chains had not mixed when measured (R-hat {rhat:.2f})"
    assert made.recommendation.startswith(f"Sampled with the rotation. {words}")
    assert "times" not in made.recommendation
    assert "cheaper" not in made.recommendation
    assert made.break_even("gradients") is None


def test_the_words_say_that_nuts_missed_an_end():
    missed = verdict(row(), NUTS._replace(reach=0.3)).recommendation
    assert missed.endswith(
        "NUTS's chains missed an end of a funnel when measured, so its figures are rough."
    )


@pytest.mark.parametrize(
    ("ess", "words"),
    [(74.1, "1,200 times"), (1.87, "31 times"), (0.42, "7 times"), (0.0846, "1.4 times")],
)
def test_ratios_are_rounded(ess, words):
    text = verdict(row(ess=ess, sq=ess), NUTS).recommendation
    assert text.startswith(f"The rotation gives {words} NUTS's effective draws per gradient; ")


def test_nuts_may_win_and_failure_is_said_first():
    assert (
        "No candidate that can be trusted beats NUTS"
        in verdict(row(ess=0.01), NUTS, chosen="NUTS").recommendation
    )
    problems = [not_mixed(1.2, 1.01, "draw more"), NONFINITE]
    text = verdict(row(), NUTS, problems=problems, failed=True).recommendation
    assert text == f"Failed: {problems[0]}; {NONFINITE}. Do not use these draws."
    assert "was not compared" in verdict(row()).recommendation


def test_nuts_is_not_compared_with_where_plain_chains_sat_apart():
    far = verdict(row(ess=0.02, sq=0.02), NUTS, is_multimodal=True)
    assert "NUTS was no choice" in far.recommendation
    assert far.break_even("gradients") is None
    near = far._replace(is_multimodal=False)
    assert "NUTS is cheaper" in near.recommendation


def test_the_table_marks_the_chosen_and_json_is_plain():
    made = verdict(row(), NUTS._replace(rhat_max=float("nan")))
    assert "*rotation" in made.table()
    content = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert content["rows"][1]["rhat_max"] is None
    assert [(r["name"], r["worst_per_gradient"]) for r in content["rows"]] == [
        ("rotation", 0.3),
        ("NUTS", 0.06),
    ]
    assert content["recommendation"] == made.recommendation
    assert content["break_even_effective_draws"]["gradients"] is None
    points = verdict(row(), NUTS).as_dict()["break_even_effective_draws"]
    assert points["gradients"] == pytest.approx(6750)


def test_the_table_says_what_is_wrong_and_what_was_left_out():
    made = verdict(row(), NUTS._replace(rhat_max=81823.58), problems=[NONFINITE])
    notes = (Note(NoteKind.LEFT_OUT, "no network was trained"),)
    lines = made._replace(notes=notes).table().splitlines()
    assert " 8e+04 " in next(line for line in lines if "NUTS" in line)
    assert lines[-3:] == [
        made.recommendation,
        "Problem: 3 % of proposals are not finite.",
        "Note: no network was trained.",
    ]
    failed = made._replace(failed=True).table()
    assert failed.count("3 % of proposals") == 1


def full():
    """A verdict with every field filled."""
    return verdict(
        row(),
        NUTS,
        problems=[NONFINITE],
        notes=(Note(NoteKind.WARMUP, "2 chains were lost"),),
        settings={"seed": "0", "thin": 4},
        final=final(0.4, 0.3, 20_000),
        difference=Difference(3.5, "mean", 1),
        modes=(ModeShare((0.0,), (1.0,), 0.5, 0.4), ModeShare((9.0,), (1.0,), 0.5, 0.6)),
        stages=(Stage("rotations", Cost(150_000, 2.0, 1.5), Cost(140_000, 3.0)),),
    )


def test_a_verdict_is_read_back_as_it_was():
    content = json.loads(json.dumps(full().as_dict(), allow_nan=False))
    again = Verdict.read(content)
    assert again == full()
    assert again.table() == full().table()
    words = ["rotations", "1.5e+05", "1.4e+05", "2.0", "1.5"]
    assert again.table().splitlines()[-1].split() == words
    assert "within 3.5 standard errors of the warm-up's (worst in x[1])" in again.health
    assert "2 modes with 40% 60% of the draws (the warm-up's estimate: 50% 50%)" in again.health


@pytest.mark.parametrize("field", Verdict._fields)
@pytest.mark.parametrize(
    "value",
    [7, None, [3], [[]], {"z": "x", "rhat_max": []}, [{"draws": None}] * 3, 10**400, float("inf")],
    ids=lambda value: str(value)[:20],
)
def test_whatever_a_file_says_is_shown_or_refused(field, value):
    content = full().as_dict()
    for changed in (content | {field: value}, {n: v for n, v in content.items() if n != field}):
        with contextlib.suppress(ValueError):  # refused, in words
            assert isinstance(Verdict.read(changed).table(), str)


@pytest.mark.parametrize("field", SamplerReport._fields)
@pytest.mark.parametrize("value", [-1, 0, None, "x", 1e308, 2**62, []], ids=str)
def test_whatever_a_row_of_a_file_says_is_shown_or_refused(field, value):
    content = full().as_dict()
    content["rows"][0][field] = value
    with contextlib.suppress(ValueError, OverflowError):  # both are caught where it is shown
        assert isinstance(Verdict.read(content).table(), str)
