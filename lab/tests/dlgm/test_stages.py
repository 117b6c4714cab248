"""Stages and their folders: what is refused, what is done again, what a report leaves out."""

import shutil
from types import SimpleNamespace

import equinox as eqx
import numpy as np
import pytest

from capriole_lab.dlgm import (
    CheckpointError,
    PosteriorDraws,
    _paper,
    evaluate_stage,
    load_model,
    posterior_stage,
    run_paper,
    settings_for,
    train_stage,
    write_report,
)
from capriole_lab.dlgm.files._files import read_json, save_checkpoint, write_json
from capriole_lab.dlgm.measures._evaluate import fixed_binary
from capriole_lab.dlgm.report._figures import likelihood_curves
from capriole_lab.dlgm.report._report import differences

pytestmark = pytest.mark.usefixtures("standard_promotion")


def settings(**more):
    small = {
        "latent": 2,
        "hidden": 8,
        "elbo_batch": 25,
        "elbo_epochs": 2,
        "validation_images": 10,
        "batch": 20,
    }
    return settings_for(
        "smoke",
        **(
            small
            | {"curve_images": 5, "curve_temperatures": 3, "curve_chains": 2, "elbo_curve_every": 1}
            | more
        ),
    )


@pytest.mark.parametrize(
    ("scheme", "wrong", "words"),
    [
        ("vae", {}, "unknown scheme"),
        ("elbo", {"elbo_batch": 91}, "larger than the training set of 90"),
        ("elbo", {"validation_images": 100}, "cannot hold out"),
    ],
)
def test_what_cannot_be_trained_writes_nothing(scheme, wrong, words, data, tmp_path):
    with pytest.raises(ValueError, match=words):
        train_stage(scheme, settings(**wrong), data, seed=0, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_section_is_refused_before_anything_is_trained_if_one_folder_is_of_other_settings(
    data, tmp_path, monkeypatch
):
    train_stage("elbo", settings(), data, seed=1, folder=tmp_path / "elbo-1")
    monkeypatch.setattr(
        _paper, "train_stage", lambda *_, **__: pytest.fail("nothing is to be trained")
    )
    with pytest.raises(
        CheckpointError, match=r"elbo-1 holds a run with other settings: elbo_batch is 25 there, 20"
    ):
        run_paper(settings(elbo_batch=20, seeds=2), data, tmp_path)


def test_seeds_that_were_evaluated_otherwise_are_in_no_difference(data, tmp_path, monkeypatch):
    """Of three seeds one with fewer images: the mean is that of the two others, and says that one
    is left out.
    """
    gained = {0: [1.0, 2.0], 1: [3.0, 2.0], 2: [50.0]}

    def model(scheme, seed):
        each = [value if scheme == "hmc" else 0.0 for value in gained[seed]]
        stored = {"ais": {"num_chains": 4}, "test": {"num_images": len(each), "per_image": each}}
        return SimpleNamespace(scheme=scheme, seed=seed, stage=lambda name: stored)

    by_scheme = {scheme: [model(scheme, seed) for seed in gained] for scheme in ("elbo", "hmc")}
    (found,) = differences(by_scheme)
    assert (found["of"], found["less"], found["mean"], found["left_out"]) == ("hmc", "elbo", 2.0, 1)
    assert found["by_seed"] == [1.5, 2.5]


def test_settings_that_nothing_was_trained_with_are_replaced_and_others_are_not(
    data, tmp_path, monkeypatch
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("capriole_lab.dlgm._stages.train_dlgm", stop)
        with pytest.raises(KeyboardInterrupt):
            train_stage("hmc", settings(), data, seed=4, folder=tmp_path)
    train_stage("elbo", settings(), data, seed=0, folder=tmp_path)
    with pytest.raises(
        CheckpointError, match=r"other settings: elbo_batch is 25 there, 20 here; choose another"
    ):
        train_stage("elbo", settings(elbo_batch=20), data, seed=0, folder=tmp_path)


@pytest.mark.parametrize(
    "content", [{"target": "mog"}, {"scheme": "gibbs", "seed": 0, "settings": {}}, [1]]
)
def test_a_folder_of_another_command_is_refused_and_left_alone(content, data, tmp_path):
    path = write_json(tmp_path / "config.json", content)
    with pytest.raises(CheckpointError, match="does not describe a latent-variable model"):
        train_stage("elbo", settings(), data, seed=0, folder=tmp_path)
    assert read_json(path) == content


def test_a_validation_score_that_is_not_finite_stops_the_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "capriole_lab.dlgm._stages.curve_point",
        lambda *_: {"validation_log_likelihood": float("nan")},
    )
    with pytest.raises(ValueError, match="not finite in epoch 1; use smaller learning rates"):
        train_stage("elbo", settings(), data, seed=0, folder=tmp_path)


def test_curves_of_figure_2_leave_out_what_was_not_finite():
    names = ("epoch", "num_gradients", "validation_log_likelihood", "train_log_likelihood")
    history = [
        dict(zip(names, values, strict=True))
        for values in ((1, 10, -90.0, None), (2, 20, None, -80.0))
    ]
    axes = likelihood_curves({"hmc": [history]}).axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, -90]], [[2, -80]]]
    assert axes.get_ylim()[1] == pytest.approx(-78)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A folder with a VAE in ``elbo-0``."""
    import jax

    folder = tmp_path_factory.mktemp("models")
    with jax.numpy_dtype_promotion("standard"):
        train_stage("elbo", settings(), data, seed=0, folder=folder / "elbo-0")
    return folder


@pytest.fixture
def models(trained, tmp_path):
    """A copy of it, for tests that change files."""
    shutil.copytree(trained / "elbo-0", tmp_path / "elbo-0")
    return tmp_path


def pretend(monkeypatch):
    """Evaluations that cost nothing; the list has the settings of those that were made."""
    done = []

    def evaluate(key, model, train, test, settings, progress=None):
        done.append(settings)
        one = {
            "log_likelihood": -9.0,
            "se": 0.1,
            "ais_error": 0.1,
            "importance_bound": -10.0,
            "num_images": 2,
        }
        return {
            "ais": {"num_temperatures": settings.ais_temperatures},
            "train": one,
            "test": one | {"per_image": [-8.5, -9.5]},
            "sandwich": {"gap": 0.5, "gap_se": 0.1},
        }

    monkeypatch.setattr("capriole_lab.dlgm._stages.evaluate", evaluate)
    return done


def test_a_stage_is_done_again_for_other_settings_of_its_own_and_for_another_model(
    data, models, monkeypatch
):
    done, place = pretend(monkeypatch), models / "elbo-0"
    first = evaluate_stage(load_model(place, data), data)
    assert first["settings"]["ais_temperatures"] == 20
    for unrelated in ({}, {"inpaint_images": 3, "learning_rate": 0.5}):
        train_stage("elbo", settings(**unrelated), data, seed=0, folder=place)
        assert evaluate_stage(load_model(place, data), data) == first
    assert len(done) == 1
    train_stage("elbo", settings(ais_temperatures=50), data, seed=0, folder=place)
    again = evaluate_stage(load_model(place, data), data)
    assert again["settings"]["ais_temperatures"] == again["ais"]["num_temperatures"] == 50
    loaded = load_model(place, data)
    other = eqx.tree_at(
        lambda m: m.decoder.network.biases[0], loaded.model, replace_fn=lambda b: b + 1
    )
    facts = {"epoch": loaded.epoch, "validation_log_likelihood": -1.0}
    save_checkpoint(place / "best.safetensors", other, facts)  # trained anew, the same epoch kept
    assert (
        evaluate_stage(load_model(place, data), data)["checkpoint_sha256"]
        != first["checkpoint_sha256"]
    )
    assert len(done) == 3


def test_a_report_leaves_out_stages_of_other_models_and_settings_and_says_so(
    data, models, monkeypatch
):
    pretend(monkeypatch)
    place = models / "elbo-0"
    stored = evaluate_stage(load_model(place, data), data)
    assert "-9.00 ± 0.10" in write_report(models, data).read_text(encoding="utf-8")
    old = {
        name: value
        for name, value in stored.items()
        if name not in ("settings", "checkpoint_sha256")
    }
    write_json(place / "evaluation.json", old)
    assert "-9.00 ± 0.10" not in write_report(models, data).read_text(encoding="utf-8"), (
        "of which model is not said"
    )
    write_json(
        place / "evaluation.json", stored | {"settings": stored["settings"] | {"ais_chains": 99}}
    )
    page = write_report(models, data).read_text(encoding="utf-8")
    assert "-9.00 ± 0.10" not in page
    assert "elbo-0/evaluation.json. Run these stages again." in page
    assert read_json(models / "results.json")["models"][0]["evaluation"] is None


def test_a_report_refuses_models_that_were_not_trained_alike(data, models):
    shutil.copytree(models / "elbo-0", models / "elbo-1")
    for name, value in (("dataset", "mnist"), ("elbo_learning_rate", 0.5)):
        config = read_json(models / "elbo-0" / "config.json")
        config["settings"][name] = value
        write_json(models / "elbo-1" / "config.json", config)
        with pytest.raises(
            ValueError,
            match=f"elbo-0 and .*elbo-1 were not trained alike: {name} is .* and {value}",
        ):
            write_report(models, data)
    config = read_json(models / "elbo-0" / "config.json")
    config["settings"] |= {
        "learning_rate": 0.5,
        "num_leapfrogs": 9,
        "inpaint_images": 2,
    }  # nothing to a VAE's training
    write_json(models / "elbo-1" / "config.json", config)
    write_report(models, data)


def test_an_unfinished_model_is_shown_as_such_and_is_in_no_comparison(data, models, monkeypatch):
    pretend(monkeypatch)

    def interrupt(event):
        if event.step > 3:  # in the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stage("elbo", settings(), data, seed=1, folder=models / "elbo-1", progress=interrupt)
    for name in ("elbo-0", "elbo-1"):
        evaluate_stage(load_model(models / name, data), data)
    page = write_report(models, data).read_text(encoding="utf-8")
    assert "1 of 1, unfinished: 1 of 2 epochs" in page
    assert page.count("-9.00 ± 0.10") == 2, "test and train of the finished one"
    results = read_json(models / "results.json")
    assert [m["seed"] for m in results["models"]] == [0]
    assert [(m["seed"], m["epochs"]) for m in results["unfinished"]] == [(1, 1)]
    shutil.rmtree(models / "elbo-0")
    page = write_report(models, data).read_text(encoding="utf-8")
    assert "Nothing was evaluated yet." in page
    assert "Figure 2" not in page


def test_the_image_looked_at_closely_does_not_change_the_many(data, models, monkeypatch):
    seen = []

    def draw(key, model, images, *, num_chains, **_):
        seen.append(np.asarray(images))
        return PosteriorDraws(
            np.random.default_rng(0).normal(size=(images.shape[1], num_chains, 9, 2)), 0.9
        )

    monkeypatch.setattr("capriole_lab.dlgm._stages.draw_posterior", draw)
    loaded = load_model(models / "elbo-0", data)
    for image in (0, 3, 7, 19):
        assert posterior_stage(loaded, data, image=image)["image"] == image
        assert posterior_stage(loaded, data, image=image)["many_images"]["num_images"] == 5
        np.testing.assert_array_equal(seen[-1], fixed_binary(data.test, 5))
        assert seen[-2].shape == (16, 1)
        if image < 5:
            np.testing.assert_array_equal(seen[-2][:, 0], seen[-1][:, image])
    assert len(seen) == 8
    with pytest.raises(
        ValueError, match="image 20 is not among the 20 test images; choose one from 0 to 19"
    ):
        posterior_stage(loaded, data, image=20)
