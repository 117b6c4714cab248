"""Transport maps are bijections with the log determinant they state; their kernels are exact."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import (
    Transported,
    TransportMap,
    Whitened,
    estimate_whitening,
    from_user,
)
from capriole.kernels import CrankNicolson, Jittered, Mixture, Rotation, Transition
from densities import Banana, Funnel, Gaussian
from invariance import check_invariance
from kernels import transport_map

MAPS = [transport_map(4, []), transport_map(5, [1]), transport_map(5, [3, 0], seed=1)]


@pytest.mark.parametrize("transport", MAPS, ids=["none", "one", "two"])
def test_forward_and_inverse_undo_each_other_on_host_and_device(transport):
    host = jax.tree.map(np.asarray, transport)
    z = np.random.default_rng(1).normal(size=(len(host.shift), 7))
    x = host.forward(z)
    np.testing.assert_allclose(host.inverse(x), z, rtol=0, atol=1e-9)
    np.testing.assert_allclose(transport.forward(jnp.asarray(z)), x, rtol=1e-10)
    np.testing.assert_allclose(transport.inverse(jnp.asarray(x)), z, rtol=0, atol=1e-9)
    np.testing.assert_allclose(transport.forward(jnp.asarray(z[:, 0])), x[:, 0], rtol=1e-10)


@pytest.mark.parametrize("transport", MAPS, ids=["none", "one", "two"])
def test_the_log_determinant_is_autodiffs(transport):
    z = jnp.asarray(np.random.default_rng(2).normal(size=(len(transport.shift), 5)))
    jacobian = jax.vmap(jax.jacfwd(transport.forward), in_axes=1)(z)
    constant = np.linalg.slogdet(np.asarray(transport.factor))[1]
    np.testing.assert_allclose(
        transport.log_det(z) + constant, np.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9
    )
    assert transport.log_det(z[:, 0]).shape == ()


def test_heavy_tails_are_undone_as_far_out_as_numbers_go():
    heaviness = np.asarray([0.0, 0.05, 0.4])
    plain = transport_map(3, [], bent=0.0)
    tails = {"skew": np.zeros(3), "tail": np.ones(3), "shift": np.zeros(3), "width": np.ones(3)}
    eye = {"factor": np.eye(3), "inverse_factor": np.eye(3)}
    host = TransportMap(**vars(plain) | tails | eye | {"heaviness": heaviness})
    host = jax.tree.map(np.asarray, host)
    z = np.asarray([1e-300, 1e-9, 0.3, 1.0, 6.0, 30.0])
    z = np.tile(np.concatenate([-z, [0.0], z]), (3, 1))
    heavier = host.forward(z)
    np.testing.assert_allclose(heavier, z * np.exp(heaviness[:, None] * z**2 / 2), rtol=1e-11)
    np.testing.assert_allclose(host.inverse(heavier), z, rtol=1e-9)
    device = jax.tree.map(jnp.asarray, host)
    np.testing.assert_allclose(device.forward(jnp.asarray(z)), heavier, rtol=1e-11)
    np.testing.assert_allclose(device.inverse(jnp.asarray(heavier)), z, rtol=1e-9)


def turned(transport, target):
    return Transition(Transported(target, transport), Rotation(jnp.asarray(0.5), 3))


@pytest.mark.parametrize("target", [Banana(), Funnel()], ids=["banana", "funnel"])
def test_kernels_in_any_map_are_exact(target):
    dim = 2 if isinstance(target, Banana) else 3
    check_invariance(turned(transport_map(dim, [0], bent=0.3), target), target, steps=8)


def test_what_fit_makes_is_exact():
    """White coordinates of a map's, the gradient-free rotation and a jittered one in turns."""
    inner = Transported(Banana(), transport_map(2, [0], bent=0.3))
    draws = from_user(inner, np.asarray(Banana().draw(np.random.default_rng(0), 500)))
    white = Whitened(inner, estimate_whitening(draws))
    free, turned = (
        Transition(white, CrankNicolson(jnp.asarray(0.7))),
        Transition(white, Rotation(jnp.asarray(0.5), 3)),
    )
    check_invariance(Mixture((free, Jittered(turned, 0.75, 1.25)), (0.5, 0.5)), Banana(), steps=8)


FORGOTTEN = ("nothing", "scales", "own scales", "marginals", "heaviness")


class Forgetful(TransportMap):
    """A map whose log determinant lacks a part; which one is data, so that all share a program."""

    forgotten: jax.Array

    def log_det(self, z):
        whole = super().log_det(z)

        def without(*parts):
            bare = eqx.tree_at(
                lambda m: [getattr(m, part) for part in parts], self, replace_fn=jnp.zeros_like
            )
            return TransportMap.log_det(bare, z)

        squared = self.heaviness[:, None] * z**2
        wrong = {
            "nothing": whole,
            "scales": without("log_scale"),
            "own scales": without("own_scale"),
            "marginals": whole - without("log_scale", "own_scale"),
            "heaviness": whole - jnp.sum(jnp.log1p(squared) + squared / 2, axis=0),
        }
        return jnp.stack([wrong[name] for name in FORGOTTEN])[self.forgotten]


def forgetful(name):
    parts = {
        "heaviness": jnp.asarray([0.2, 0.3]),
        "own_scale": jnp.asarray([[0.2, 0.4, 0.1, -0.1, 0.1]]),
    }
    index = {"forgotten": jnp.asarray(FORGOTTEN.index(name))}
    return Forgetful(**vars(transport_map(2, [0], bent=0.3)) | parts | index)


def test_a_log_determinant_that_forgets_nothing_passes():
    check_invariance(turned(forgetful("nothing"), Banana()), Banana(), steps=8)


@pytest.mark.parametrize("forgotten", FORGOTTEN[1:])
def test_a_log_determinant_that_forgets_a_part_is_found_out(forgotten):
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(turned(forgetful(forgotten), Banana()), Banana(), steps=8)


def test_a_gaussian_in_a_map_keeps_its_mass():
    """The density in the map's coordinates integrates to that of the user's: a check of sign and
    constant together.
    """
    transport = transport_map(2, [0], bent=0.1)
    target = Transported(Gaussian(jnp.array([1.0, 1.0])), transport)
    grid = np.linspace(-20, 20, 1001)
    z = jnp.asarray(np.stack(np.meshgrid(grid, grid)).reshape(2, -1))
    constant = np.linalg.slogdet(np.asarray(transport.factor))[1]
    mass = np.sum(np.exp(np.asarray(target(z)) + constant)) * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(mass, 2 * np.pi, rtol=5e-3)
