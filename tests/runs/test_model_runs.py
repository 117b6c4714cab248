"""Draws of a model on disk: in its own variables, with the positions that a run needs to go on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.kernels import hmc
from capriole.models import as_logdensity, constrained
from capriole.runs import DrawStore, RunFolder, RunFolderError, draw_chains_to_disk, open_draws
from capriole.sampling import UNCONSTRAINED


def model():
    return constrained(
        lambda x: jnp.sum(jnp.log(x["w"])) - x["s"],
        {"w": np.ones(3) / 3, "s": 1.0},
        {"w": "simplex", "s": "positive"},
    )


def claimed(path):
    folder = RunFolder(path)
    folder.claim({"command": "sample"})
    return folder


def draw(folder, num_draws, key=0):
    kernel = hmc(as_logdensity(model())[0], step_size=0.3, num_leapfrogs=2)
    state = kernel.init(jnp.zeros((3, 2)), jax.random.key(1))
    path = folder.draws_path("sample", main=True)
    options = {"num_draws": num_draws, "chunk_size": 10}
    return path, draw_chains_to_disk(
        jax.random.key(key), kernel, state, path, folder.checkpoints, **options
    )


def test_draws_are_stored_in_a_models_variables_and_go_on(tmp_path):
    whole, folder = claimed(tmp_path / "whole"), claimed(tmp_path / "run")
    draw(folder, 20)
    _, extended = draw(folder, 30)
    path, once = draw(whole, 30)
    tree = open_draws(path)
    assert set(tree.children) == {"posterior", "sample_stats", UNCONSTRAINED}
    posterior, free = tree["posterior"], tree[UNCONSTRAINED]
    np.testing.assert_allclose(posterior["s"], np.exp(free["s"]), rtol=1e-12)
    np.testing.assert_allclose(posterior["w"].sum("w_dim_0"), 1.0, rtol=1e-12)
    position = once.store.read_position()
    assert position.shape == (2, 30, 3)
    np.testing.assert_array_equal(position[..., 0], free["s"])
    np.testing.assert_array_equal(position[..., 1:], free["w"])
    np.testing.assert_array_equal(extended.store.read_position(), position)
    for name in ("s", "w"):
        np.testing.assert_array_equal(
            extended.store.read(f"posterior/{name}"), once.store.read(f"posterior/{name}")
        )
    once.store.annotate({"seed": 3})
    assert open_draws(path)[UNCONSTRAINED].attrs["seed"] == 3


def test_a_store_without_its_positions_is_refused(tmp_path):
    path, _ = draw(claimed(tmp_path / "run"), 10)
    for file in sorted((path / UNCONSTRAINED / "s").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (path / UNCONSTRAINED / "s").rmdir()
    with pytest.raises(RunFolderError, match="arrays do not belong together"):
        DrawStore.open(path)
