"""``capriole.fit`` on a funnel: the coordinates of a transport map, and its parent's marginal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import capriole
from capriole.diagnostics import LEVELS, z_scores
from capriole.fitting import Coordinates, NoteKind
from densities import Funnel

pytestmark = pytest.mark.usefixtures("standard_promotion")

FUNNEL, INIT = Funnel(3.0), np.zeros(5)


@pytest.fixture(scope="module")
def unfolded():
    with jax.numpy_dtype_promotion("standard"):
        return capriole.fit(FUNNEL, INIT, seed=0, train_steps=0, num_draws=500, compare=False)


def test_a_funnel_is_sampled_in_the_coordinates_of_a_transport_map(unfolded):
    verdict = unfolded.verdict
    assert not verdict.failed, verdict.problems
    chosen = verdict.row(verdict.chosen)
    assert chosen.coordinates is Coordinates.TRANSPORT
    assert chosen.worst > 0.3
    assert chosen.worst > 10 * verdict.row("rotation").worst
    texts = [note.text for note in verdict.notes if note.kind is NoteKind.TRANSPORT_MAP]
    assert any("x[0] as parent" in text for text in texts)
    neck = unfolded.tree["posterior"]["x"].values[..., 0]
    for z in z_scores(neck[..., None], np.zeros(1), np.full(1, 9.0)):
        assert np.abs(z).max() < 5


def test_a_funnels_parent_is_explored_by_its_marginal(unfolded):
    (marginal,) = unfolded.verdict.settings["warmup"]["marginals"]
    assert marginal["dimension"] == 0
    np.testing.assert_allclose(marginal["quantiles"], 3 * norm.ppf(LEVELS), atol=0.05)


def test_the_log_densities_of_draws_are_the_users_in_any_coordinates(unfolded):
    """In those of the map they have its Jacobian."""
    again = capriole.sample(unfolded.transition, INIT, num_chains=4, num_draws=20, seed=5)
    for tree in (unfolded.tree, again):
        draws = jnp.asarray(np.moveaxis(tree["posterior"]["x"].values, 2, 0))
        lp = tree["sample_stats"]["lp"].values
        np.testing.assert_allclose(lp, FUNNEL(draws), rtol=1e-6, atol=1e-6)


def test_a_transported_kernel_can_be_saved_and_loaded(unfolded, tmp_path):
    path = capriole.save(tmp_path / "kernel.safetensors", unfolded.transition, dim=5)
    again = capriole.load(path, FUNNEL, INIT)
    options = {"num_chains": 4, "num_draws": 20, "seed": 5}
    trees = [capriole.sample(kernel, INIT, **options) for kernel in (unfolded.transition, again)]
    np.testing.assert_array_equal(
        trees[0]["posterior"]["x"].values, trees[1]["posterior"]["x"].values
    )
