"""Standings and goals of the peers bench: what does not pass is never ranked, what is missing never
passes.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from peers_cells import all_cells, cell

from capriole_lab.peers import _judge as _peers_judge
from capriole_lab.peers._goals import GOALS, HARD, SCHOOLS, verdicts
from capriole_lab.peers._judge import (
    best_peer,
    break_even,
    cheaper_than_nuts,
    disagreement,
    find,
    judged,
    ratio,
    standings,
)
from capriole_lab.peers._settings import BENCH_TARGETS
from capriole_lab.peers._tables import cost_rows, number, rank_rows, short, target_rows

ROOT = Path(__file__).parents[3]


def table(cells):
    return {target: standings(found) for target, found in cells.items()}


def verdict(found, words):
    (chosen,) = [v for v in verdicts(found) if words in v.text]
    return chosen


def test_goals_are_about_targets_of_the_bench_and_all_pass_where_all_is_well():
    assert {target for goal in GOALS for target in goal.only} <= set(BENCH_TARGETS)
    found = verdicts(table(all_cells()))
    assert len(found) == len(GOALS)
    assert [v.text for v in found if not v.passed] == []
    assert verdict(table(all_cells()), "median").measured == pytest.approx(4)


def test_proposals_of_a_flow_are_charged_as_gradients_are():
    """500 of them beside 1,000 gradients; by seconds nothing changes."""
    flow = cell("mog", "flowmc", 0.3)
    flow["settings"] = {"num_density_evaluations": 500}
    (found,) = standings([flow])
    assert found.rate["gradients"] == pytest.approx(0.2)
    assert found.rate["seconds"] == pytest.approx(300)
    late = flow | {
        "ess_per_gradient": None,
        "ess_per_second": None,
        "problems": ["not within 15 minutes"],
    }
    assert not standings([late])[0].passed


def test_a_failed_cell_is_never_ranked_however_fast():
    cells = [
        cell("scg", "capriole", 0.5),
        cell("scg", "nuts", 0.1),
        cell("scg", "mclmc", 9.0, problems=["misses the exact moments: |z| 30"]),
    ]
    found = standings(cells)
    assert [s.sampler for s in found] == ["capriole", "nuts", "mclmc"]
    assert not found[-1].passed
    assert found[-1].rate == found[-1].fixed == {"gradients": None, "seconds": None}
    assert found[-1].total("seconds") is None
    assert best_peer(found, "gradients").sampler == "nuts"
    assert ratio(found, "gradients") == pytest.approx(5)
    assert rank_rows({"scg": found})[0][1:4] == ["1 of 2", "small network", "0.5"]
    shown = target_rows(found, judged(cells))[-1]
    assert shown[0] == "-"
    assert shown[3:6] == ["-", "-", "-"]
    assert "30" in shown[-1]


def test_ratios_where_one_side_or_both_fail():
    ours, theirs = cell("scg", "capriole", 0.5), cell("scg", "nuts", 0.1)
    ours_failed, theirs_failed = (each | {"problems": ["R-hat 1.200"]} for each in (ours, theirs))
    assert ratio(standings([ours_failed, theirs]), "gradients") == 0
    assert ratio(standings([ours, theirs_failed]), "gradients") == math.inf
    assert ratio(standings([ours_failed, theirs_failed]), "gradients") is None
    assert ratio(standings([ours]), "gradients") is None
    assert ratio(standings([theirs]), "gradients") is None


def test_one_failure_of_ours_fails_never_below_1_and_counts_in_the_shares():
    cells = all_cells()
    cells["scg"][0]["problems"] = ["R-hat 1.200"]
    found = table(cells)
    assert verdict(found, "lowest").measured == 0
    assert not verdict(found, "lowest").passed
    assert verdict(found, "capriole, SCG-2").measured == 0
    assert not verdict(found, "capriole, SCG-2").passed
    assert verdict(
        found, "per gradient, capriole over the best passing peer: share"
    ).measured == pytest.approx(1 - 1 / len(BENCH_TARGETS))
    assert verdict(found, "median").passed


def test_a_sampler_passes_if_most_of_its_seeds_do_and_its_figures_are_theirs():
    cells = [cell("scg", "capriole", rate, seed) for seed, rate in enumerate((0.2, 0.3, 9.0))]
    cells[2]["problems"] = ["R-hat 1.200"]
    (found,) = standings(cells)
    assert found.passed
    assert found.rate["gradients"] == pytest.approx(0.25)
    assert (found.seeds_passed, found.seeds) == (2, 3)
    cells[1]["problems"] = ["R-hat 1.200"]
    assert not standings(cells)[0].passed
    assert not standings(cells[:2])[0].passed, "a half is not most"


@pytest.mark.parametrize("value", [None, math.nan, 0.0])
def test_an_ess_that_is_not_defined_does_not_pass(value):
    (found,) = standings([cell("scg", "capriole", 0.5) | {"ess_per_gradient": value}])
    assert not found.passed
    assert found.reasons


def test_without_known_truth_cells_must_agree_with_the_best_nuts_that_mixes():
    away = 0.1  # 7 of the 0.014 standard errors of a difference
    cells = [
        cell("coal", "capriole", 0.5, truth=None, mean=away),
        cell("coal", "nuts", 0.1, truth=None, ess=5_000.0),
        cell("coal", "nuts-dense", 0.1, truth=None, mean=away, problems=["R-hat 1.200"]),
    ]
    assert disagreement(cells[0]["moments"], cells[1]["moments"]) == pytest.approx(
        away / math.hypot(0.01, 0.01)
    )
    found = standings(cells)
    assert [s.sampler for s in found if s.passed] == ["nuts"]
    assert "disagrees with nuts: |z| 7.07" in find(found, "capriole").reasons
    cells[0] = cell("coal", "capriole", 0.5, truth=None, mean=away / 2)
    assert find(standings(cells), "capriole").passed
    other_seed = [
        cells[0] | {"moments": cell("coal", "x", 1, mean=5.0)["moments"]},
        cells[1] | {"seed": 1},
    ]
    assert find(standings(other_seed), "capriole").passed, "only cells of one seed are compared"
    assert judged(other_seed)[0]["referee"] is None


@pytest.mark.parametrize(("factor", "fails"), [(1.0, False), (0.7, True)])
@pytest.mark.parametrize("target", ["batting", "volatility"])
def test_moments_that_integration_gives_judge_and_not_a_nuts_that_may_err_with_them(
    target, factor, fails
):
    exact = _peers_judge._exact(target)
    found = [cell(target, name, 0.1, truth=None) for name in ("capriole", "nuts-dense")]
    for each in found:
        others = [7.0] * 5  # which nobody knows
        each["moments"] = {
            "mean": [*others, *exact["mean"]],
            "variance": [*others, *exact["variance"][:-1], factor * exact["variance"][-1]],
            "mean_error": [*others, *([0.01] * len(exact["mean"]))],
            "variance_error": [*others, *([0.001] * len(exact["mean"]))],
        }  # fmt: skip
    for each in judged(found):
        assert each["referee"] == "integration"
        assert bool(each["problems"]) == fails


def test_the_moments_of_volatility_are_those_of_the_stored_integration():
    stored = json.loads((ROOT / "results" / "volatility-moments.json").read_text(encoding="utf-8"))
    for kind, values in _peers_judge._exact("volatility").items():
        np.testing.assert_allclose(values, stored[kind], rtol=0, atol=1e-6)


def test_a_moment_that_is_missing_is_a_disagreement():
    broken = cell("coal", "capriole", 0.5, truth=None)
    broken["moments"]["mean_error"] = [None, 0.01]
    assert math.isnan(disagreement(broken["moments"], cell("coal", "nuts", 0.1)["moments"]))
    assert not find(standings([broken, cell("coal", "nuts", 0.1, truth=None)]), "capriole").passed


def test_totals_count_the_preparation_and_nuts_is_the_better_of_both():
    ours = cell("scg", "capriole", 1.0, before=1_000_000, seconds=20.0)
    cells = [ours, cell("scg", "nuts", 0.01), cell("scg", "nuts-dense", 0.1, before=100)]
    found = standings(cells)
    mine, slow, dense = (find(found, name) for name in ("capriole", "nuts", "nuts-dense"))
    assert mine.total("gradients") == 1_010_000
    assert mine.total("seconds") == 22 + 10
    assert dense.total("seconds") == 3 + 100
    assert cheaper_than_nuts(found) is True
    assert cheaper_than_nuts(found, "gradients") is False
    point = break_even(mine, dense, "gradients")
    assert mine.total("gradients", point) == pytest.approx(dense.total("gradients", point))
    assert break_even(slow, mine, "gradients") is None
    assert break_even(mine, cell_standing(before=2_000_000), "gradients") == 0
    assert cheaper_than_nuts(standings(cells[:1])) is None
    failed = [c | {"problems": ["R-hat 1.200"]} for c in cells]
    assert cheaper_than_nuts(standings([ours, *failed[1:]])) is True
    assert cheaper_than_nuts(standings([failed[0], *cells[1:]])) is False
    assert cheaper_than_nuts(standings(failed)) is None
    rows = {row[1]: row for row in cost_rows({"scg": found})}
    assert rows["NUTS, dense metric"][7] == number(point)
    assert rows["capriole"][7:] == ["-", "-"]


def cell_standing(**changes):
    return standings([cell("scg", "nuts", 0.5, **changes)])[0]


def test_hard_targets_are_counted_and_those_not_run_do_not_pass():
    cells = {target: all_cells()[target] for target in HARD}
    assert verdict(table(cells), "capriole passes on").measured == 5
    for target in HARD[:2]:
        cells[target][0]["problems"] = ["R-hat 1.200"]
    found = verdict(table(cells), "capriole passes on")
    assert (found.measured, found.targets, found.passed) == (3, 5, False)
    assert not verdict(table({"mog": all_cells()["mog"]}), "capriole passes on").passed
    assert not [
        v for v in verdicts(table({"icg": all_cells()["icg"]})) if "capriole passes on" in v.text
    ]


def test_names():
    assert short(f"{SCHOOLS}centered") == "eight schools, centered"
    assert short("posteriordb/earnings-earn_height") == "earn_height"
    assert short("mog-asym") == "mog-asym"
    assert len({short(target) for target in BENCH_TARGETS}) == len(BENCH_TARGETS)
    assert [number(v) for v in (None, math.nan, math.inf, 0.123)] == ["-", "-", "∞", "0.12"]


def test_the_ranking_shows_the_range_over_the_seeds_that_passed():
    cells = [cell("scg", "capriole", rate) | {"seed": i} for i, rate in enumerate((0.5, 0.2, 0.4))]
    assert rank_rows({"scg": standings(cells)})[0][3] == "0.4 (0.2 to 0.5)"
    cells[1] = cells[1] | {"problems": ["R-hat"]}
    assert rank_rows({"scg": standings(cells)})[0][3] == "0.45 (0.4 to 0.5)"
