"""Stages and their folders: what is refused, what is done again, what a report leaves out."""

import numpy as np
import pytest

from capriole.dlgm import Dataset, settings_for, train_stage
from capriole.dlgm._figures import likelihood_curves

pytestmark = pytest.mark.usefixtures("standard_promotion")


def settings(**more):
    small = {"latent": 2, "hidden": 8, "elbo_batch": 25, "elbo_epochs": 2, "validation_images": 10, "curve_images": 5}
    return settings_for("smoke", **(small | {"curve_temperatures": 3, "curve_chains": 2, "elbo_curve_every": 1} | more))


@pytest.fixture(scope="module")
def data():
    """Two blurred shapes on 16 pixels."""
    rng = np.random.default_rng(0)
    shape = np.where(np.arange(16) < 8, 0.9, 0.1)[:, None]
    labels = rng.integers(0, 2, 120)
    grey = np.where(labels, shape, 1 - shape).astype(np.float32)
    return Dataset(grey[:, :100], labels[:100], grey[:, 100:], labels[100:], 4)


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
