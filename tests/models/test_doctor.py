"""The doctor: each illness is named, with its remedy, and health is called health."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import PerChain
from capriole.models import diagnose_logdensity


def healthy(x):
    return -0.5 * jnp.sum((x - 1) ** 2)


class Posterior(eqx.Module):
    """A log density that carries data, as arrays."""

    data: jax.Array

    def __call__(self, x):
        return -0.5 * jnp.sum((x - self.data) ** 2)


def half_plane(x):
    return jnp.where(x[0] > -1, healthy(x), -jnp.inf)


def nan_outside(x):
    return healthy(x) + 0 * jnp.sqrt(1.5 - x[0])


def vector(x):
    return -(x**2)


@jax.custom_vjp
def wrong_gradient(x):
    return healthy(x)


wrong_gradient.defvjp(lambda x: (healthy(x), x), lambda x, g: (-1.3 * g * (x - 1),))

_calls = itertools.count()


def stateful(x):
    return healthy(x) + next(_calls)


@jax.custom_vjp
def once(x):
    return healthy(x)


def _no_second(x, g):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return (
        g * jax.pure_callback(lambda y: np.asarray(1 - y), shape, x, vmap_method="expand_dims"),
    )


once.defvjp(lambda x: (healthy(x), x), _no_second)


def large(x):
    return healthy(x) + 3.0e6 * (1 + 1e-7 * jnp.sum(x))


@jax.custom_vjp
def wrong_in_places(x):
    return healthy(x)


wrong_in_places.defvjp(
    lambda x: (healthy(x), x), lambda x, g: (-g * (x - 1) * jnp.where(x[0] > 1.2, 2.0, 1.0),)
)


def stiff(x):
    return -0.5e7 * jnp.sum(x**2)


def stiff_and_quartic(x):
    return -0.5e9 * jnp.sum(x**2) - 0.5e13 * x[0] ** 4


def findings(function, dim=3, spread=1.0):
    with jax.numpy_dtype_promotion("standard"):
        return {
            f.name: f
            for f in diagnose_logdensity(
                PerChain(function), dim=dim, key=jax.random.key(0), spread=spread
            )
        }


def test_a_density_that_carries_data_is_examined_as_any_other():
    found = findings(Posterior(jnp.ones(3)))
    assert {f.verdict for f in found.values()} == {"ok"}, found


def test_a_healthy_density_has_no_complaint():
    found = findings(healthy)
    assert {f.verdict for f in found.values()} == {"ok"}, found
    assert "at 64 of 64 points" in found["support"].found
    assert "µs per gradient" in found["cost"].found
    assert len(found) == 9


@pytest.mark.parametrize(
    ("function", "name", "verdict", "words"),
    [
        (vector, "value and gradient at 0", "error", "the log density"),
        (half_plane, "support", "warning", "of 64 points"),
        (nan_outside, "support", "error", "NaN at"),
        (wrong_gradient, "gradient against finite differences", "error", "at the median point"),
        (stateful, "same value every time", "error", "in a second call"),
        (once, "second derivative", "warning", "missing or not finite"),
        (wrong_in_places, "gradient against finite differences", "warning", "at the worst"),
        (large, "float32 against float64", "warning", "(rms)"),
        (stiff, "there and back with a learned kernel", "error", "back at the start to "),
        (
            stiff_and_quartic,
            "there and back with a learned kernel",
            "warning",
            "no trajectory stayed finite",
        ),
    ],
)
def test_illness_is_named(function, name, verdict, words):
    finding = findings(function)[name]
    assert finding.verdict == verdict, finding
    assert words in finding.found
    assert finding.remedy
