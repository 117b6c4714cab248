"""``capriole.fit`` on a Gaussian, from a log density of a pytree to a kernel that can be loaded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.coordinates import Whitened
from capriole.diagnostics import z_scores
from capriole.fitting import RATES, NoteKind

pytestmark = pytest.mark.usefixtures("standard_promotion")

SCALE = jnp.array([1.0, 30.0, 0.02])


def logdensity(p):
    x = jnp.concatenate([p["a"][None], p["b"]])
    return -jnp.sum((x / SCALE) ** 2) / 2


INIT = {"a": 0.0, "b": np.zeros(2)}


@pytest.fixture(scope="module")
def fitted():
    with jax.numpy_dtype_promotion("standard"):
        return capriole.fit(logdensity, INIT, seed=3, num_chains=16, num_draws=500)


def test_draws_are_the_users_variables_and_have_its_moments(fitted):
    posterior = fitted.tree["posterior"]
    assert posterior["a"].shape == (16, 500)
    assert posterior["b"].shape == (16, 500, 2)
    draws = np.concatenate([posterior["a"].values[..., None], posterior["b"].values], axis=-1)
    for z in z_scores(draws, np.zeros(3), np.asarray(SCALE) ** 2):
        assert np.abs(z).max() < 5


def test_the_verdict_beats_nuts_on_a_gaussian_and_says_what_it_cost(fitted):
    verdict = fitted.verdict
    assert not verdict.failed, verdict.problems
    assert verdict.row(verdict.chosen).worst > 2 * verdict.nuts.worst
    paid = sum(verdict.settings[part]["num_gradients"] for part in ("preparation", "final_warmup"))
    assert verdict.row(verdict.chosen).fixed_gradients == paid
    assert verdict.row(verdict.chosen).worst <= min(
        getattr(verdict.final, name) for name in RATES[:2]
    )
    assert verdict.break_even("gradients") is not None
    assert fitted.tree["posterior"].attrs["sampler"] == verdict.chosen
    assert "times NUTS's effective draws" in fitted.tree["posterior"].attrs["verdict"]


def test_no_network_is_trained_where_none_can_pay(fitted):
    assert fitted.verdict.row("small network") is None
    note = fitted.verdict.notes[0]
    assert note.kind is NoteKind.LEFT_OUT
    assert "no network was trained" in note.text


def test_the_fitted_kernel_can_be_saved_loaded_and_sampled_again(fitted, tmp_path):
    path = capriole.save(tmp_path / "kernel.safetensors", fitted.transition, dim=3)
    again = capriole.load(path, logdensity, INIT)
    assert isinstance(again.target, Whitened)
    trees = [
        capriole.sample(kernel, INIT, num_chains=4, num_draws=20, seed=5)
        for kernel in (fitted.transition, again)
    ]
    np.testing.assert_array_equal(
        trees[0]["posterior"]["b"].values, trees[1]["posterior"]["b"].values
    )
    with pytest.raises(capriole.KernelFileError, match="another log density"):
        capriole.load(path, lambda p: 2 * logdensity(p), INIT)
