"""`fit` of models: exact moments in the user's own variables, names in what it says."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import capriole
from capriole.diagnostics import bulk_ess
from capriole.models import constrained

pytestmark = pytest.mark.slow
ALPHA = np.asarray([2.0, 3.0, 4.0])
KAPPA = 3.0


def density(x):
    return (
        jnp.sum((ALPHA - 1) * jnp.log(x["w"]))
        - x["rate"]
        + KAPPA * jnp.cos(x["phase"] - 3.0)
        + jnp.log(x["p"])
    )


def test_moments_of_bounded_and_periodic_parameters_are_exact():
    """The mode of the angle is beside the cut of its interval."""
    model = constrained(
        density,
        {"w": np.ones(3) / 3, "rate": 1.0, "phase": -3.0, "p": 0.5},
        {"w": "simplex", "rate": "positive", "phase": "circular", "p": (0.0, 1.0)},
        dims={"w": ("part",)},
        coords={"part": ["a", "b", "c"]},
    )
    found = capriole.fit(model, seed=1, train_steps=0, compare=False, num_draws=500)
    assert not found.verdict.failed, found.verdict.table()
    draws = found.tree["posterior"]
    turned = np.cos(draws["phase"].values - 3.0)
    parts = [draws["w"].values[..., i] for i in range(3)]
    for values, right in (
        *zip(parts, ALPHA / ALPHA.sum(), strict=True),
        (draws["rate"].values, 1.0),
        (turned, special.i1(KAPPA) / special.i0(KAPPA)),
        (np.sin(draws["phase"].values - 3.0), 0.0),
        (draws["p"].values, 2 / 3),
    ):
        error = values.std() / np.sqrt(float(bulk_ess(values[:, :, None])[0]))
        assert abs(values.mean() - right) < 5 * error
    assert found.verdict.difference.variable in model.labels
