"""Goals are computed from cells; what is missing, stuck or not finite fails."""

import math

import pytest
from toy_cells import all_cells, cell, row

from capriole_lab.toy._goals import GOALS, judge, ratio, verdicts, weight_error
from capriole_lab.toy._settings import TOY_TARGETS
from capriole_lab.toy._tables import (
    best_rival,
    in_words,
    mode_rows,
    paper_rows,
    pays_after,
    spread,
)


def goal(target, words):
    (found,) = [g for g in GOALS if g.target == target and words in g.text]
    return found


def test_goals_are_for_targets_of_the_section_and_all_pass_where_all_is_well():
    assert {g.target for g in GOALS} == set(TOY_TARGETS)
    found = verdicts(all_cells())
    assert len(found) == len(GOALS)
    failed = [v.goal.text for v in found if not v.passed]
    assert not failed
    assert all(v.seeds_passed == 3 for v in found)


def test_the_verdict_is_that_of_the_median():
    asked = goal("scg", "L2HMC's ESS per step")
    cells = [cell("scg", s, l2hmc=row(paper=p)) for s, p in enumerate((0.1, 0.7, 0.9))]
    verdict = judge(asked, cells)
    assert verdict.passed
    assert verdict.median == 0.7
    assert verdict.seeds_passed == 2
    assert not judge(asked, cells[:2]).passed


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_figure_that_is_missing_fails(value):
    asked = goal("scg", "L2HMC's ESS per step")
    assert not judge(asked, [cell("scg"), cell("scg", l2hmc=row(paper=value))]).passed


def test_chains_that_never_leave_their_mode_fail_though_each_start_alone_passes():
    stuck = {"l2hmc mode 0": row(weights=[1.0, 0.0]), "l2hmc mode 1": row(weights=[0.0, 1.0])}
    found = cell("mog-asym", rhat=None, **stuck)
    assert weight_error(found, "l2hmc") == 0.5
    assert not judge(goal("mog-asym", "R-hat"), [found]).passed
    assert not judge(goal("mog-asym", "L2HMC's error"), [found]).passed
    assert [r[4] for r in mode_rows({"mog-asym": [found]}) if r[1].startswith("L2HMC")] == [
        "stuck"
    ] * 2


def test_the_worse_of_both_starts_counts():
    found = cell("mog", **{"l2hmc mode 1": row(weights=[0.47, 0.53])})
    assert weight_error(found, "l2hmc") == pytest.approx(0.03)
    assert not judge(goal("mog", "error"), [found]).passed


def test_a_baseline_that_works_by_mistake_fails_the_goal_that_it_does_not():
    works = {f"nice mode {i}": row(weights=[0.5, 0.5]) for i in (0, 1)}
    assert not judge(goal("mog-asym", "A-NICE"), [cell("mog-asym", **works)]).passed


def test_the_neck_is_compared_with_nuts_and_its_sd_with_3():
    assert not judge(goal("funnel", "over NUTS"), [cell("funnel", nuts=row(0.1))]).passed
    assert not judge(
        goal("funnel", "sd"), [cell("funnel", **{"l2hmc dispersed": row(sd=2.8)})]
    ).passed


def test_ratio_of_nothing_is_nothing():
    assert ratio(1.0, 0.0) is None
    assert ratio(None, 1.0) is None


def test_the_paper_table_has_the_papers_figures_next_to_ours():
    rows = {r[0]: r for r in paper_rows(all_cells())}
    ours = ["0.9 (0.9 to 0.9)", "0.005 (0.005 to 0.005)", "180 (180 to 180)"]
    assert rows["scg"] == ["scg", "10 / 10", ours[0], "0.497", ours[1], "0.00469", ours[2], "106.2"]
    assert rows["funnel"][3] == "-"


def test_spread():
    assert spread([2.0, 1.0, 4.0]) == "2 (1 to 4)"
    assert spread([1.5]) == "1.5"
    assert spread([1.0, None]) == "-"
    assert spread([]) == "-"


def test_a_rival_that_did_not_converge_or_is_biased_is_no_rival():
    cells = [cell("scg", nuts=row(9.0, rhat=1.2), hmc_best=row(8.0, z=7.0), lookahead=row(0.05))]
    assert best_rival(cells) == "lookahead"
    assert "L2HMC wins by a factor of 4: 0.2" in in_words("scg", cells)
    assert "look-ahead HMC" in in_words("scg", cells)


def test_words_when_it_loses_fails_or_is_alone():
    lost = [cell("scg", nuts=row(0.8))]
    assert "loses by a factor of 4" in in_words("scg", lost)
    assert pays_after(lost) == "never: NUTS is faster"
    assert "did not converge (R-hat 1.300)" in in_words("scg", [cell("scg", l2hmc=row(rhat=1.3))])
    names = ("hmc", "hmc_best", "nuts", "lookahead")
    alone = [cell("scg", **{name: row(rhat=2.0) for name in names})]
    assert "the only sampler that converges" in in_words("scg", alone)
    assert pays_after(alone) == "at once: no other passes"


def test_training_is_paid_for_when_the_gradients_saved_are_those_spent():
    # 1e6 gradients of training; a draw costs 5 gradients against 500.
    assert pays_after([cell("scg")]) == f"{1e6 / 495:.2g}"
