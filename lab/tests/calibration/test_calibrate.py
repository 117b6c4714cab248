"""`capriole-lab calibrate` in short: each procedure passes a sound kernel and finds a bug; page,
verdict, command.
"""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from capriole.fitting import hmc_move
from capriole.kernels import Mixture, Transition
from capriole_lab.calibration import BUGS, NormalModel, Posterior
from capriole_lab.calibration import _cell as _calibrate
from capriole_lab.calibration import _examine_target as _calibrate_target
from capriole_lab.calibration._cases import KERNEL, Case, cases, row
from capriole_lab.calibration._examine_model import IGNORES_DATA, SBC, Examination
from capriole_lab.calibration._settings import (
    LEVEL,
    MODELS,
    SHARE,
    SUBJECTS,
    TARGETS,
    calibrate_settings,
    plan,
)
from capriole_lab.calibration.report._report import lead, load_cells, render, write_report
from capriole_lab.calibration.report._tables import bug_rows, kernel_rows, sbc_rows, verdicts
from capriole_lab.cli._app import app
from capriole_lab.targets import Banana
from kernels import learned
from pages import parsed

SMALL = replace(
    calibrate_settings("smoke"),
    train_steps=40,
    num_draws=4000,
    replicates=1500,
    num_sets=150,
    num_probe=100,
    num_warmup=60,
)
SOUND, BROKEN = Case(KERNEL, "pass"), Case("inverted ratio", "reject", BUGS["inverted ratio"])


@pytest.fixture(scope="module")
def examination():
    """Large random networks: exactness must not depend on training, and log-dets of order 1 leave
    bugs no cover.
    """
    model = NormalModel()
    _, data = model.draw(jax.random.key(0), 1)
    target = Posterior(model, data[:, 0], jnp.ones(()))
    dynamics = learned(2, 0.25, heads=0.7, context=model.rows)(2, jnp.dtype("float64"))
    kernel = Mixture((Transition(target, dynamics, data), hmc_move(0.3, target)), (0.5, 0.5))
    return Examination(model, kernel, jax.random.key(0), SMALL)


@pytest.mark.parametrize("procedure", ["rank_test", "two_samples", "calibrate"])
def test_every_procedure_passes_a_sound_kernel_and_finds_a_planted_bug(examination, procedure):
    run = getattr(examination, procedure)
    sound, broken = run(SOUND, 0), run(BROKEN, 1)
    assert not sound["rejected"], sound
    assert broken["rejected"], broken
    assert set(sound["p_values"]) == {"mean", "log scale", "log likelihood", "log posterior"}
    assert sound["p"] > broken["p"]
    assert sound.get("moved", 1.0) > 0.9
    assert ("moved" in sound) == (procedure == "two_samples")


def test_only_what_depends_on_the_data_gives_away_a_sampler_that_ignores_them(examination):
    found = examination.ignore_data()
    assert found["rejected"]
    assert found["by"] in ("log likelihood", "log posterior")
    assert min(found["p_values"][name] for name in ("mean", "log scale")) > SHARE
    assert set(examination.counts[IGNORES_DATA]) == set(found["p_values"])
    assert all(
        sum(counts) == SMALL.num_sets for counts in examination.counts[IGNORES_DATA].values()
    )


def test_cases_go_from_gross_to_slight(examination):
    few, many = (list(cases(examination.kernel, slight=slight)) for slight in (False, True))
    assert few[0] == SOUND
    assert sum(case.expected == "pass" for case in many) <= 2, (
        "levels are shared by two sound kernels of a subject"
    )
    assert {case.name for case in few} < {case.name for case in many}
    assert {case.expected for case in many} == {"pass", "somewhere", "reject", "measure"}
    assert [case.power for case in many if case.expected == "reject"] == [2.0]


class Unexamined(Examination):
    """Makes the rows of a trial without holding it."""

    def rank_test(self, case, number):
        return row("any", case, {"x": 1.0})

    two_samples = calibrate = rank_test

    def ignore_data(self):
        return self.rank_test(Case(IGNORES_DATA, "reject"), 0)


def test_levels_of_all_rows_that_must_pass_add_up(examination, monkeypatch):
    """Of kernels with networks, which are stirred as well: no subject has more rows."""
    unmoved = SimpleNamespace(
        end=np.zeros((2, SMALL.num_draws)), acceptance_rate=1.0, log_det_sd=0.0
    )
    monkeypatch.setattr(_calibrate_target, "walk", lambda *args, **options: unmoved)
    monkeypatch.setattr(_calibrate_target, "invariance_p", lambda *args: {"x": 1.0})
    kernel = Transition(Banana(), learned(2, 0.25, heads=0.7)(2, jnp.dtype("float64")))
    of_target = _calibrate_target.examine_target(Banana(), kernel, jax.random.key(0), SMALL)["rows"]
    of_model = Unexamined(
        examination.model, examination.kernel, jax.random.key(0), SMALL
    ).diagnose_logdensity()["rows"]
    num = [sum(row["expected"] == "pass" for row in rows) for rows in (of_target, of_model)]
    assert (len(TARGETS) * num[0] + len(MODELS) * num[1]) * SHARE == pytest.approx(LEVEL)


def test_a_row_is_rejected_where_bonferronis_p_is_not_above_the_share():
    assert row("x", SOUND, {"a": 1.0, "b": SHARE / 2})["rejected"]
    assert not row("x", SOUND, {"a": 1.0, "b": SHARE / 2, "c": 1.0})["rejected"]


@pytest.mark.usefixtures("standard_promotion")
def test_a_cell_of_a_target_is_trained_examined_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(_calibrate, "calibrate_settings", lambda preset: SMALL)
    _calibrate.run_cell("banana", 0, "smoke", tmp_path / "cells" / "banana-0")
    cells = load_cells(tmp_path / "cells")
    cell = cells["banana"]
    assert {"settings", "seed", "versions", "cores", "dtype", "preset", "kernel"} <= set(cell)
    by_case = {row["case"]: row for row in cell["rows"]}
    assert not by_case[KERNEL]["rejected"]
    assert by_case[KERNEL]["squared_jump"] > 0.1
    assert by_case["no kinetic energy"]["rejected"]
    assert by_case["target to the power 2"]["rejected"]
    report = write_report(tmp_path / "cells", tmp_path / "page.html")
    assert len(report.lines) == 4
    parsed(report.path.read_text())
    assert (tmp_path / "banana-p-values.png").stat().st_size > 5000


def made_up(subject, procedure, changes=(), **facts):
    """A cell in which everything is as it must be, but for ``changes`` by case."""
    expected = {KERNEL: "pass", "no Jacobian": "somewhere", "target to the power 2": "reject"}
    expected |= {"target to the power 1.5": "measure", "target to the power 1.2": "measure"}
    rows = []
    for case, must in expected.items():
        p = dict(changes).get(case, 0.5 if must == "pass" else 1e-9)
        found = {
            "procedure": procedure,
            "case": case,
            "expected": must,
            "rejected": p < SHARE,
            "p": p,
            "by": "x0",
        }
        rows.append(
            found | {"p_values": {"x0": p, "log likelihood": p, "log posterior": p}} | facts
        )
    place = {
        "subject": subject,
        "seed": 0,
        "preset": "laptop",
        "share": SHARE,
        "level": LEVEL,
        "dim": 2,
    }
    made = {
        "kernel": "L2HMC",
        "training_seconds": 1.0,
        "seconds": 2.0,
        "versions": {"jax": "1"},
        "cores": 2,
    }
    return place | made | {"dtype": "float64", "device": "cpu", "rows": rows}


def test_the_verdict_names_what_is_wrong():
    cells = {name: made_up(name, "exact draws", squared_jump=1.0) for name in ("banana", "mog")}
    assert all(v.passed for v in verdicts(cells))
    cells["mog"] = made_up("mog", "exact draws", {"no Jacobian": 0.3}, squared_jump=1.0)
    assert all(v.passed for v in verdicts(cells)), "one subject is enough"
    assert bug_rows(cells) == [["no Jacobian", "exact draws", "banana", "mog"]]
    cells["banana"] = made_up(
        "banana",
        "exact draws",
        {KERNEL: 1e-7, "no Jacobian": 0.3, "target to the power 2": 0.2},
        squared_jump=0.01,
    )
    texts = [v.text for v in verdicts(cells) if not v.passed]
    assert len(texts) == 4
    models = {
        "normal": made_up("normal", "two samples", moved=0.9),
        "other": made_up("other", "rank test"),
    }
    assert verdicts(models)[1].text == "sound kernels that hardly move: 0 of 1"
    models["hierarchy"] = made_up("hierarchy", "two samples", moved=0.0)
    assert verdicts(models)[1].text == "sound kernels that hardly move: 1 of 2: hierarchy"
    assert "seed 0" in lead(models)
    assert f"probability {LEVEL:g} at most" in lead(models)
    both = {"normal": models["normal"], "normal-seed-1": models["normal"] | {"seed": 1}}
    assert "seeds 0, 1" in lead(both)
    assert f"probability {2 * LEVEL:g} at most" in lead(both)
    assert "sound kernels rejected: 1 of 2: banana (exact draws, x0)" in texts
    assert (
        "wrong targets and samplers missed: 1 of 2: target to the power 2, banana (exact draws)"
        in texts
    )


def test_the_smallest_bias_found_is_the_last_before_the_first_miss():
    cells = {"mog": made_up("mog", "exact draws", {"target to the power 1.5": 0.3})}
    assert kernel_rows(cells)[0][4:] == ["pass", "2", "0"]
    cells = {"mog": made_up("mog", "exact draws", {"no Jacobian": 0.3})}
    assert kernel_rows(cells)[0][4:] == ["pass", "1.2", "none"]


def test_the_page_of_a_model_holds_its_ranks():
    cell = made_up("normal", SBC, thin=3, low_ess=20.0, median_ess=40.0)
    counts = {name: [10] * 20 for name in ("mean", "log likelihood")}
    cell["calibration"] = {
        "counts": {KERNEL: counts, IGNORES_DATA: counts},
        "low": [0] * 19,
        "high": [200] * 19,
        "num": 200,
    }
    tags = parsed(render({"normal": cell}))
    assert sum(tag == "img" for tag, _ in tags) == 2
    assert sbc_rows({"normal": cell})[0][2:4] == ["3", "20, 40"]


def test_what_is_unknown_is_refused(tmp_path):
    runner = CliRunner()
    for arguments, words in (
        (["--only", "donut"], "'donut'"),
        (["--preset", "huge"], "preset 'huge'"),
    ):
        found = runner.invoke(app, ["calibrate", "--out", str(tmp_path), *arguments])
        assert found.exit_code == 2
        assert words in found.output
    with pytest.raises(ValueError, match="no finished cell"):
        write_report(tmp_path, tmp_path / "page.html")


def test_the_command_reports_finished_cells_and_fails_for_a_kernel_that_is_rejected(tmp_path):
    specs = plan([], 0, "laptop", tmp_path)
    assert [spec.target for spec in specs] == list(SUBJECTS)
    for spec in specs[:1]:
        spec.path.mkdir(parents=True)
        (spec.path / "cell.json").write_text(
            json.dumps(made_up(spec.target, "exact draws", squared_jump=1.0))
        )
    found = CliRunner().invoke(app, ["calibrate", "--out", str(tmp_path), "--only", "banana"])
    assert found.exit_code == 0, found.output
    assert found.output.count("pass  ") == 4
    bad = made_up("banana", "exact draws", {KERNEL: 1e-9}, squared_jump=1.0)
    (specs[0].path / "cell.json").write_text(json.dumps(bad))
    found = CliRunner().invoke(app, ["calibrate", "--out", str(tmp_path), "--only", "banana"])
    assert found.exit_code == 3
    assert "FAIL  sound kernels rejected: 1 of 1" in found.output


def test_ranks_on_paths_leave_the_values_as_they_were(examination):
    values = np.arange(12.0).reshape(3, 4)
    ranks = examination._rank(values, np.array([0, 1, 2, 0]))
    assert ranks.tolist() == [0, 1, 2, 0]
    assert np.isfinite(values).all()
