"""The verdict: break-even points, the words, and that a failed run says so."""

import json

import pytest
from capriole.fitting._validation import choose

from capriole.fitting import Row, Verdict
from capriole.fitting._verdict import break_even, cheaper_until


def row(name="rotation", *, ess=0.4, sq=0.3, second=1000.0, gradients=100_000, seconds=20.0):
    return Row(name, 2, ess, sq, second, 0.9, 1.001, gradients, seconds)


NUTS = row("NUTS", ess=0.1, sq=0.06, second=500.0, gradients=10_000, seconds=10.0)


def verdict(*rows, chosen="rotation", problems=(), failed=False):
    return Verdict(tuple(rows), chosen, tuple(problems), failed, {})


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
    final = {"ess_per_gradient": 0.05, "ess_sq_per_gradient": 0.3, "num_gradients": 2e4}
    text = verdict(ours, NUTS)._replace(settings={"final": final}).recommendation()
    assert "it is cheaper than NUTS in gradients below 1,500 effective draws" in text
    assert "For the 1,000 effective draws of this run NUTS would have been cheaper in time." in text
    longer = (
        verdict(ours, NUTS)
        ._replace(settings={"final": final | {"num_gradients": 4e4}})
        .recommendation()
    )
    assert (
        "For the 2,000 effective draws of this run NUTS would have been cheaper in gradients and "
        "in time." in longer
    )


def test_the_worst_of_a_kernel_that_never_moves_is_zero():
    assert row(ess=float("nan")).worst == 0


def test_the_words_name_gain_and_break_even():
    text = verdict(row(), NUTS).recommendation()
    assert "5 times NUTS's effective draws per gradient" in text
    assert "NUTS is cheaper in gradients below 6,800 effective draws" in text
    assert "NUTS is cheaper in time below 10,000 effective draws" in text


@pytest.mark.parametrize(
    ("gradients", "cheaper"),
    [(2e4, "For the 6,000 effective draws of this run NUTS would have been cheaper in gradients and in time."),
     (3e4, "For the 9,000 effective draws of this run NUTS would have been cheaper in time."),
     (4e4, ""), (0, ""), (None, "")],
)  # fmt: skip
def test_the_words_say_what_was_cheaper_for_the_run_at_hand(gradients, cheaper):
    final = {"ess_per_gradient": 0.4, "ess_sq_per_gradient": 0.3, "num_gradients": gradients}
    found = verdict(row(), NUTS)
    text = found._replace(settings={"final": final}).recommendation()
    assert text == f"{found.recommendation()} {cheaper}".strip()


def test_the_words_say_that_nuts_had_not_mixed_when_it_was_measured():
    text = verdict(row(), NUTS._replace(rhat_max=1.57)).recommendation()
    words = "NUTS's chains had not mixed when measured (R-hat 1.57), so its figures are rough."
    assert text == f"{verdict(row(), NUTS).recommendation()} {words}"
    assert "rough" in verdict(row(), NUTS._replace(rhat_max=float("nan"))).recommendation()
    missed = verdict(row(), NUTS._replace(reach=0.3)).recommendation()
    assert missed.endswith(
        "NUTS's chains missed an end of a funnel when measured, so its figures are rough."
    )


def test_rows_of_before_that_say_nothing_of_ends_are_read():
    values = row()._replace(reach=0.25)._asdict()
    assert Row.read(values).reach == 0.25
    assert Row.read({name: value for name, value in values.items() if name != "reach"}).reach == 1
    with pytest.raises(ValueError, match="reach = 'far', expected a number"):
        Row.read(values | {"reach": "far"})


def test_a_kernel_that_missed_an_end_counts_for_as_much_less():
    missed, other = (
        row("missed", ess=0.4, sq=0.4)._replace(reach=0.3),
        row("other", ess=0.1, sq=0.1),
    )
    assert choose([missed, other], "gradients") == "missed"
    assert choose([missed._replace(reach=0.1), other], "gradients") == "other"
    assert choose([missed._replace(reach=0.0), other], "gradients") == "other"
    assert choose([missed._replace(reach=0.0)], "gradients") == "missed"


def test_nuts_may_win_and_failure_is_said_first():
    assert (
        "No candidate that can be trusted beats NUTS"
        in verdict(row(ess=0.01), NUTS, chosen="NUTS").recommendation()
    )
    text = verdict(row(), NUTS, problems=["R-hat is 1.2"], failed=True).recommendation()
    assert text.startswith("Failed: R-hat is 1.2")
    assert "was not compared" in verdict(row()).recommendation()


def test_nuts_is_not_compared_with_where_plain_chains_sat_apart():
    far = verdict(row(ess=0.02, sq=0.02), NUTS)._replace(settings={"pilot": {"apart": 40.0}})
    assert "NUTS was no choice" in far.recommendation()
    assert far.break_even("gradients") is None
    near = far._replace(settings={"pilot": {"apart": 1.0}})
    assert "NUTS is cheaper" in near.recommendation()


def test_the_table_marks_the_chosen_and_json_is_plain():
    made = verdict(row(), NUTS._replace(rhat_max=float("nan")))
    assert "*rotation" in made.table()
    content = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert content["rows"][1]["rhat_max"] is None
    assert content["break_even_effective_draws"]["gradients"] == pytest.approx(6750)


def test_the_table_says_what_is_wrong_and_what_was_left_out():
    made = verdict(
        row(), NUTS._replace(rhat_max=81823.58), problems=["3 % of proposals are not finite"]
    )
    lines = made._replace(settings={"notes": ["no network was trained", 7]}).table().splitlines()
    assert " 8e+04 " in next(line for line in lines if "NUTS" in line)
    assert lines[-3:] == [
        made.recommendation(),
        "Problem: 3 % of proposals are not finite.",
        "Note: no network was trained.",
    ]
    failed = made._replace(failed=True).table()
    assert failed.count("3 % of proposals") == 1


def test_the_best_wins_and_the_first_of_near_ties():
    plain, network = row("plain", ess=0.29, sq=0.29, second=2000.0), row("network", second=100.0)
    assert choose([plain, network, NUTS], "gradients") == "plain"
    better = row("better", ess=0.5, sq=0.5, second=1.0)
    assert choose([plain, better, NUTS], "gradients") == "better"
    assert choose([better, plain, NUTS], "seconds") == "plain"
    assert choose([row(ess=0.01), NUTS], "gradients") == "NUTS"


def test_a_kernel_whose_proposals_are_not_finite_is_the_last_choice():
    slow = row("slow", ess=0.02)
    for share, expected in ((0.068, "slow"), (0.018, "slow"), (0.009, "large steps")):
        large = row("large steps")._replace(nonfinite=share)
        assert choose([large, slow], "gradients") == expected
        assert choose([large], "gradients") == "large steps"
