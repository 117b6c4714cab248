"""The bench of unseen targets: what is judged wrong, what is stored, what the tables say."""

import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from capriole_lab.cli._app import app
from capriole_lab.unseen import UNSEEN, make_unseen
from capriole_lab.unseen._bench import count, plan, table, write_summary
from capriole_lab.unseen._cell import CELL, as_json, give_up, run_cell, title
from capriole_lab.unseen._judge import judge_draws

KEY = jax.random.key(4)


@pytest.fixture(scope="module")
def modes():
    """A target with modes, and draws of 16 chains that are exact."""
    target = make_unseen("two-modes")
    draws = np.asarray(target.sample(jax.random.key(1), 16_000)).T
    return target, draws.reshape(16, 1000, target.dim)


def test_exact_draws_are_right(modes):
    truth = judge_draws(*modes, KEY)
    assert truth.right
    assert truth.num_tests == 4 * 5 + 2
    assert truth.failures == []


def _shifted(target, draws):
    return draws + np.array([0.5, 0, 0, 0, 0])


def _wider(target, draws):
    return draws * 1.2


def _cut(target, draws):
    return np.clip(draws, *np.quantile(draws, [0.004, 0.996], axis=(0, 1)) * 0.8)


def _one_mode(target, draws):
    return np.where(draws[..., -1:] > 0, draws, -draws)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (_shifted, "mean"),
        (_wider, "variance"),
        (_cut, "share below the 1% quantile"),
        (_one_mode, "share of mode"),
    ],
)
def test_wrong_draws_are_called_wrong(modes, spoil, name):
    target, draws = modes
    truth = judge_draws(target, spoil(target, draws), KEY)
    assert not truth.right
    assert any(failure.startswith(name) for failure in truth.failures)


def test_chains_that_stand_still_are_not_called_right(modes):
    target, draws = modes
    assert not judge_draws(target, np.repeat(draws[:1, :1], 1000, axis=1), KEY).right


def test_tails_are_judged_where_moments_are_unknown():
    target = make_unseen("funnel-strong")
    draws = np.asarray(target.sample(jax.random.key(2), 16_000)).T.reshape(16, 1000, target.dim)
    assert judge_draws(target, draws, KEY).right
    cut = np.where(draws[..., :1] > -2.5, draws, np.roll(draws, 7, axis=1))
    assert any("1%" in failure for failure in judge_draws(target, cut, KEY).failures)


def test_plan_has_all_targets_at_the_first_seed_first(tmp_path):
    specs = plan([], [1, 2], tmp_path)
    assert [(spec.target, spec.seed) for spec in specs[:20]] == [(name, 1) for name in UNSEEN]
    assert len(specs) == 40
    with pytest.raises(ValueError, match="unknown unseen target 'funel'"):
        plan(["funel"], [1], tmp_path)


def test_a_cell_that_is_late_is_stored_with_what_was_asked(tmp_path):
    give_up("ring", 3, 0, tmp_path / "ring-3", minutes=5, cpu_seconds=41.2)
    cell = json.loads((tmp_path / "ring-3" / CELL).read_text())
    assert cell["verdict"] == "too late"
    assert cell["problems"] == ["not within 5 minutes (41 s of the processor)"]
    assert cell["cpu_seconds"] == 41.2
    assert cell["configuration"] == {
        "num_chains": 16,
        "num_draws": 1000,
        "train_steps": 0,
        "dtype": "float64",
    }
    assert {"capriole", "jax", "python"} <= cell["versions"].keys()
    assert cell["cores"] >= 1


def _cell(name, verdict, judged):
    silent = None if judged is None else verdict == "passed" and judged == "wrong"
    figures = {"chosen": "rotation", "ess_per_gradient": 0.25, "rhat_max": 1.002, "thin": 1}
    costs = {"num_gradients": 16_000, "preparation_gradients": 50_000, "seconds": 40.0}
    told = {"verdict": verdict, "judged": judged, "silently_wrong": silent}
    return title(name, 1, 0) | figures | costs | told


def test_summary_counts_and_marks_what_is_silently_wrong(tmp_path):
    cells = [
        _cell("shell", "passed", "right"),
        _cell("ring", "passed", "wrong"),
        _cell("warped", "failed", "right"),
        _cell("betas", "error", None),
    ]
    for cell in cells:
        (tmp_path / cell["target"]).mkdir()
        (tmp_path / cell["target"] / CELL).write_bytes(as_json(cell))
    page = write_summary(tmp_path)
    lines = page.read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[6:]] == [
        "| ring",
        "| shell",
        "| betas",
        "| warped",
    ]
    assert "**silently wrong**" in lines[6]
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["totals"] == count(cells)
    assert stored["totals"] == {
        "cells": 4,
        "passed": 2,
        "passed_and_right": 1,
        "silently_wrong": 1,
        "failed_but_right": 1,
        "too_late": 0,
        "errors": 1,
    }


def test_a_table_row_has_no_bar_of_its_own():
    cell = _cell("ring", "passed", "wrong") | {"failures": ["mean 0: 1 instead of 0 (|z| 9)"]}
    row = table([cell], count([cell])).splitlines()[-1]
    assert row.count("|") == table([], count([])).splitlines()[4].count("|")


def test_numbers_that_json_has_not_become_null():
    assert json.loads(as_json({"a": float("nan"), "b": np.float64(2), "c": (np.inf, True)})) == {
        "a": None,
        "b": 2.0,
        "c": [None, True],
    }


def test_command_refuses_a_limit_of_nothing_and_an_unknown_target(tmp_path):
    run = CliRunner().invoke
    asked = ["bench", "unseen", "--out", str(tmp_path)]
    assert run(app, [*asked, "--limit", "0"]).exit_code != 0
    assert run(app, [*asked, "--targets", "nobody"]).exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_command_refuses_a_folder_with_cells_of_another_configuration(tmp_path):
    give_up("ring", 1, 0, tmp_path / "ring-1", minutes=5, cpu_seconds=41.2)
    asked = ["bench", "unseen", "--out", str(tmp_path), "--targets", "ring"]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code != 0
    assert "--train-steps 0" in refused.output
    assert CliRunner().invoke(app, [*asked, "--train-steps", "0"]).exit_code == 0
    assert (tmp_path / "summary.md").exists()


@pytest.mark.slow
def test_a_cell_has_verdict_truth_and_costs(tmp_path):
    run_cell("parabolas", 1, 0, tmp_path / "parabolas-1")
    cell = json.loads((tmp_path / "parabolas-1" / CELL).read_text())
    assert cell["verdict"] == "passed"
    assert cell["judged"] == "right"
    assert cell["silently_wrong"] is False
    assert cell["num_gradients"] > 0
    assert cell["preparation_gradients"] > 0
    assert 0 < cell["ess_per_gradient"] <= 2
