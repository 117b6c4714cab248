"""Log densities built around others: stopped forces, temperatures, one chain at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from capriole import PerChain
from capriole.kernels import StoppedForce, Tempered
from densities import Banana


def test_stopped_force_keeps_value_and_force_and_has_no_curvature():
    density, x = Banana(), jnp.asarray([0.7, -0.4])
    stopped = StoppedForce(density)
    assert float(stopped(x)) == float(density(x))
    np.testing.assert_allclose(jax.grad(stopped)(x), jax.grad(density)(x), rtol=1e-14)
    np.testing.assert_array_equal(jax.hessian(stopped)(x), np.zeros((2, 2)))
    assert np.abs(jax.hessian(density)(x)).max() > 0.1
    batch = jnp.stack([x, 2 * x], axis=1)
    np.testing.assert_allclose(stopped(batch), density(batch), rtol=1e-14)


def test_tempered_and_per_chain():
    batch = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)))
    np.testing.assert_allclose(
        Tempered(Banana(), jnp.asarray(4.0))(batch), Banana()(batch) / 4, rtol=1e-15
    )
    lifted = PerChain(Banana().__call__)
    np.testing.assert_allclose(lifted(batch), Banana()(batch), rtol=1e-15)
    assert lifted(batch[:, 0]).shape == ()
