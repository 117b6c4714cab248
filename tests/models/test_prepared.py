"""A log density is remembered: changed data, noise and another precision are noticed."""

import functools
import random
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.kernels import Prepared, hmc, state_at
from capriole.models import as_logdensity, check_unchanged, dtype_of, prepared
from capriole.sampling import prepare

DATA = {"mean": 0.0}
KEY = jax.random.key(0)
POINTS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))


def normal(x):
    return -jnp.sum(x**2) / 2


def closes_over(x):
    return -jnp.sum((x - DATA["mean"]) ** 2) / 2


class Closes(eqx.Module):
    """Data in the open, and others closed over."""

    scale: jax.Array

    def __call__(self, x):
        return closes_over(x * self.scale)


class Holds(eqx.Module):
    """A function as a static field."""

    function: object = eqx.field(static=True)

    def __call__(self, x):
        return self.function(x)


class Method:
    """A bound method is a function like any other."""

    def logdensity(self, x):
        return closes_over(x)


KINDS = {
    "function": lambda: closes_over,
    "method": lambda: Method().logdensity,
    "functools": lambda: functools.partial(closes_over),
    "PerChain": lambda: capriole.PerChain(closes_over),
    "Partial": lambda: jax.tree_util.Partial(closes_over),
    "closes over": lambda: Closes(jnp.ones(())),
    "static": lambda: Holds(closes_over),
    "PerChain of a static": lambda: capriole.PerChain(Holds(closes_over)),
    "nested": lambda: jax.tree_util.Partial(
        functools.partial(Holds(jax.tree_util.Partial(closes_over)))
    ),
}


@pytest.fixture(autouse=True)
def old_data():
    DATA["mean"] = 0.0


@pytest.mark.parametrize("kind", list(KINDS))
def test_compiled_programs_are_those_of_the_data_of_now(kind):
    """The same callable object, prepared twice: JAX must not find the first program again."""
    function = KINDS[kind]()
    values = []
    for mean in (0.0, 5.0, 0.0):
        DATA["mean"] = mean
        target, position = prepare(function, jnp.zeros(2), KEY, num_chains=3, spread=1.0)
        values.append(np.asarray(state_at(target, position).logdensity))
        expected = -np.sum((np.asarray(position) - mean) ** 2, axis=0) / 2
        np.testing.assert_allclose(values[-1], expected, rtol=1e-10)
    np.testing.assert_array_equal(values[0], values[2])


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kernel_of_other_data_is_refused(kind):
    target, _ = prepare(KINDS[kind](), jnp.zeros(2), KEY, num_chains=3, spread=1.0)
    kernel = hmc(target, step_size=jnp.asarray(0.1), num_leapfrogs=2)
    DATA["mean"] = 1e-6
    with pytest.raises(ValueError, match=r"not the one that the kernel was found for.*call fit or"):
        capriole.sample(kernel, jnp.zeros(2), num_draws=4)
    with pytest.raises(ValueError, match="not the one that the kernel was found for"):
        capriole.sample(kernel, starts=np.zeros((4, 2)), num_draws=4)
    with pytest.raises(ValueError, match="not the one that the kernel was found for"):
        capriole.train(target, jnp.zeros(2))
    DATA["mean"] = "none"
    with pytest.raises(
        ValueError, match=r"of this kernel fails now \(TypeError.*call fit or train"
    ):
        check_unchanged(target)
    DATA["mean"] = 0.0
    check_unchanged(target)


def test_a_kernel_made_by_its_parts_draws_from_the_data_of_now():
    kernel = hmc(capriole.PerChain(closes_over), step_size=jnp.asarray(0.8), num_leapfrogs=3)
    options = {"num_draws": 50, "num_warmup": 0, "seed": 1}
    for mean in (0.0, 50.0):
        DATA["mean"] = mean
        tree = capriole.sample(kernel, jnp.full(2, mean), **options)
        assert float(tree["posterior"]["x"].mean()) == pytest.approx(mean, abs=1)


def test_modules_with_their_data_in_the_open_share_programs():
    def of(scale):
        return prepared(capriole.PerChain(Closes(jnp.asarray(scale))), POINTS)

    one, other = of(1.0), of(2.0)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    DATA["mean"] = 5.0
    assert jax.tree.structure(of(1.0)) != jax.tree.structure(one)


def test_what_is_remembered():
    target, _ = as_logdensity(lambda p: normal(p["a"]), {"a": np.zeros(2)})
    known = prepared(target, POINTS)
    assert isinstance(known, Prepared)
    np.testing.assert_array_equal(known.points, POINTS[:, jnp.asarray([0, -1])])
    np.testing.assert_allclose(known.values, -np.sum(np.asarray(known.points) ** 2, axis=0) / 2)
    assert prepared(known, POINTS) is known
    assert dtype_of(known) == "float64"
    assert dtype_of(target) is None
    assert dtype_of(normal) is None


class Coupled(capriole.AbstractLogDensity):
    """One value depends on all chains."""

    def __call__(self, position):
        return -jnp.sum((position - jnp.mean(position)) ** 2 + position**2, axis=0)


def by_callback(x):
    shape = jax.ShapeDtypeStruct((), x.dtype)
    noise = np.random.default_rng()

    @jax.custom_vjp
    def noisy(x):
        return normal(x) + jax.pure_callback(
            lambda x: np.asarray(noise.normal(scale=1e-3)), shape, x, vmap_method="sequential"
        )

    noisy.defvjp(lambda x: (noisy(x), x), lambda x, g: (-g * x,))
    return noisy(x)


def counts():
    calls = [0]

    def density(x):
        calls[0] += 1
        return normal(x) + 1e-6 * calls[0]

    return density


class Odd:
    """Another value in every compiled program than outside of one."""

    def __call__(self, x):
        return normal(x) + (1.0 if isinstance(x, jax.core.Tracer) else 0.0)


NOISY = {
    "callback": by_callback,
    "random": lambda x: normal(x) + random.random(),
    "random, PerChain": capriole.PerChain(lambda x: normal(x) + 1e-3 * random.random()),
    "state": counts(),
    "coupled chains": Coupled(),
    "compiled": Odd(),
}


@pytest.mark.parametrize("kind", list(NOISY))
def test_what_is_not_a_function_of_its_position_is_refused(kind):
    words = "the log density is not a function of its position: at .* it (was|is)"
    for call in (capriole.fit, capriole.train):
        with pytest.raises(ValueError, match=words):
            call(NOISY[kind], jnp.zeros(2))
    own = NOISY[kind]
    if isinstance(own, capriole.AbstractLogDensity):
        kernel = hmc(own, step_size=jnp.asarray(0.1), num_leapfrogs=2)
        with pytest.raises(ValueError, match=words):
            capriole.sample(kernel, jnp.zeros(2))


def test_rounding_is_no_noise():
    """float32 sums of many terms, which a compiled program adds in another order."""
    data = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    with jax.enable_x64(False):
        start = jnp.zeros(2, jnp.float32)
        prepare(lambda x: -jnp.sum((x[0] - 30 * data) ** 2) - x[1] ** 2, start, KEY, **FEW)


FEW = {"num_chains": 5, "spread": 1.0}


class WithStatic(eqx.Module):
    """An array where JAX compares."""

    data: np.ndarray = eqx.field(static=True)

    def __call__(self, x):
        return normal(x - self.data)


@pytest.mark.parametrize("wrapped", [lambda f: f, capriole.PerChain, jax.tree_util.Partial])
def test_an_array_in_a_static_field_is_named(wrapped):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function = wrapped(WithStatic(np.zeros(2)))
    with pytest.raises(ValueError, match=r"static field 'data' of WithStatic holds an array.*data"):
        prepare(function, jnp.zeros(2), KEY, **FEW)


def test_a_module_in_a_partial_is_to_be_passed_itself():
    with pytest.raises(ValueError, match=r"Partial of Closes holds arrays.*pass the module itself"):
        prepare(jax.tree_util.Partial(Closes(jnp.ones(()))), jnp.zeros(2), KEY, **FEW)


def pair(p):
    return -jnp.sum((p["a"] - 1) ** 2) / 2 - p["b"] ** 2


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize(
    "init",
    [{"a": np.zeros(2), "b": 0.0}, {"a": np.zeros(2, np.float32), "b": 0}, None],
    ids=["Python float", "float32", "starts"],
)
def test_a_kernel_keeps_its_precision(double, init, tmp_path):
    with jax.enable_x64(double):
        target, _ = prepare(pair, {"a": jnp.zeros(2), "b": jnp.zeros(())}, KEY, **FEW)
        kernel = hmc(target, step_size=jnp.asarray(0.3), num_leapfrogs=2)
        path = capriole.save(tmp_path / "kernel", kernel)
    options = {"num_draws": 5, "num_warmup": 2}
    options |= (
        {"starts": {"a": np.zeros((4, 2)), "b": np.zeros(4)}} if init is None else {"init": init}
    )
    draws = []
    for now in (double, not double):
        with jax.enable_x64(now):
            tree = capriole.sample(kernel, **options)
            draws.append(tree["posterior"]["a"].values)
            if not double or now:
                back = capriole.load(path, pair, init or {"a": np.zeros(2), "b": 0.0})
                draws.append(capriole.sample(back, **options)["posterior"]["a"].values)
    for one in draws:
        np.testing.assert_array_equal(one, draws[0])
    other = "float32" if double else "float64"
    with pytest.raises(ValueError, match=r"prepared in float.*not the precision of this call"):
        capriole.train(target, {"a": np.zeros(2), "b": 0.0}, precision=other)


def test_a_kernel_made_by_its_parts_draws_in_its_own_precision():
    with jax.enable_x64(False):
        step_size = jnp.asarray(0.3)
    kernel = hmc(capriole.PerChain(normal), step_size=step_size, num_leapfrogs=2)
    draws = capriole.sample(kernel, jnp.zeros(2), num_draws=4).posterior["x"].values
    np.testing.assert_array_equal(draws, draws.astype(np.float32))
