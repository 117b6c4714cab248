"""Training on 8 x 8 digits: it learns, it resumes to the bit, it counts, and its files can be
trusted.
"""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.kernels import Leapfrog, LearnedLeapfrog
from capriole.training import PaperLoss
from capriole_lab.dlgm import (
    SCHEME_NAMES,
    CheckpointError,
    build,
    elbo_step,
    gradients_per_image,
    settings_for,
    train_dlgm,
    tune_step_size,
)
from capriole_lab.dlgm._schemes import SCHEMES
from capriole_lab.dlgm._settings import settings_from
from capriole_lab.dlgm._train import STEP_SIZES
from capriole_lab.dlgm.files._files import load_checkpoint, read_facts, save_checkpoint

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = {
    "latent": 2,
    "hidden": 8,
    "width": 6,
    "embedding": 5,
    "batch": 20,
    "elbo_batch": 25,
    "num_transitions": 2,
    "num_leapfrogs": 2,
    "validation_images": 10,
}


def settings(**more):
    return settings_for("smoke", **(SMALL | {"epochs": 2, "elbo_epochs": 2} | more))


def arrays(model):
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


@pytest.mark.parametrize(
    "scheme", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("elbo", "hmc")), "l2hmc"]
)
def test_a_run_interrupted_within_an_epoch_ends_at_the_same_bits(scheme, data, tmp_path):
    whole = train_dlgm(scheme, settings(), data, seed=3, folder=tmp_path / "whole")

    def interrupt(event):
        if event.step > 5:  # in the second epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_dlgm(scheme, settings(), data, seed=3, folder=tmp_path / "parts", progress=interrupt)
    assert len(read_facts(tmp_path / "parts/checkpoint.safetensors")["history"]) == 1
    resumed = train_dlgm(scheme, settings(), data, seed=3, folder=tmp_path / "parts")
    for a, b in zip(arrays(whole.model), arrays(resumed.model), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }
    lines = (tmp_path / "parts/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert whole.history[0]["step"] == (4 if scheme == "elbo" else 5), (
        "the VAE has a batch of its own"
    )
    assert whole.history[0].get("skipped_updates") == (0 if scheme == "l2hmc" else None)
    assert whole.history[-1]["elbo"] > whole.history[0]["elbo"]
    tuning = 16 * len(STEP_SIZES) * (1 + 2 * 2) if scheme == "hmc" else 0
    each = 100 * gradients_per_image(scheme, settings(), 16) + tuning
    assert [record["num_gradients"] for record in whole.history] == [each, 2 * each]
    assert {leaf.dtype for leaf in arrays(whole.model)} <= {jnp.dtype("float32"), jnp.dtype(bool)}


def test_schemes_of_one_seed_start_from_the_same_encoder_and_decoder():
    models = [build(scheme, settings(), 16, 5)[0].model for scheme in SCHEME_NAMES]
    for other in models[1:]:
        for a, b in zip(arrays(models[0]), arrays((other.encoder, other.decoder)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("preset", ["laptop", "paper"])
def test_schemes_spend_equal_budgets(preset):
    s = settings_for(preset)
    assert gradients_per_image("elbo", s, 784) == 1
    for scheme in ("hmc", "l2hmc"):
        assert s.elbo_epochs == s.epochs * gradients_per_image(scheme, s, 784)


def test_costs_follow_transitions_leapfrogs_and_frame():
    long = {"kernel_transitions": 3, "kernel_leapfrogs": 7}
    guided, curved = (
        settings_for("laptop", frame=frame, **long) for frame in ("guide", "curvature")
    )
    assert gradients_per_image("hmc", guided, 784) == 1 + (1 + 2 * 5) + 1
    assert gradients_per_image("l2hmc", guided, 784) == 1 + (1 + 3 * 7) + 1
    assert gradients_per_image("l2hmc", curved, 784) == 1 + (4 + 1 + 3 * 7) + 1


def test_tuning_takes_long_steps_on_a_flat_posterior_and_short_ones_on_a_steep_one(data):
    state, _ = build("hmc", settings(num_leapfrogs=4, tuning_images=60), 16, 0)
    steep = eqx.tree_at(
        lambda m: m.decoder.network.weights[-1], state.model, replace_fn=lambda w: 20_000 * w
    )
    found = []
    for model in (state.model, steep):
        tuned, cost = tune_step_size(
            jax.random.key(0), model, jnp.asarray(data.train), settings(tuning_images=60)
        )
        found.append(float(tuned.dynamics.step_size))
        assert isinstance(tuned.dynamics, Leapfrog)
        assert cost == 60 * len(STEP_SIZES) * (1 + 4)
    assert found[0] * 4 == pytest.approx(
        np.pi, rel=0.2
    )  # M steps of a rotation to the other side: the longest jump
    assert found[1] < 0.5 * found[0]
    assert min(STEP_SIZES) < found[1]


def test_another_runs_checkpoint_is_not_continued_and_the_last_line_is_made_up_for(data, tmp_path):
    train_dlgm("elbo", settings(), data, seed=0, folder=tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(CheckpointError, match="of another run: seed is 0 there, 1 here"):
        train_dlgm("elbo", settings(), data, seed=1, folder=tmp_path)
    with pytest.raises(
        CheckpointError, match=r"of another run: elbo_learning_rate is 0.001 there, 0.5 here"
    ):
        train_dlgm("elbo", settings(elbo_learning_rate=0.5), data, seed=0, folder=tmp_path)
    (tmp_path / "metrics.jsonl").write_text(
        "".join(lines.splitlines(keepends=True)[:-1])
    )  # killed before the last
    train_dlgm("elbo", settings(ais_images=3, learning_rate=0.5), data, seed=0, folder=tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_damaged_and_foreign_checkpoints_are_refused(data, tmp_path):
    state, _ = build("elbo", settings(), 16, 0)
    path = save_checkpoint(tmp_path / "c.safetensors", state, {"a": 1})
    loaded, facts = load_checkpoint(path, build("elbo", settings(), 16, 1)[0])
    assert facts == {"a": 1}
    for a, b in zip(arrays(loaded), arrays(state), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(CheckpointError, match="holds another model"):
        load_checkpoint(path, build("elbo", settings(hidden=9), 16, 0)[0])
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, state)
    path.write_bytes(content[:100])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_facts(path)
    with pytest.raises(CheckpointError, match="train first"):
        read_facts(tmp_path / "none.safetensors")


def test_bad_settings_name_value_and_remedy(data, tmp_path):
    with pytest.raises(ValueError, match="larger than the training set of 100"):
        train_dlgm("elbo", settings(elbo_batch=101), data, seed=0, folder=tmp_path)
    with pytest.raises(ValueError, match="unknown scheme 'vae'; choose one of elbo"):
        build("vae", settings(), 16, 0)
    with pytest.raises(ValueError, match="unknown objective 'best'"):
        build("l2hmc", settings(objective="best"), 16, 0)
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        settings_for("huge")
    with pytest.raises(ValueError, match="epochs must be positive, got -1"):
        settings_for("smoke", epochs=-1)
    with pytest.raises(
        ValueError, match="inpaint_chains must be at least 2, for a standard error, got 1"
    ):
        settings_for("smoke", inpaint_chains=1)
    with pytest.raises(ValueError, match="unknown settings"):
        settings_from({"colour": 1})


def test_the_papers_own_kernel_has_no_frame(data, tmp_path):
    """Objective `paper`, frame `none`: the learned leapfrog as published, in units of q, from the
    step size.
    """
    own = settings(frame="none", objective="paper", step_size=0.2)
    state, recipe = build("l2hmc", own, 16, 0)
    assert isinstance(state.model.dynamics, LearnedLeapfrog)
    assert isinstance(recipe.objective, PaperLoss)
    trained = train_dlgm("l2hmc", own, data, seed=0, folder=tmp_path)
    sizes = [record["step_size"] for record in trained.history]
    assert sizes[0] == pytest.approx(0.2, rel=0.2)
    assert sizes[-1] != 0.2
    cost = gradients_per_image("l2hmc", own, 16)
    assert cost == gradients_per_image("l2hmc", settings(frame="guide"), 16)
    used = own.training_of("l2hmc")
    assert "step_size" in used
    assert not {"guide", "rotation", "curvature_pixels"} & set(used)


def test_training_stops_at_a_state_that_is_not_finite_and_names_the_epoch(data, tmp_path):
    with pytest.raises(
        ValueError, match=r"training elbo failed in epoch 1: .*ELBO; use a smaller .*holds none"
    ):
        train_dlgm("elbo", settings(elbo_learning_rate=1e30), data, seed=0, folder=tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_one_step_without_a_finite_elbo_is_not_averaged_away(data, tmp_path, monkeypatch):
    def spoilt(key, state, images, recipe):
        state, metrics = elbo_step(key, state, images, recipe)
        return state, metrics._replace(elbo=jnp.where(state.step == 6, jnp.nan, metrics.elbo))

    monkeypatch.setitem(SCHEMES, "elbo", spoilt)
    with pytest.raises(
        ValueError, match="failed in epoch 2: not finite are ELBO; use a smaller elbo_learning_rate"
    ):
        train_dlgm("elbo", settings(), data, seed=0, folder=tmp_path)
    facts = read_facts(tmp_path / "checkpoint.safetensors")
    assert len(facts["history"]) == 1, "the last sound checkpoint stays"


def test_a_checkpoint_that_is_not_finite_is_not_trained_further(data, tmp_path):
    train_dlgm("elbo", settings(), data, seed=0, folder=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    state, facts = load_checkpoint(path, build("elbo", settings(), 16, 0)[0])
    spoilt = eqx.tree_at(
        lambda s: s.model.decoder.network.biases[0], state, replace_fn=lambda b: b * jnp.nan
    )
    save_checkpoint(path, spoilt, facts)
    with pytest.raises(
        ValueError, match=r"in epoch 2: not finite are decoder; .* holds a state that is not sound"
    ):
        train_dlgm("elbo", settings(), data, seed=0, folder=tmp_path)


def test_skipped_updates_of_the_kernel_are_in_the_record(data, tmp_path, monkeypatch):
    def spoilt(start, end, acceptance):
        return jnp.mean(acceptance) * jnp.nan

    monkeypatch.setattr("capriole_lab.dlgm._train.objective_of", lambda s: spoilt)
    history = train_dlgm("l2hmc", settings(), data, seed=0, folder=tmp_path).history
    assert [record["skipped_updates"] for record in history] == [5, 5]
    assert "loss" not in history[0]
    assert np.isfinite(history[1]["elbo"])


def test_a_run_goes_on_under_settings_that_its_scheme_does_not_use():
    others = {
        "elbo": {
            "batch",
            "epochs",
            "curve_every",
            "learning_rate",
            "encoder_learning_rate",
            "num_leapfrogs",
            "frame",
        },
        "hmc": {
            "elbo_batch",
            "elbo_epochs",
            "elbo_curve_every",
            "elbo_learning_rate",
            "kernel_leapfrogs",
            "guide",
        },
        "l2hmc": {
            "elbo_learning_rate",
            "num_transitions",
            "num_leapfrogs",
            "step_size",
            "tuning_images",
        },
    }
    own = {
        "elbo": {
            "elbo_batch",
            "elbo_epochs",
            "elbo_learning_rate",
            "latent",
            "dataset",
            "curve_images",
        },
        "hmc": {
            "batch",
            "epochs",
            "learning_rate",
            "encoder_learning_rate",
            "num_leapfrogs",
            "tuning_images",
        },
        "l2hmc": {
            "batch",
            "epochs",
            "learning_rate",
            "kernel_learning_rate",
            "kernel_transitions",
            "guide",
            "frame",
        },
    }
    for scheme in SCHEME_NAMES:
        used = set(settings().training_of(scheme))
        assert own[scheme] <= used
        assert not used & (others[scheme] | {"ais_images", "seeds"})
    for name, value in (("frame", "curvature"), ("curvature_pixels", 5)):
        same = settings(**{name: value}).training_of("l2hmc") == settings().training_of("l2hmc")
        assert same == (name == "curvature_pixels"), "the guide's kernel has no curvature"
