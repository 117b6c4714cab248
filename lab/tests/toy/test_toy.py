"""The command of section 5.1: cells are resumed, chains' arrival is counted, the page holds every
figure.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_cells import all_cells, cell, row
from typer.testing import CliRunner

from capriole.kernels import Leapfrog, Transition
from capriole_lab.cells import run_cells
from capriole_lab.cli._app import app
from capriole_lab.run._tuning import mixed_score, worst_score
from capriole_lab.targets import TARGETS, make_target
from capriole_lab.toy._burn_in import arrival
from capriole_lab.toy._goals import GOALS
from capriole_lab.toy._hmc import keep_the_better
from capriole_lab.toy._report import load_cells, render, write_report
from capriole_lab.toy._settings import TOY_TARGETS, plan, toy_settings
from commands import ENVIRONMENT
from densities import Gaussian
from pages import parsed


@pytest.mark.parametrize("preset", ["smoke", "laptop", "paper"])
def test_every_target_has_a_budget_and_nice_goes_where_the_goals_ask_for_it(preset):
    assert set(TOY_TARGETS) <= set(TARGETS)
    with_nice = {target for target in TOY_TARGETS if toy_settings(target, preset).nice is not None}
    assert with_nice == {goal.target for goal in GOALS if "A-NICE" in goal.text}
    assert {t for t in TOY_TARGETS if toy_settings(t, preset).burn_in_weight} == {
        "icg",
        "scg",
        "mog",
    }


def test_what_is_unknown_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        toy_settings("scg", "huge")
    with pytest.raises(ValueError, match=r"unknown target of section 5\.1 'banana'"):
        plan(["banana"], 1, "smoke", tmp_path)
    with pytest.raises(ValueError, match="no finished cell"):
        write_report(tmp_path, tmp_path / "page.html")


class Process:
    """Stands in for a worker: finishes at the second look, writing its cell if it `works`."""

    def __init__(self, spec, works):
        self.spec, self.works, self.looks = spec, works, 0

    def poll(self):
        self.looks += 1
        if self.looks < 2:
            return None
        if self.works:
            self.spec.path.mkdir(parents=True, exist_ok=True)
            (self.spec.path / "cell.json").write_text("{}")
        return 0


def test_finished_cells_are_kept_and_a_failure_does_not_stop_the_others(tmp_path):
    specs = plan(["scg", "mog"], 2, "smoke", tmp_path)
    assert [(s.target, s.seed) for s in specs] == [("scg", 0), ("mog", 0), ("scg", 1), ("mog", 1)]
    specs[0].path.mkdir(parents=True)
    (specs[0].path / "cell.json").write_text("{}")
    started, events, at_once = [], [], []

    def start(spec):
        process = Process(spec, works=spec != specs[1])
        started.append(process)
        at_once.append(sum(p.looks < 2 for p in started))
        return process

    failed = run_cells(specs, start, jobs=2, on_event=events.append)
    assert failed == [specs[1]]
    assert [p.spec for p in started] == specs[1:]
    assert max(at_once) == 2
    assert [event.failed for event in events].count(True) == 1
    assert events[-1].done == 3
    assert run_cells(specs, start) == [specs[1]], "the failed one is tried again, alone"
    assert len(started) == 4


def test_each_row_shows_the_better_of_both_kernels():
    rows = {"hmc": row(0.1, paper=0.2), "hmc_paper": row(0.3, paper=0.1)}
    curves = {"hmc": "a", "hmc_paper": "b", "nuts": "c"}
    keep_the_better(rows, curves, {})
    assert rows["hmc"]["bulk_ess_per_gradient"] == 0.3
    assert rows["hmc_paper"]["paper_ess_per_step"] == 0.2
    assert curves == {"hmc": "b", "hmc_paper": "a", "nuts": "c"}


def test_a_score_that_is_mostly_the_number_of_chains_does_not_count():
    target = make_target("scg")
    independent = np.random.default_rng(0).standard_normal((4, 200, 2))
    assert mixed_score(target)(independent) == worst_score(target)(independent) > 100
    apart = independent * 0.01 + np.arange(4)[:, None, None]
    assert mixed_score(target)(apart) == worst_score(target)(apart) / 1000


def test_arrival_counts_the_gradients_of_each_chain():
    """With a tiny step nothing arrives; a chain that starts inside needs nothing; HMC brings the
    others in.
    """
    target = Gaussian(jnp.ones(2))
    starts = jnp.asarray([[0.5, 8.0, -8.0], [0.5, 8.0, 8.0]])
    interval = (-5.0, -0.01)

    still = arrival(
        jax.random.key(0),
        Transition(target, Leapfrog(jnp.asarray(1e-6), 3)),
        starts,
        interval,
        num_steps=20,
    )
    np.testing.assert_array_equal(still, [0, np.inf, np.inf])
    moving = arrival(
        jax.random.key(0),
        Transition(target, Leapfrog(jnp.asarray(0.5), 3)),
        starts,
        interval,
        num_steps=200,
    )
    assert moving[0] == 0
    assert np.isfinite(moving).all()
    assert (moving[1:] >= 3).all()
    assert (moving % 3 == 0).all()


def test_the_page_holds_every_figure_and_fetches_nothing():
    cells = all_cells()
    page = render(cells)
    tags = parsed(page)
    images = [attrs["src"] for tag, attrs in tags if tag == "img"]
    # 1a, scg, mog, mog-asym, mog2, look-ahead.
    assert len(images) == 6
    assert all(len(source) > 2000 for source in images)
    for caption in (
        "Figure 1a",
        "Figure 1b, SCG",
        "Figure 1b, MoG",
        "Figure 1c",
        "Figure 1d",
        "Appendix",
    ):
        assert caption in page
    assert f"{len(GOALS)} of {len(GOALS)} goals are met" in page
    assert page.count('class="good"') == len(GOALS)
    assert all(f">{target}<" in page for target in TOY_TARGETS)


def test_cells_are_loaded_in_order(tmp_path):
    for found in all_cells(2).values():
        for each in reversed(found):
            path = tmp_path / f"{each['target']}-{each['seed']}"
            path.mkdir()
            (path / "cell.json").write_text(json.dumps(each))
    (tmp_path / "unfinished").mkdir()
    loaded = load_cells(tmp_path)
    assert tuple(loaded) == TOY_TARGETS
    assert [c["seed"] for c in loaded["mog"]] == [0, 1]


def command(out, targets):
    """The command with the smoke preset in this process; the cells have processes of their own, as
    for a user.
    """
    words = [
        "paper",
        "toy",
        "--preset",
        "smoke",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--targets",
        targets,
    ]
    done = CliRunner().invoke(app, [*words, "--out", str(out)], env=ENVIRONMENT)
    logs = {path.parent.name: path.read_text()[-2000:] for path in out.glob("cells/*/log.txt")}
    assert done.exit_code == 0, (done.output, done.exception, logs)
    return done


def test_the_whole_command_and_that_it_goes_on_where_it_stopped(tmp_path):
    out = tmp_path / "toy"
    specs = plan(["icg", "rough-well"], 1, "smoke", out)
    specs[0].path.mkdir(parents=True)
    finished = specs[0].path / "cell.json"
    finished.write_text(before := json.dumps(cell("icg") | {"preset": "smoke"}))
    said = command(out, "icg, rough-well").stderr
    assert "1 of 2 cells to run" in said
    assert "2/2" in said
    assert finished.read_text() == before
    assert plan(["icg", "rough-well"], 1, "smoke", out) == specs, "the new cell is of this preset"
    assert all(spec.done for spec in specs), "called again, it would run nothing"
    cells = load_cells(out / "cells")
    assert list(cells) == ["icg", "rough-well"]
    rows = cells["rough-well"][0]["samplers"]
    assert {
        "l2hmc",
        "l2hmc dispersed",
        "hmc",
        "hmc_paper",
        "hmc_best",
        "nuts",
        "lookahead",
    } == rows.keys()
    assert rows["hmc"]["num_leapfrogs"] == 10
    page = (out / "toy.html").read_text()
    parsed(page)
    assert re.search(r"\d of 3 goals are met", page)


@pytest.mark.slow
def test_the_whole_command_on_targets_with_modes(tmp_path):
    out = tmp_path / "toy"
    assert "2/2" in command(out, "mog, mog-asym").stderr
    cells = load_cells(out / "cells")
    rows = cells["mog"][0]["samplers"]
    assert {
        "l2hmc",
        "l2hmc dispersed",
        "l2hmc mode 0",
        "l2hmc mode 1",
        "hmc",
        "hmc mode 0",
    } <= rows.keys()
    assert rows["hmc mode 1"]["mode_weights"] == [0, 1]
    assert set(cells["mog"][0]["burn_in"]["samplers"]) == {"l2hmc", "l2hmc_burn_in", "hmc"}
    assert {"nice", "nice mode 0", "nice mode 1"} <= cells["mog-asym"][0]["samplers"].keys()
    parsed((out / "toy.html").read_text())
