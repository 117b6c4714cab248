"""Stages and their folders: what is refused, what is done again, what a report leaves out."""

import numpy as np
import pytest

from capriole.dlgm import CheckpointError, Dataset, settings_for, train_stage
from capriole.dlgm._figures import likelihood_curves
from capriole.dlgm._files import read_json, write_json

pytestmark = pytest.mark.usefixtures("standard_promotion")


def settings(**more):
    small = {"latent": 2, "hidden": 8, "elbo_batch": 25, "elbo_epochs": 2, "validation_images": 10, "batch": 20}
    return settings_for(
        "smoke",
        **(small | {"curve_images": 5, "curve_temperatures": 3, "curve_chains": 2, "elbo_curve_every": 1} | more),
    )


@pytest.fixture(scope="module")
def data():
    """Two blurred shapes on 16 pixels."""
    rng = np.random.default_rng(0)
    shape = np.where(np.arange(16) < 8, 0.9, 0.1)[:, None]
    labels = rng.integers(0, 2, 120)
    grey = np.where(labels, shape, 1 - shape).astype(np.float32)
    return Dataset(grey[:, :100], labels[:100], grey[:, 100:], labels[100:], 4)


@pytest.mark.parametrize(
    ("scheme", "wrong", "words"),
    [
        ("vae", {}, "unknown scheme"),
        ("elbo", {"elbo_batch": 91}, "larger than the training set of 90"),
        ("elbo", {"validation_images": 100}, "cannot hold out"),
        ("l2hmc", {"frame": "square"}, "unknown frame"),
    ],
)
def test_what_cannot_be_trained_writes_nothing(scheme, wrong, words, data, tmp_path):
    with pytest.raises(ValueError, match=words):
        train_stage(scheme, settings(**wrong), data, seed=0, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_that_nothing_was_trained_with_are_replaced_and_others_are_not(data, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("capriole.dlgm._stages.train_dlgm", stop)
        with pytest.raises(KeyboardInterrupt):
            train_stage("hmc", settings(), data, seed=4, folder=tmp_path)
    train_stage("elbo", settings(), data, seed=0, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"other settings: elbo_batch is 25 there, 20 here; choose another"):
        train_stage("elbo", settings(elbo_batch=20), data, seed=0, folder=tmp_path)


@pytest.mark.parametrize("content", [{"target": "mog"}, {"scheme": "gibbs", "seed": 0, "settings": {}}, [1]])
def test_a_folder_of_another_command_is_refused_and_left_alone(content, data, tmp_path):
    path = write_json(tmp_path / "config.json", content)
    with pytest.raises(CheckpointError, match="does not describe a latent-variable model"):
        train_stage("elbo", settings(), data, seed=0, folder=tmp_path)
    assert read_json(path) == content


def test_a_validation_score_that_is_not_finite_stops_the_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr("capriole.dlgm._stages.curve_point", lambda *_: {"validation_log_likelihood": float("nan")})
    with pytest.raises(ValueError, match="not finite in epoch 1; use smaller learning rates"):
        train_stage("elbo", settings(), data, seed=0, folder=tmp_path)


def test_curves_of_figure_2_leave_out_what_was_not_finite():
    names = ("epoch", "num_gradients", "validation_log_likelihood", "train_log_likelihood")
    history = [dict(zip(names, values, strict=True)) for values in ((1, 10, -90.0, None), (2, 20, None, -80.0))]
    axes = likelihood_curves({"hmc": [history]}).axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, -90]], [[2, -80]]]
    assert axes.get_ylim()[1] == pytest.approx(-78)
