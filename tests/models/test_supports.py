"""Changes of variables of bounded parameters: round trips, log determinants, densities."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import capriole
from capriole.models import Support, circular, constrained, interval
from capriole.models.makers._constrained import as_support

TRIANGLE = np.tril_indices(3, -1)
LOWER = np.tril_indices(3)
FACTOR = np.linalg.cholesky([[1.0, 0.3, -0.4], [0.3, 1.0, 0.2], [-0.4, 0.2, 1.0]])
CORR = FACTOR @ FACTOR.T
SCALED = np.diag([0.5, 2.0, 3.0]) @ FACTOR


def everything(x):
    return jnp.ravel(x)


def strict(x):
    return x[TRIANGLE]


def lower(x):
    return x[LOWER]


def but_last(x):
    return jnp.ravel(x[..., :-1])


CASES = {
    "real": ("real", np.asarray([0.3, -2.0]), everything),
    "positive": ("positive", np.asarray([0.3, 2.0]), everything),
    "unit": ("unit", np.asarray(0.2), everything),
    "above": ((-1.0, None), np.asarray([[0.3, -0.5]]), everything),
    "below": ((None, np.asarray([1.0, 5.0])), np.asarray([0.3, -0.5]), everything),
    "bounds": ((np.asarray([0.0, 2.0]), 9.0), np.asarray([0.3, 8.5]), everything),
    "ordered": ("ordered", np.asarray([[-1.0, 0.5, 2.0], [3.0, 4.0, 5.0]]), everything),
    "positive ordered": ("positive_ordered", np.asarray([0.1, 0.5, 2.0]), everything),
    "simplex": ("simplex", np.asarray([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]), but_last),
    "cholesky_corr": ("cholesky_corr", FACTOR, strict),
    "corr": ("corr", CORR, strict),
    "cholesky": ("cholesky", SCALED, lower),
    "covariance": ("covariance", SCALED @ SCALED.T, lower),
}


def autodiffs(support, free, z):
    """log |d free entries / d z| by autodiff."""
    jacobian = jax.jacfwd(lambda flat: free(support.forward(flat.reshape(z.shape))[0]))(z.ravel())
    return np.linalg.slogdet(jacobian)[1]


def wrong_by(support, free, example):
    """How far a support's log determinant is from autodiff's, at worst of a few points."""
    middle = support.inverse(jnp.asarray(example))
    rng = np.random.default_rng(0)
    points = [middle + s * rng.normal(size=middle.shape) for s in (0.0, 0.3, 1.0, 2.0)]
    return max(abs(autodiffs(support, free, z) - float(support.forward(z)[1])) for z in points)


@pytest.mark.parametrize("case", CASES)
def test_maps_are_bijections_with_the_log_determinant_they_state(case):
    given, example, free = CASES[case]
    support = as_support(given, case)
    assert np.all(support.holds(example))
    z = support.inverse(jnp.asarray(example))
    assert z.size == free(jnp.asarray(example)).size
    back, _ = support.forward(z)
    np.testing.assert_allclose(back, example, rtol=1e-12, atol=1e-12)
    far = 2 * np.random.default_rng(1).normal(size=z.shape)
    there, _ = support.forward(jnp.asarray(far))
    assert np.all(support.holds(np.asarray(there)))
    np.testing.assert_allclose(support.inverse(there), far, rtol=1e-8, atol=1e-8)
    assert wrong_by(support, free, example) < 1e-9


@pytest.mark.parametrize("case", sorted(set(CASES) - {"real"}))
def test_a_log_determinant_left_out_is_found(case):
    given, example, free = CASES[case]
    right = as_support(given, case)
    without = dataclasses.replace(right, forward=lambda z: (right.forward(z)[0], jnp.zeros(())))
    assert wrong_by(without, free, example) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_finite_differences_far_out_and_in_float32_too(case):
    given, example, _ = CASES[case]
    support = as_support(given, case)
    z = np.asarray(support.inverse(jnp.asarray(example)))
    gradient = jax.grad(lambda z: support.forward(z)[1])
    step = 1e-6 * np.random.default_rng(2).normal(size=z.shape)
    numeric = float(support.forward(z + step)[1] - support.forward(z - step)[1]) / 2
    np.testing.assert_allclose(np.sum(gradient(z) * step), numeric, atol=1e-13)
    far = jnp.asarray(np.random.default_rng(3).normal(size=z.shape) * 20, jnp.float32)
    x, log_det = support.forward(far)
    assert x.dtype == log_det.dtype == jnp.float32
    assert np.isfinite(log_det)
    assert np.all(np.isfinite(gradient(far)))


@pytest.mark.parametrize("support", [circular(), circular(0.0, 24.0)], ids=["angle", "hours"])
def test_an_angle_in_the_plane_has_exactly_its_own_density(support):
    low, high = (-np.pi, np.pi) if "3.14" in support.words else (0.0, 24.0)
    x = np.linspace(low, high, 7)[1:-1]
    np.testing.assert_allclose(support.forward(support.inverse(x))[0], x, rtol=1e-12)
    # Along a ray the density of the plane, integrated over the radius, is that of the angle.
    unit, period = np.asarray([np.cos(0.7), np.sin(0.7)]), high - low
    r = np.linspace(1e-6, 5, 20_001)
    plane = jax.vmap(lambda r: support.forward(r * unit)[1])(jnp.asarray(r))
    mass = np.trapezoid(np.exp(plane) * r, r)
    np.testing.assert_allclose(mass, period / (2 * np.pi), rtol=1e-6)
    z = jnp.asarray([0.3, -0.4])
    step = jnp.asarray([1e-6, -2e-6])
    numeric = (support.forward(z + step)[1] - support.forward(z - step)[1]) / 2
    gradient = jax.grad(lambda z: support.forward(z)[1])(z)
    np.testing.assert_allclose(gradient @ step, numeric, atol=1e-13)


def test_a_circle_without_its_radius_is_found():
    """Were the radius not to have a density, the plane would hold infinite mass."""
    support = circular()
    ring = [float(support.forward(r * jnp.asarray([0.6, 0.8]))[1]) for r in (0.01, 1.0, 4.0)]
    assert ring[1] > ring[0] + 10
    assert ring[1] > ring[2] + 10


def normal_on_a_simplex(x):
    weights = jnp.asarray([1.0, 2.0, 3.0])
    return jnp.sum(weights * jnp.log(x["w"])) - x["s"] ** 2 / 2


def test_a_model_adds_every_log_determinant():
    model = constrained(
        normal_on_a_simplex,
        {"w": np.asarray([0.2, 0.3, 0.5]), "s": 1.0},
        {"w": "simplex", "s": "positive"},
        dims={"w": ("part",)},
        coords={"part": ["a", "b", "c"]},
    )
    z = {"w": np.asarray([0.3, -0.8]), "s": np.asarray(-0.4)}
    w, s = as_support("simplex", "w"), as_support("positive", "s")
    x = {"w": w.forward(z["w"])[0], "s": s.forward(z["s"])[0]}
    right = normal_on_a_simplex(x) + w.forward(z["w"])[1] + s.forward(z["s"])[1]
    np.testing.assert_allclose(model.logdensity(z), right, rtol=1e-14)
    assert jax.tree.map(np.shape, model.init) == {"w": (2,), "s": ()}
    assert jax.tree.map(float, model.constrain(model.init)["s"]) == pytest.approx(1.0)
    assert model.labels == ("s", "w[0]", "w[1]")


def test_a_dirichlet_has_the_moments_of_its_beta_marginals():
    """By quadrature over the plane of a simplex of three: nothing is drawn."""
    support, alpha = as_support("simplex", "w"), np.asarray([2.0, 3.0, 4.0])
    grid = np.linspace(-12, 12, 481)
    z = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
    x, log_det = jax.vmap(support.forward)(z)
    weight = np.exp((np.log(x) @ (alpha - 1)) + log_det)
    mean = weight @ np.asarray(x) / weight.sum()
    np.testing.assert_allclose(mean, alpha / alpha.sum(), rtol=1e-6)
    mass = weight.sum() * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(
        mass
        * stats.dirichlet(alpha).pdf([0.2, 0.3, 0.5])
        / np.prod(np.asarray([0.2, 0.3, 0.5]) ** (alpha - 1)),
        1,
        rtol=1e-6,
    )


def foreign():
    from numpyro.distributions import constraints, transforms

    class Doubling:
        """A bijector as TensorFlow Probability's are."""

        forward_min_event_ndims = 0

        def forward(self, z):
            return 2 * z

        def inverse(self, x):
            return x / 2

        def forward_log_det_jacobian(self, z, event_ndims):
            assert event_ndims == z.ndim
            return z.size * jnp.log(2.0)

    class Halving:
        """A bijector as distrax's are."""

        def forward(self, z):
            return z / 2

        def inverse(self, x):
            return x * 2

        def forward_log_det_jacobian(self, z):
            return jnp.full(z.shape, -jnp.log(2.0))

    return {
        "constraint": (constraints.positive, np.asarray([0.3, 2.0]), everything),
        "interval": (constraints.interval(-1.0, 3.0), np.asarray([0.3, 2.0]), everything),
        "factor": (constraints.corr_cholesky, FACTOR, strict),
        "transform": (transforms.ExpTransform(), np.asarray(0.3), everything),
        "bijector": (Doubling(), np.asarray([0.3, 2.0]), everything),
        "distrax": (Halving(), np.asarray([0.3, 2.0]), everything),
    }


FOREIGN = ("constraint", "interval", "factor", "transform", "bijector", "distrax")


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.usefixtures("standard_promotion")
def test_supports_of_other_libraries(case):
    given, example, free = foreign()[case]
    support = as_support(given, case)
    back, _ = support.forward(support.inverse(jnp.asarray(example)))
    np.testing.assert_allclose(back, example, rtol=1e-6)
    assert wrong_by(support, free, example) < 1e-6


def test_bijectors_of_tensorflow_probability():
    tfb = pytest.importorskip("tensorflow_probability.substrates.jax").bijectors
    support = as_support(tfb.Chain([tfb.Shift(np.float64(1.0)), tfb.Exp()]), "x")
    assert wrong_by(support, everything, np.asarray([1.3, 2.0])) < 1e-9


BAD = {
    "outside": ({"s": -1.0}, {"s": "positive"}, r"example\['s'\] must be positive"),
    "not rising": ({"m": [2.0, 1.0]}, {"m": "ordered"}, r"example\['m'\] must be rising"),
    "no simplex": ({"w": [0.5, 0.6]}, {"w": "simplex"}, "sum 1 along the last axis"),
    "a scalar simplex": ({"w": 1.0}, {"w": "simplex"}, "sum 1 along the last axis"),
    "no correlation": ({"c": [[1.0, 2.0], [2.0, 1.0]]}, {"c": "corr"}, "positive definite"),
    "unknown word": ({"s": 1.0}, {"s": "postive"}, "'postive', which is not known; give one of"),
    "unknown name": ({"s": 1.0}, {"t": "positive"}, r"supports name \['t'\], but example has"),
    "bounds crossed": ({"s": 1.0}, {"s": (2.0, 1.0)}, "lower bounds must be below upper ones"),
    "endless bounds": ({"s": 1.0}, {"s": (0.0, np.inf)}, "finite numbers or None"),
    "bounds of a shape": ({"s": 1.0}, {"s": (np.zeros(2), None)}, "bounds of another shape"),
    "words": ({"s": "one"}, {}, "must be numbers, got 'one'"),
    "no dict": ([1.0], {}, "example must be a dict of arrays"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_by_name(case):
    example, supports, message = BAD[case]
    with pytest.raises(capriole.ModelError, match=message):
        constrained(lambda x: 0.0, example, supports)


def test_supports_can_be_made_by_users():
    cubed = Support("any", lambda z: (z**3, jnp.sum(jnp.log(3 * z**2))), jnp.cbrt, np.isfinite)
    model = constrained(lambda x: -(x["a"] ** 2), {"a": 8.0}, {"a": cubed})
    np.testing.assert_allclose(model.init["a"], 2.0)
    np.testing.assert_allclose(model.logdensity({"a": 2.0}), -64 + np.log(12.0))
    assert interval().words == "finite"
