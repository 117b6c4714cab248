"""Models at the front doors: names, starts, precision, files, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.kernels import hmc, state_at
from capriole.models import (
    as_logdensity,
    as_model,
    check_starts,
    constrained,
    diagnose_logdensity,
    labels,
    model_of,
    model_precision,
    named,
)
from capriole.sampling import as_key, prepare

pytestmark = pytest.mark.usefixtures("standard_promotion")


def normal(z):
    return sum(-jnp.sum(leaf**2) / 2 for leaf in jax.tree.leaves(z))


INIT = {"b": np.zeros((2, 2)), "a": np.zeros(()), "c": np.zeros(2)}


def model(**more):
    return capriole.Model(normal, INIT, **more)


def test_coordinates_have_names():
    made = model(dims={"b": ("row", "column"), "c": ("k",)}, coords={"row": ["x", "y"]})
    expected = ("a", "b[x,0]", "b[x,1]", "b[y,0]", "b[y,1]", "c[0]", "c[1]")
    assert made.labels == expected
    assert labels(as_logdensity(made)[0], 7) == expected
    plain = as_logdensity(normal, INIT)[0]
    assert labels(plain, 7)[:3] == ("a", "b[0,0]", "b[0,1]")
    assert labels(as_logdensity(normal, np.zeros(2))[0], 2) == ("x[0]", "x[1]")
    assert labels(capriole.PerChain(normal), 2) == ("x[0]", "x[1]")
    assert model(dims={"b": ("row", "column")}, coords={"row": ["x"]}).labels[1] == "b[0,0]"
    assert named(expected, [0, 3, 6]) == "a, b[y,0], c[1]"
    assert named(expected, range(7), most=2) == "a, b[x,0] and 5 more"


def test_errors_of_starts_name_variables():
    def bounded(z):
        return jnp.sqrt(z["c"][1]) + normal(z)

    made = capriole.Model(bounded, INIT | {"c": np.ones(2)}, coords={"k": "uv"}, dims={"c": ("k",)})
    target, flat = as_logdensity(made)
    state = state_at(target, jnp.stack([flat, 0 * flat], axis=1))
    with pytest.raises(ValueError, match=r"the first is chain 1: .*gradient not finite in c\[v\]"):
        check_starts(state, target)


def test_a_model_needs_no_init():
    made = model()
    target, every = prepare(made, None, as_key(0), num_chains=5, spread=0.5, num_more=2)
    assert every.shape == (7, 7)
    assert model_of(target) is made
    again, same = prepare(normal, INIT, as_key(0), num_chains=5, spread=0.5, num_more=2)
    np.testing.assert_array_equal(every, same)
    assert model_of(again) is None
    _, elsewhere = prepare(
        made, jax.tree.map(lambda x: x + 100, INIT), as_key(0), num_chains=2, spread=1.0
    )
    assert float(jnp.min(elsewhere)) > 90
    with pytest.raises(
        capriole.ModelError, match=r"model.init has: \['a', 'b', 'c'\], got \['x'\]"
    ):
        prepare(made, np.zeros(7), as_key(0), num_chains=2, spread=1.0)


def test_starts_are_where_chains_start():
    starts = {"b": np.arange(12.0).reshape(3, 2, 2), "a": np.arange(3.0), "c": np.ones((3, 2))}
    for given in ((normal, None), (normal, INIT), (model(), None)):
        _, every = prepare(*given, as_key(0), num_chains=4, spread=1.0, num_more=1, starts=starts)
        assert every.shape == (7, 5)
        np.testing.assert_array_equal(every[:, 3:], every[:, :2])
        np.testing.assert_array_equal(every[:5, 1], [1, 4, 5, 6, 7])
    with pytest.raises(ValueError, match="starts are given, so spread=2 has no effect"):
        prepare(normal, INIT, as_key(0), num_chains=4, spread=2.0, starts=starts)
    for wrong in (
        {"a": np.zeros(3)},
        starts | {"a": np.zeros(2)},
        starts | {"c": np.zeros((3, 3))},
    ):
        with pytest.raises(ValueError, match="leading axis of chains"):
            prepare(normal, INIT, as_key(0), num_chains=4, spread=1.0, starts=wrong)


def test_a_models_own_starts_are_taken_unless_all_are_one():
    def apart(key, num):
        return {"a": jax.random.normal(key, (num,)) + 50}

    one = {"a": np.zeros(())}
    made = capriole.Model(normal, one, starts=apart)
    _, every = prepare(made, None, as_key(0), num_chains=4, spread=1.0)
    np.testing.assert_array_equal(every[0], apart(as_key(0), 4)["a"])
    same = capriole.Model(normal, one, starts=lambda key, num: {"a": jnp.full(num, 50.0)})
    _, every = prepare(same, None, as_key(0), num_chains=4, spread=1.0)
    assert len(np.unique(every)) == 4
    assert float(jnp.min(every)) > 40


REFUSED = {
    "dims": ({"dims": {"c": ("k", "l")}}, r"dims\['c'\] names 2 axes.*shape \(2,\)"),
    "coords": (
        {"dims": {"c": ("k",)}, "coords": {"k": ["u"]}},
        r"coords\['k'\] has 1 labels, but that axis of 'c' has 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_names_that_do_not_fit_are_refused_before_time_is_spent(case):
    more, message = REFUSED[case]
    with pytest.raises(capriole.ModelError, match=message):
        as_logdensity(model(constrain=lambda z: z, **more))


def test_names_of_axes_and_no_functions_are_refused():
    with pytest.raises(capriole.ModelError, match="a variable of the model is called 'chain'"):
        as_logdensity(model(constrain=lambda z: {"chain": z["a"]}))
    with pytest.raises(capriole.ModelError, match="logdensity must be a function, got 3"):
        capriole.Model(3, INIT)
    with pytest.raises(capriole.ModelError, match="logdensity is a model already"):
        capriole.Model(model(), INIT)
    with pytest.raises(capriole.ModelError, match="holds its data in its compiled program"):
        model().with_data(1)


@pytest.mark.parametrize("library", ["pymc.model.core", "bridgestan.model"])
def test_models_of_other_libraries_are_known_by_their_module(library, monkeypatch):
    from capriole.models import makers

    name = {"pymc": "from_pymc", "bridgestan": "from_stan"}[library.split(".")[0]]
    monkeypatch.setattr(makers, name, lambda given: ("made", given), raising=False)
    theirs = type("Model", (), {"__module__": library})
    for given in (theirs(), type("Own", (theirs,), {})()):
        assert as_model(given) == ("made", given)
    assert as_model(normal) is normal


@pytest.fixture
def single():
    with jax.enable_x64(False):
        yield


@pytest.mark.usefixtures("single")
def test_a_model_that_needs_float64_has_it_and_nothing_else_has(tmp_path):
    before = jax.config.read("jax_enable_x64")
    double = constrained(lambda x: -jnp.sum(x["s"]), {"s": np.ones(2)}, {"s": "positive"})
    double = capriole.Model(double.logdensity, double.init, double.constrain, double=True)
    with model_precision(double):
        kernel = hmc(as_logdensity(double)[0], step_size=0.3, num_leapfrogs=2)
    tree = capriole.sample(kernel, num_chains=2, num_draws=20, num_warmup=10)
    assert {str(values.dtype) for values in tree["posterior"].values()} == {"float64"}
    path = capriole.save(tmp_path / "kernel", kernel, dim=2)
    loaded = capriole.load(path, double)
    again = capriole.sample(loaded, num_chains=2, num_draws=20, num_warmup=10)
    np.testing.assert_array_equal(again["posterior"]["s"], tree["posterior"]["s"])
    assert jax.config.read("jax_enable_x64") == before
    assert jnp.zeros(()).dtype == jnp.float32


def test_kernel_files_of_a_model_are_read_with_a_like_model(tmp_path):
    def made():
        return constrained(
            lambda x: -jnp.sum(x["s"]), {"s": np.ones(2)}, {"s": "positive"}, dims={"s": ["k"]}
        )

    kernel = hmc(as_logdensity(made())[0], step_size=0.3, num_leapfrogs=2)
    path = capriole.save(tmp_path / "kernel", kernel, dim=2)
    tree = capriole.sample(capriole.load(path, made()), num_chains=2, num_draws=20, num_warmup=10)
    assert tree["posterior"]["s"].dims == ("chain", "draw", "k")
    other = constrained(lambda x: -2 * jnp.sum(x["s"]), {"s": np.ones(2)}, {"s": "positive"})
    with pytest.raises(capriole.KernelFileError, match="trained on another log density"):
        capriole.load(path, other)


def test_the_doctor_examines_a_model_around_its_init():
    """At 0, the centre of a circle, an angle has no gradient."""
    made = constrained(lambda x: jnp.cos(x["phase"]), {"phase": 0.3}, {"phase": "circular"})
    findings = list(diagnose_logdensity(made, key=jax.random.key(0), spread=0.1))
    assert findings[0].name == "value and gradient at init"
    assert {finding.verdict for finding in findings[:4]} == {"ok"}
    with pytest.raises(ValueError, match="pass dim, the number of coordinates"):
        list(diagnose_logdensity(capriole.PerChain(normal), key=jax.random.key(0)))


def test_a_numpyro_model_as_a_log_density_is_told_what_it_is():
    numpyro = pytest.importorskip("numpyro")
    import numpyro.distributions as dist
    from numpyro import sample

    def by_module(y):
        numpyro.sample("mu", dist.Normal(0, 1))

    def by_name(y):
        mu = sample("mu", dist.Normal(0, 1))
        sample("y", dist.Normal(mu, 1), obs=y)

    def hidden(y):
        return [draw("mu", dist.Normal(0, 1)) for draw in (getattr(numpyro, "sam" + "ple"),)]

    for given in (by_module, by_name, numpyro.handlers.seed(by_name, jax.random.key(0))):
        for init in (None, np.zeros(2)):
            with pytest.raises(ValueError, match=r"capriole\.from_numpyro"):
                prepare(given, init, as_key(0), num_chains=2, spread=1.0)
    with pytest.raises(ValueError, match=r"capriole\.from_numpyro"):
        prepare(hidden, np.zeros(2), as_key(0), num_chains=2, spread=1.0)
