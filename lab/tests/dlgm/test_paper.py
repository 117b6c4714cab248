"""Everything from the command line on 8 x 8 digits: stages, report, interruption, errors."""

import importlib.util
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from capriole_lab.cli._app import app
from capriole_lab.dlgm import PosteriorDraws, build, settings_for, write_report
from capriole_lab.dlgm.files._files import plain, read_json, write_json
from capriole_lab.dlgm.measures._sampling import GRIDS, tune_hmc

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.filterwarnings("default")]


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("paper")
    with jax.numpy_dtype_promotion("standard"):
        done = call("paper", "dlgm", "--preset", "smoke", "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_the_whole_section_runs_and_its_report_has_every_figure(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 7  # 2, 3a three times, 3b, 4, 5
    assert page.count("<p>The paper: ") == 4
    assert not re.search(r'(src|href)="(?!data:|#)', page), "one file, nothing fetched"
    assert re.search(r"sizes\); median \|skewness\| \d\.\d\d\.", page)
    results = read_json(finished / "results.json")
    assert [m["scheme"] for m in results["models"]] == ["elbo", "hmc", "l2hmc"]
    for m in results["models"]:
        test = m["evaluation"]["test"]
        assert -64 * np.log(2) < test["log_likelihood"] < 0
        assert len(test["per_image"]) == test["num_images"] == 10
        best = max(m["curve"], key=lambda record: record["validation_log_likelihood"])
        assert m["epoch"] == best["epoch"] in (1, 2)
    assert [(d["of"], d["less"]) for d in results["differences"]] == [
        ("l2hmc", "hmc"), ("l2hmc", "elbo"), ("hmc", "elbo"),
    ]  # fmt: skip
    l2hmc = results["models"][2]
    sampling = l2hmc["sampling"]
    assert sampling["in_training"]["num_leapfrogs"] == 3
    assert sampling["in_training"]["frame_gradients"] == 0 < sampling["kernel"]["frame_gradients"]
    frame, length = (sampling["kernel"][name] for name in ("frame_gradients", "num_leapfrogs"))
    # 8 images of 8 angles with 4 chains, 32 steps of 2, 3 and 5 leapfrogs; then 5 steps of 10
    # images, 2 transitions.
    tuning = 8 * 8 * 4 * 32 * (2 + 3 + 5) + 3 * 8 * frame
    assert sampling["refit"]["num_gradients"] == tuning + 5 * 10 * (2 + frame + 2 * length)
    assert results["models"][0]["burn_in"] is None
    assert set(l2hmc["burn_in"]["shortfall"]) == {"0", "1", "2", "3", "5", "10", "20"}
    assert "difference" not in results["models"][0]["inpainting"]
    assert {"encoder", "kept", "kept_difference"} < set(results["models"][0]["inpainting"])
    kernel, q, paired = (
        l2hmc["inpainting"][name]["distinct_classes"]["mean"]
        for name in ("sampler", "encoder", "difference")
    )
    assert paired == pytest.approx(kernel - q)
    counted = {
        name: l2hmc["inpainting"][name]["counts"]["true"]
        for name in ("sampler", "encoder", "difference")
    }
    for figure in ("visited", "reached", "total_variation"):
        kernel, q, less = (
            counted[name][figure]["mean"] for name in ("sampler", "encoder", "difference")
        )
        assert less == pytest.approx(kernel - q)
    assert (
        counted["sampler"]["visited"]["mean"]
        == l2hmc["inpainting"]["sampler"]["distinct_classes"]["mean"]
    )
    assert l2hmc["inpainting"]["reference"]["num_chains"] == 4
    assert "the sampler less q" in page
    assert {"confident_classes", "log_likelihood"} < set(l2hmc["inpainting"]["patience"])


def test_calling_again_does_nothing_again(finished):
    names = ["l2hmc-0/checkpoint.safetensors", "l2hmc-0/evaluation.json", "l2hmc-0/posterior.json"]
    before = [(finished / name).stat().st_mtime_ns for name in names]
    done = call("paper", "dlgm", "--preset", "smoke", "--out", finished)
    assert done.exit_code == 0, done.output
    assert before == [(finished / name).stat().st_mtime_ns for name in names]


def test_single_stages_answer_from_the_folder(finished):
    place = finished / "l2hmc-0"
    assert "sandwich gap" in call("dlgm", "evaluate", place).output
    painted = call("dlgm", "inpaint", place).output
    assert (
        painted.count("distinct classes per image")
        == painted.count("total variation from the reference")
        == 2
    )
    assert "clearly not Gaussian" in call("dlgm", "posterior", place).output
    assert read_json(place / "posterior.json")["image"] == 0
    shown = call("dlgm", "evaluate", place, "--json").output
    assert json.loads(shown[shown.index("{") :])["scheme"] == "l2hmc"
    assert "report.html" in call("dlgm", "report", finished).output


def test_the_script_that_checks_the_reference_runs(finished, monkeypatch):
    script = Path(__file__).parents[2] / "scripts" / "dlgm_reference.py"
    spec = importlib.util.spec_from_file_location("dlgm_reference", script)
    checking = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checking)
    monkeypatch.setattr(checking, "AMBIGUOUS", 1.1)
    monkeypatch.setattr(
        checking, "AIS", {"num_temperatures": 20, "num_chains": 50, "num_leapfrogs": 3}
    )
    found = checking.check(finished / "l2hmc-0")
    assert found["images"] == list(range(6))
    assert 25 < found["worth"] <= 50
    # Few draws make the reference, too: 0.16 where 0.08 would be chance. Of another image's shares,
    # 0.6 at the least.
    assert found["total_variation"]["mean"] < found["expected"]["mean"] + 0.25
    assert 0.02 < found["expected"]["mean"] < 0.2
    assert checking.chance(np.array([0.5, 0.5]), 10_000) == pytest.approx(
        np.sqrt(2 / np.pi) * 0.005, rel=0.2
    )


def test_tuning_takes_what_has_most_effective_draws_per_gradient_of_the_whole_grid(monkeypatch):
    """Nearly independent draws at 2 leapfrogs; beside them independent ones at 5, and at 3 pairs z,
    -z.
    """
    angles, chains, rng = GRIDS["guided_hmc"][1], 4, np.random.default_rng(0)
    free = rng.normal(size=(2, len(angles), chains, 400, 3))
    slow = np.repeat(free[:, :, :, ::10], 10, axis=3)
    turned = np.where(np.arange(400)[:, None] % 2, -np.roll(free, 1, axis=3), free)
    nearly = free + 0.15 * np.roll(free, 1, axis=3)
    kinds = {(2, angles[5]): nearly, (3, angles[1]): turned, (5, angles[6]): free}

    def draw(key, model, images, *, num_chains, num_steps):
        length, angle = int(model.dynamics.num_gradients), np.asarray(model.dynamics.dynamics.angle)
        each = angle.reshape(2, len(angles), chains)
        assert num_chains == chains * len(angles)
        assert (each == np.asarray(angles, angle.dtype)[:, None]).all()
        drawn = [kinds.get((length, a), slow)[:, i] for i, a in enumerate(angles)]
        return PosteriorDraws(np.concatenate(drawn, axis=1), 0.9)

    monkeypatch.setattr("capriole_lab.dlgm.measures._sampling.draw_posterior", draw)
    settings = settings_for("smoke", latent=3, hidden=4, frame="curvature")
    model = build("l2hmc", settings, 6, 0)[0].model
    found = tune_hmc(jax.random.key(0), model, jnp.zeros((6, 2)), "guided_hmc", settings).dynamics
    assert (int(found.num_leapfrogs), float(found.angle)) == (2, pytest.approx(angles[5]))


def test_other_settings_in_the_same_folder_are_refused(finished):
    done = call(
        "dlgm",
        "train",
        "--scheme",
        "elbo",
        "--preset",
        "smoke",
        "--seed",
        1,
        "--out",
        finished / "elbo-0",
    )
    assert done.exit_code == 2
    assert "other settings" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dlgm", "evaluate", "nowhere"), "train first"),
        (("dlgm", "report", "nowhere"), "no trained model"),
        (("dlgm", "train", "--preset", "huge"), "unknown preset"),
        (("dlgm", "train", "--preset", "smoke", "--scheme", "vae", "--out", "x"), "unknown scheme"),
        (
            ("dlgm", "train", "--dataset", "mnist", "--data", "nowhere"),
            "no train-images-idx3-ubyte.gz",
        ),
    ],
)
def test_trouble_is_one_line_and_status_2(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_report_without_stages_says_so(finished, tmp_path):
    import shutil

    shutil.copytree(finished / "elbo-0", tmp_path / "elbo-0")
    for name in ("evaluation.json", "inpainting.json"):
        (tmp_path / "elbo-0" / name).unlink()
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No model was evaluated yet." in page
    assert page.count("Not run.") == 4


def test_in_painting_of_an_earlier_version_is_reported_without_its_goal(finished, tmp_path):
    import shutil

    shutil.copytree(finished / "l2hmc-0", tmp_path / "l2hmc-0")
    path = tmp_path / "l2hmc-0" / "inpainting.json"
    old = read_json(path)
    write_json(
        path,
        {
            name: value
            for name, value in old.items()
            if name not in ("difference", "patient", "patience")
        },
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "digit classes per in-painted image" not in page
    write_json(path, old)
    assert "digit classes per in-painted image" in write_report(tmp_path).read_text(
        encoding="utf-8"
    )


def test_json_has_no_nan(tmp_path):
    path = write_json(
        tmp_path / "a.json", {"x": float("nan"), "y": np.float32(1.5), "z": (1, np.arange(2))}
    )
    assert read_json(path) == {"x": None, "y": 1.5, "z": [1, [0, 1]]}
    assert plain(True) is True
