"""Resuming runs whose kernels are more than a learned leapfrog: mixtures, companions, surrogate
starts, whitening.
"""

import json

import equinox as eqx
import jax
import numpy as np
import pytest

from capriole import load
from capriole.kernels import Mixture
from capriole.runs import DrawStore, RunFolder
from capriole_lab.run import Run, settings_for, settings_from
from capriole_lab.run._recipes import step_size_of
from capriole_lab.targets import TARGETS, make_target
from tiny import stop_at


@pytest.mark.parametrize("target", list(TARGETS))
def test_settings_survive_config_json(target):
    settings = settings_for(target, "laptop")
    assert settings_from(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    "value", ["01", [1.0], [1.0, 0.5], [0.0, 1.0], [0.1, None], [0.1, float("inf")], 3.0]
)
def test_a_range_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="companion_range"):
        settings_from({"companion_range": value})


def run(name, folder, progress=None):
    settings = settings_for(name, "smoke", train_steps=300, num_chains=4, num_steps=30)
    place = RunFolder.open(folder) if (folder / "config.json").exists() else RunFolder(folder)
    target = make_target(name)
    return Run(
        name,
        target,
        settings,
        place,
        preset="smoke",
        seed=0,
        progress=progress,
        checkpoint_seconds=0,
    )


def finish(job, num=30):
    job.train()
    state = job.kernel.init(job._starts("exact", 4))
    job._stream("l2hmc", job.kernel, state, 0, num)
    job.folder.close()


def same(one, other):
    a, b = (
        jax.tree.leaves(eqx.filter(one, eqx.is_array)),
        jax.tree.leaves(eqx.filter(other, eqx.is_array)),
    )
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def _users_promotion():
    """Run as users do; Optax does not work under strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("_users_promotion")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["funnel", "rougher-well"])
def test_a_run_stopped_in_training_and_in_sampling_ends_with_the_same_kernel_and_draws(
    name, tmp_path
):
    whole = run(name, tmp_path / "whole")
    finish(whole)
    stopped = run(name, tmp_path / "run", stop_at(250))
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    stopped.folder.close()
    finish(run(name, tmp_path / "run"), 20)
    again = run(name, tmp_path / "run")
    finish(again)
    assert isinstance(again.kernel, Mixture) == (name == "funnel")
    assert same(whole.kernel, again.kernel)
    assert whole.results["training"]["kept"] == again.results["training"]["kept"]
    loaded = load(tmp_path / "run" / "kernel.safetensors", again.target)
    assert same(whole.kernel, loaded)
    assert jax.tree.structure(loaded) == jax.tree.structure(again.kernel)
    assert step_size_of(loaded) == step_size_of(whole.kernel)
    stores = [DrawStore.open(tmp_path / folder / "draws.zarr") for folder in ("whole", "run")]
    for array in stores[0].layout.arrays:
        np.testing.assert_array_equal(stores[0].read(array), stores[1].read(array), err_msg=array)
