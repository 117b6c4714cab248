"""The front door: from a log density on a pytree to a labelled tree of draws, and what it says
about bad inputs.
"""

import dataclasses
import logging
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
import capriole.sampling._api
from capriole.kernels import StoppedForce
from capriole.models import as_logdensity, check_count, check_spread, check_starts, trainable
from capriole.models._checks import has_second_derivative
from capriole.sampling import as_key
from capriole_lab.targets import make_target

pytestmark = pytest.mark.usefixtures("standard_promotion")
INIT = {"beta": jnp.zeros(2), "group": {"tau": jnp.asarray(0.0)}}
SMALL = {"num_leapfrogs": 2, "num_steps": 20, "num_chains": 16, "width": 8}


def model(p):
    return -jnp.sum((p["beta"] - 1) ** 2) / 2 - (p["group"]["tau"] + 2) ** 2 / 8


@pytest.fixture(scope="module")
def result():
    with jax.numpy_dtype_promotion("standard"):
        return capriole.train(model, INIT, seed=1, **SMALL)


@pytest.fixture(scope="module")
def tree(result):
    with jax.numpy_dtype_promotion("standard"):
        return capriole.sample(
            result.transition, INIT, seed=7, num_chains=3, num_draws=40, num_warmup=10, thin=2
        )


def test_train_returns_a_frozen_kernel_with_its_history(result):
    assert isinstance(result.transition, capriole.kernels.Transition)
    assert result.history["loss"].shape == (20,)
    assert result.completed
    # The pilot's 500 steps of HMC are part of the cost.
    assert result.num_gradients == 16 * 2 * (20 + 500)


def test_draws_come_as_a_labelled_tree(tree, result):
    posterior, stats = tree["posterior"], tree["sample_stats"]
    assert set(posterior.data_vars) == {"beta", "group.tau"}
    assert posterior["beta"].dims[:2] == ("chain", "draw")
    assert posterior["beta"].shape == (3, 40, 2)
    assert posterior["group.tau"].shape == (3, 40)
    names = {
        "lp",
        "acceptance_rate",
        "diverging",
        "energy",
        "n_steps",
        "accepted",
        "direction",
        "log_det",
        "log_ratio",
    }
    assert names | {"nonfinite", "jump_sq"} == set(stats.data_vars)
    assert all(stats[name].shape == (3, 40) for name in stats.data_vars)
    assert stats["diverging"].dtype == bool
    assert int(stats["n_steps"].sum()) == posterior.attrs["num_gradients"] == 3 * 40 * 2 * 2
    beta, tau = posterior["beta"].values, posterior["group.tau"].values
    lp = -((beta - 1) ** 2).sum(axis=2) / 2 - (tau + 2) ** 2 / 8
    np.testing.assert_allclose(stats["lp"].values, lp, rtol=1e-10)
    for group in (posterior, stats):
        assert {
            "sampling_time",
            "compile_seconds",
            "capriole_version",
            "jax_version",
            "inference_library",
        } <= set(group.attrs)
        assert group.attrs["seed"] == "7"
        assert group.attrs["completed"] == 1


def test_seeds_decide_and_keys_are_seeds(tree, result):
    def again(seed):
        return capriole.sample(
            result.transition, INIT, seed=seed, num_chains=3, num_draws=40, num_warmup=10, thin=2
        )

    expected = tree["posterior"]["beta"].values
    np.testing.assert_array_equal(again(7)["posterior"]["beta"].values, expected)
    np.testing.assert_array_equal(again(jax.random.key(7))["posterior"]["beta"].values, expected)
    assert np.abs(again(8)["posterior"]["beta"].values - expected).max() > 0.1


def test_explicit_starts_are_used(result):
    starts = np.full((3, 5), 0.25)
    kwargs = {"num_draws": 6, "num_warmup": 0, "num_chains": 99}
    tree = capriole.sample(result.transition, starts=starts, **kwargs)
    moved = tree["sample_stats"]["accepted"].values[:, 0]
    beta = tree["posterior"]["beta"].values[:, 0]
    assert len(beta) == 5
    assert np.all(beta[~moved] == 0.25)
    with pytest.raises(ValueError, match="start outside the support"):
        capriole.sample(
            result.transition, starts=np.where(np.arange(5) == 3, np.inf, starts), **kwargs
        )


def normal(x):
    return -jnp.sum(x**2) / 2


def log_only(x):
    return jnp.sum(jnp.log(x)) - jnp.sum(x)


def loops(x):
    return -jax.lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + s[2] ** 2, s[2]), (0, 0.0, x[0])
    )[1]


BAD = {
    "NaN": (
        lambda x: normal(x) * jnp.nan,
        np.zeros(3),
        "log density is NaN at the test position.*guard",
    ),
    "vector": (lambda x: -(x**2), np.zeros(3), r"must return a scalar, got shape \(3,\).*sum over"),
    "dimension": (
        lambda x: -x @ jnp.eye(2) @ x,
        np.zeros(3),
        r"failed at the test position.*\(3,\).*agree with init",
    ),
    "outside": (log_only, np.zeros(2), "-inf at the test position.*pass an init inside"),
    "float32": (
        lambda x: normal(x).astype(jnp.float32),
        np.zeros(2),
        "returned float32 for a position of float64.*cast",
    ),
    "no gradient": (loops, np.zeros(2), "not differentiable by jax.grad.*write it in jax.numpy"),
    "bad gradient": (
        lambda x: -jnp.sqrt(jnp.sum(x**2)),
        np.zeros(2),
        r"gradient.*not finite in coordinates \[0, 1\]",
    ),
    "empty": (normal, np.zeros(0), "at least one number.*pass one position"),
    "no leaves": (normal, {}, "at least one number"),
    "complex": (normal, np.zeros(2, complex), "must be real numbers, got dtypes.*complex128"),
    "boolean": (normal, np.zeros(2, bool), "must be real numbers, got dtypes.*bool"),
    "no init": (normal, None, r"pass init.*init=jnp\.zeros\(3\)"),
    "list": (
        normal,
        [0.0, 0.0],
        "failed at.*'list' and 'int'; init, or a part of it, is a list.*pass np.array",
    ),
    "list inside": (
        lambda p: -jnp.sum(p["c"] ** 2),
        {"c": [0.0, 1.0]},
        "init, or a part of it, is a list",
    ),
    "if": (
        lambda x: normal(x) if x[0] > 0 else 2 * normal(x),
        np.zeros(2),
        "many positions at once.*jnp.where",
    ),
    "index": (lambda x: x[int(x[0])], np.zeros(2), "many positions at once.*write it in jax.numpy"),
    "no return": (
        lambda x: None,
        np.zeros(2),
        "must return one number, got None at the test position",
    ),
    "tuple": (lambda x: (normal(x), 1.0), np.zeros(2), r"must return one number, got \(Array"),
    "text": (lambda x: "a", np.zeros(2), "must return one number, got 'a'"),
    "key": (lambda p: p["b"], {"a": 0.0}, "failed at.*KeyError: 'b'; does it agree with init"),
    "attribute": (
        lambda p: p.b,
        np.zeros(2),
        "failed at.*AttributeError.*'b'; does it agree with init",
    ),
    "division": (lambda x: normal(x) * (1 / len([])), np.zeros(2), "failed at.*ZeroDivisionError"),
    "text as init": (normal, "abc", "init must be an array or a pytree of numbers, got 'abc'"),
    "function as init": (
        normal,
        normal,
        "init must be an array or a pytree of numbers, got <function normal",
    ),
    "two arguments": (
        lambda a, b: -(a**2) - b**2,
        (0.0, 0.0),
        "'b'; it is called with one argument, the whole pytree",
    ),
    "NaN init": (
        normal,
        {"a": 0.0, "b": np.nan},
        r"init is not finite in coordinates \[1\] \(float64\): \{'a'",
    ),
    "infinite init": (
        normal,
        np.array([np.inf, 0.0]),
        r"init is not finite in coordinates \[0\].*array\(\[inf",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_work_is_refused_with_a_remedy(name):
    function, init, message = BAD[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        capriole.train(function, init, **SMALL)


@pytest.mark.parametrize(
    ("starts", "words"),
    [(np.zeros(3), r"chains last, got float(32|64) of \(3,\)"), (np.zeros((3, 5), int), "chains last, got int"),
     (np.zeros((5, 3)), r"starts of shape \(5, 3\) do not fit the log density")],
)  # fmt: skip
def test_starts_that_are_no_positions_are_refused(result, starts, words):
    with pytest.raises(ValueError, match=words):
        capriole.sample(result.transition, starts=starts, num_draws=10)


def test_starts_outside_the_support_name_the_chain():
    with pytest.raises(
        ValueError,
        match=r"of 64 chains start outside the support, the first is chain \d+: log density .* at position .*inside.*"
        r"a smaller spread=.*map it smoothly to the whole space",
    ):
        capriole.train(log_only, np.full(2, 0.5), **(SMALL | {"num_chains": 64}))
    kernel = capriole.kernels.hmc(capriole.PerChain(log_only), step_size=0.1, num_leapfrogs=2)
    state = kernel.init(jnp.asarray([[1.0, 1.0, -1.0, 2.0], [1.0, 1.0, 1.0, -3.0]]))
    with pytest.raises(ValueError, match=r"2 of 4 chains.*the first is chain 2"):
        check_starts(state)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_chains", 0, "num_chains must be a whole number from 1 to 1000000000, got 0"),
        (
            "spread",
            0.0,
            "spread must be one positive finite number, got 0.0: chains start at init.*e.g. 1e-3",
        ),
        ("spread", -1.0, "spread must be one positive finite number, got -1.0"),
        ("spread", np.nan, "spread must be one positive finite number, got nan"),
        (
            "seed",
            2**70,
            "seed must be a whole number below 2.63 or one key.*got 1180591620717411303424",
        ),
    ],
)
def test_numbers_that_cannot_be_are_refused(result, name, value, message):
    for call in (
        partial(capriole.train, normal, np.zeros(2)),
        partial(capriole.sample, result.transition, INIT),
    ):
        with pytest.raises(ValueError, match=message):
            call(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a whole number from 1 to 1000000000, got 0"),
        ({"num_leapfrogs": 0}, "num_leapfrogs must be a whole number from 1 to 1000000000, got 0"),
        (
            {"num_candidates": 0},
            "num_candidates must be a whole number from 1 to 1000000000, got 0",
        ),
        ({"start_temperature": 0.0}, "start_temperature must be positive and finite, got 0.0"),
    ],
)
def test_training_of_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        capriole.train(normal, np.zeros(2), **arguments)


def test_a_warm_up_below_zero_is_refused(result):
    with pytest.raises(
        ValueError, match="num_warmup must be a whole number from 0 to 1000000000, got -3"
    ):
        capriole.sample(result.transition, INIT, num_warmup=-3)


def test_two_variables_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two variables of init are both called 'a\.b'"):
        capriole.train(lambda p: -(p["a.b"] ** 2), {"a": {"b": 0.0}, "a.b": 0.0}, **SMALL)


@pytest.mark.parametrize("name", ["chain", "draw"])
def test_variables_called_as_axes_are_refused(name):
    with pytest.raises(
        ValueError,
        match=f"a variable of init is called '{name}', as an axis of ArviZ's is; give it",
    ):
        capriole.fit(lambda p: -(p[name] ** 2), {"mu": 0.0, name: 0.0})


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


def test_a_spread_that_would_do_nothing_is_refused(result):
    scg = make_target("scg")
    kernel = capriole.kernels.hmc(scg, step_size=0.1, num_leapfrogs=2)
    for call in (
        partial(capriole.train, scg),
        partial(capriole.fit, scg),
        partial(capriole.sample, kernel),
    ):
        with pytest.raises(
            ValueError, match="starts of its own, so spread=50 has no effect: pass init"
        ):
            call(spread=50.0)


@pytest.mark.parametrize(
    "value", [None, True, "1", np.inf, np.array([1.0, 2.0]), np.array([1.0]), 10**400, 1j]
)
def test_what_is_no_spread_is_refused(value):
    with pytest.raises(
        ValueError, match=rf"one positive finite number, got {re.escape(repr(value)[:80])}: chains"
    ):
        check_spread(value)


@pytest.mark.parametrize(
    "value", [None, 3.5, "a", np.zeros(2), jnp.asarray(3), jax.random.split(jax.random.key(0), 3)]
)
def test_what_is_no_seed_is_refused(value):
    with pytest.raises(
        ValueError,
        match=rf"or one key, e.g. jax.random.key\(0\), got {re.escape(repr(value)[:80])}",
    ):
        as_key(value)


def test_numbers_of_numpy_and_legacy_keys_will_do():
    assert check_count("num_chains", np.uint8(3), 1) == 3
    assert (
        check_spread(np.float32(0.5))
        == check_spread(jnp.asarray(0.5))
        == check_spread(np.array(0.5))
        == 0.5
    )
    assert as_key(np.int64(3)) == jax.random.key(3)
    legacy = jax.random.PRNGKey(3)
    assert as_key(legacy) is legacy


@jax.custom_vjp
def hosted(x):
    return jax.pure_callback(
        lambda a: -np.sum(np.asarray(a) ** 2) / 2,
        jax.ShapeDtypeStruct((), x.dtype),
        x,
        vmap_method="sequential",
    )


def hosted_forward(x):
    gradient = jax.pure_callback(
        lambda a: -np.asarray(a),
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        x,
        vmap_method="sequential",
    )
    return hosted(x), gradient


hosted.defvjp(hosted_forward, lambda gradient, g: (g * gradient,))


def test_second_derivatives_are_found_or_missed():
    x = jnp.asarray([0.3, -0.2])
    assert has_second_derivative(normal, x)
    assert not has_second_derivative(hosted, x)
    unsmooth = capriole.PerChain(hosted)
    density, smooth = trainable(unsmooth, x)
    assert not smooth
    assert isinstance(density, StoppedForce)
    assert trainable(capriole.PerChain(normal), x) == (capriole.PerChain(normal), True)

    def infinite(x):
        return -jnp.sum(jnp.abs(x) ** 1.5)

    at_zero = jnp.zeros(2)
    assert np.isfinite(jax.grad(infinite)(at_zero)).all()
    assert not has_second_derivative(infinite, at_zero)


def test_log_densities_without_second_derivatives_train_with_a_warning_in_the_log(
    caplog, monkeypatch
):
    monkeypatch.setattr(
        capriole.sampling._api, "run_pilot", partial(capriole.sampling._api.run_pilot, num_steps=20)
    )
    with caplog.at_level(logging.WARNING, logger="capriole"):
        result = capriole.train(
            hosted, np.zeros(2), step_size=0.3, num_leapfrogs=1, num_steps=3, num_chains=2, width=4
        )
    assert "no second derivative" in caplog.text
    assert "the kernel is exact" in caplog.text
    assert not isinstance(result.transition.logdensity, StoppedForce)
    assert result.completed


def test_integers_are_read_as_floats_and_variables_are_named():
    density, flat = as_logdensity(model, {"beta": np.asarray([1, 2]), "group": {"tau": 3}})
    assert flat.dtype == jnp.float64
    np.testing.assert_array_equal(flat, [1, 2, 3])
    assert float(density(flat)) == -0.5 - 25 / 8


def test_tempered_training_through_the_front_door():
    result = capriole.train(normal, np.zeros(2), start_temperature=4.0, **SMALL)
    assert result.history["temperature"][0] == 4
    assert result.history["temperature"][-1] == pytest.approx(1, rel=1e-5)


def test_new_data_in_the_same_function_are_the_new_posterior():
    """JAX keeps programs by the function, with the data built in that it had at first."""
    data = {"mean": 0.0}

    def logdensity(x):
        return -jnp.sum((x - data["mean"]) ** 2) / 2

    means = []
    for mean in (0.0, 4.0):
        data["mean"] = mean
        found = capriole.train(logdensity, jnp.full(2, mean), num_steps=3, num_chains=16, seed=0)
        tree = capriole.sample(
            found.transition, jnp.full(2, mean), num_chains=4, num_draws=100, num_warmup=50
        )
        means.append(float(tree["posterior"]["x"].mean()))
        assert tree["sample_stats"]["lp"].values.max() > -5
    assert means == pytest.approx([0.0, 4.0], abs=1)


def test_a_model_without_a_hash_is_a_log_density():
    @dataclasses.dataclass
    class Model:
        scale: np.ndarray

        def __call__(self, x):
            return -jnp.sum((x / self.scale) ** 2) / 2

    model = Model(np.array([1.0, 2.0]))
    with pytest.raises(TypeError):
        hash(model)
    found = capriole.train(model, jnp.zeros(2), num_steps=3, num_chains=16, seed=0)
    tree = capriole.sample(found.transition, jnp.zeros(2), num_chains=4, num_draws=10)
    assert tree["posterior"]["x"].shape == (4, 10, 2)
