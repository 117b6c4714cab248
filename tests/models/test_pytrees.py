"""Log densities on pytrees: flat positions, names of variables, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.kernels import StoppedForce
from capriole.models import as_logdensity, trainable
from densities import hosted

pytestmark = pytest.mark.usefixtures("standard_promotion")
INIT = {"beta": jnp.zeros(2), "group": {"tau": jnp.asarray(0.0)}}


def model(p):
    return -jnp.sum((p["beta"] - 1) ** 2) / 2 - (p["group"]["tau"] + 2) ** 2 / 8


def normal(x):
    return -jnp.sum(x**2) / 2


def test_slashes_in_names_are_dots():
    """NumPyro's scopes have them, and a DataTree would take them for groups."""
    init = {"a/mu": 0.0, "b": {"c/d": np.zeros(2)}}
    kernel = capriole.kernels.hmc(
        as_logdensity(lambda p: -(p["a/mu"] ** 2) - jnp.sum(p["b"]["c/d"] ** 2), init)[0],
        step_size=0.1,
        num_leapfrogs=2,
    )
    tree = capriole.sample(kernel, init, num_chains=2, num_draws=10)
    assert {name: values.shape for name, values in tree["posterior"].items()} == {
        "a.mu": (2, 10),
        "b.c.d": (2, 10, 2),
    }


def test_second_derivatives_are_found_or_missed():
    x = jnp.asarray([0.3, -0.2])
    unsmooth = capriole.PerChain(hosted)
    density, smooth = trainable(unsmooth, x)
    assert not smooth
    assert isinstance(density, StoppedForce)
    assert trainable(capriole.PerChain(normal), x) == (capriole.PerChain(normal), True)

    def infinite(x):
        return -jnp.sum(jnp.abs(x) ** 1.5)

    at_zero = jnp.zeros(2)
    assert np.isfinite(jax.grad(infinite)(at_zero)).all()
    assert not trainable(capriole.PerChain(infinite), at_zero)[1]


def test_integers_are_read_as_floats_and_variables_are_named():
    density, flat = as_logdensity(model, {"beta": np.asarray([1, 2]), "group": {"tau": 3}})
    assert flat.dtype == jnp.float64
    np.testing.assert_array_equal(flat, [1, 2, 3])
    assert float(density(flat)) == -0.5 - 25 / 8
