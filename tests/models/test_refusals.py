"""What the front door refuses, and what it says."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.models import as_logdensity, check_count, check_spread, check_starts
from capriole.sampling import as_key
from densities import Correlated, Gaussian

pytestmark = pytest.mark.usefixtures("standard_promotion")
INIT = {"beta": jnp.zeros(2), "group": {"tau": jnp.asarray(0.0)}}
SMALL = {"num_leapfrogs": 2, "num_steps": 20, "num_chains": 16, "width": 8}


def model(p):
    return -jnp.sum((p["beta"] - 1) ** 2) / 2 - (p["group"]["tau"] + 2) ** 2 / 8


@pytest.fixture(scope="module")
def kernel():
    return capriole.kernels.hmc(as_logdensity(model, INIT)[0], step_size=0.1, num_leapfrogs=2)


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
    "no gradient": (
        loops,
        np.zeros(2),
        "not differentiable by jax.grad.*replace a while loop by jax.lax.scan",
    ),
    "bad gradient": (
        lambda x: -jnp.sqrt(jnp.sum(x**2)),
        np.zeros(2),
        r"gradient.*not finite in x\[0\], x\[1\]",
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
        r"init is not finite in b \(float64\): \{'a'",
    ),
    "infinite init": (
        normal,
        np.array([np.inf, 0.0]),
        r"init is not finite in x\[0\].*array\(\[inf",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_work_is_refused_with_a_remedy(name):
    function, init, message = BAD[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        capriole.train(function, init, **SMALL)


def of_chains(beta, tau):
    """Starts like `INIT`."""
    return {"beta": beta, "group": {"tau": tau}}


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        (np.zeros((5, 3)), r"5 chains of shapes \[\(3,\)\] do not fit"),
        (of_chains(np.zeros((5, 2)), np.zeros(4)), r"got \[5, 4\] chains in its arrays"),
        (of_chains(np.zeros((5, 2)), 0.0), "a leading axis of chains in every array, got"),
        (of_chains(np.zeros((5, 1)), np.zeros(5)), "5 chains of 2 numbers do not fit: "),
        (of_chains(np.zeros((5, 2)), np.zeros(5)) | {"sd": np.zeros((5, 0))}, "do not fit"),
        (of_chains(np.zeros((5, 2), complex), np.zeros(5)), "in every array, got"),
        ({}, "in every array, got"),
    ],
)
def test_starts_that_are_no_positions_are_refused(kernel, starts, words):
    with pytest.raises(ValueError, match=f"starts must be positions like init.*{words}"):
        capriole.sample(kernel, starts=starts, num_draws=10)


@pytest.mark.parametrize("starts", [np.zeros(2), np.zeros((2, 5)), np.zeros((5, 2, 1))])
def test_starts_of_flat_vectors_are_chains_first(starts):
    kernel = capriole.kernels.hmc(Gaussian(jnp.ones(2)), step_size=0.1, num_leapfrogs=2)
    with pytest.raises(ValueError, match="starts must be positions like init"):
        capriole.sample(kernel, starts=starts, num_draws=10)


def test_starts_outside_the_support_name_the_chain():
    with pytest.raises(
        ValueError,
        match=r"of 64 chains start outside the support, the first is chain \d+: "
        r"log density .* at position .*inside.*a smaller spread=.*"
        r"map it smoothly to the whole space",
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
def test_numbers_that_cannot_be_are_refused(kernel, name, value, message):
    for call in (
        partial(capriole.train, normal, np.zeros(2)),
        partial(capriole.sample, kernel, INIT),
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


def test_a_warm_up_below_zero_is_refused(kernel):
    with pytest.raises(
        ValueError, match="num_warmup must be a whole number from 0 to 1000000000, got -3"
    ):
        capriole.sample(kernel, INIT, num_warmup=-3)


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


def test_a_spread_that_would_do_nothing_is_refused(kernel):
    own_starts = Correlated.of()
    plain = capriole.kernels.hmc(own_starts, step_size=0.1, num_leapfrogs=2)
    for call in (
        partial(capriole.train, own_starts),
        partial(capriole.fit, own_starts),
        partial(capriole.sample, plain),
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


ZERO = np.zeros((), np.float32)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c - jnp.sum(x**2), jnp.asarray(ZERO)),
        lambda x: -jnp.sum(x.astype(jnp.float32) ** 2),
        lambda x: jax.lax.cond(x[0] > 0, lambda: -jnp.sum(x**2), lambda: jnp.asarray(ZERO)),
    ],
    ids=["loop", "cast", "branch"],
)
def test_what_works_in_float32_only_is_told_how_to_run(function):
    with jax.numpy_dtype_promotion("standard"):
        with pytest.raises(ValueError, match="or pass precision='float32'"):
            capriole.fit(function, np.zeros(2))
        with pytest.raises(ValueError) as seen:  # of another fault: no such advice
            capriole.fit(lambda x: function(x) + x[7] @ x, np.zeros(2))
        assert "float32'" not in str(seen.value)
