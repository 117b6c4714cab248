"""Models of NumPyro: densities, gradients, values, groups, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density

import capriole
from capriole.models import from_numpyro
from numpyro_models import MODELS, Y, centred, discrete, dynamic_event, keyed, nested, non_centred

pytestmark = [
    pytest.mark.usefixtures("standard_promotion"),
    pytest.mark.filterwarnings("ignore:Continuous inference poorly"),
]


def points(init, count, scale=1.0):
    """Positions around one, a leading axis of points."""
    rng = np.random.default_rng(7)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf + scale * rng.normal(size=(count, *leaf.shape))), init
    )


def each(where, count):
    """Positions one by one."""
    return (jax.tree.map(lambda leaf: jnp.asarray(leaf[i]), where) for i in range(count))  # noqa: B023


def by_sites(model, args, kwargs, z):
    """Log density and values from each site's own map, support by support as the model runs."""
    jacobian = []

    def pushed(site):
        if site["type"] == "sample" and not site["is_observed"] and site["name"] in z:
            to, free = biject_to(site["fn"].support), z[site["name"]]
            value = to(free)
            jacobian.append(jnp.sum(to.log_abs_det_jacobian(free, value)))
            return value
        return None

    seeded = handlers.seed(model, jax.random.key(5))
    trace = handlers.trace(handlers.substitute(seeded, substitute_fn=pushed)).get_trace(
        *args, **kwargs
    )
    values = {
        name: site["value"]
        for name, site in trace.items()
        if site["type"] in ("sample", "deterministic") and not site.get("is_observed")
    }
    known = {n: v for n, v in values.items() if trace[n]["type"] == "sample"}
    lp, _ = log_density(handlers.seed(model, jax.random.key(5)), args, kwargs, known)
    return lp + sum(jacobian), values


@pytest.mark.parametrize("case", MODELS)
def test_densities_and_values_are_numpyros(case):
    model, args, kwargs = MODELS[case]
    made = from_numpyro(model, *args, **kwargs)
    where = points(made.init, 20)
    lp = jax.vmap(made.logdensity)(where)
    values = jax.vmap(made.constrain)(where)
    for i, z in enumerate(each(where, 0 if case == "scan" else 20)):  # of scan, see below
        right, there = by_sites(model, args, kwargs, z)
        np.testing.assert_allclose(lp[i], right, rtol=1e-9, atol=1e-9)
        assert {name.replace("/", ".") for name in there} == set(values)
        for name, value in there.items():
            np.testing.assert_allclose(
                values[name.replace("/", ".")][i], value, rtol=1e-9, atol=1e-12
            )
    potential = numpyro.infer.util.initialize_model(
        jax.random.key(1), model, model_args=args, model_kwargs=kwargs
    ).potential_fn
    np.testing.assert_allclose(lp + jax.vmap(potential)(where), 0, atol=1e-9)


def test_scan_is_its_formula():
    made = from_numpyro(*MODELS["scan"][:1], Y)
    z = next(each(points(made.init, 1), 1))
    phi = 2 * jax.nn.sigmoid(z["phi"]) - 1
    before = jnp.concatenate([jnp.zeros(1), z["state"][:-1]])
    right = jnp.log(0.5) + jnp.log(2 * jax.nn.sigmoid(z["phi"]) * jax.nn.sigmoid(-z["phi"]))
    right += dist.Normal(phi * before, 0.5).log_prob(z["state"]).sum()
    right += dist.Normal(z["state"], 1.0).log_prob(Y).sum()
    np.testing.assert_allclose(made.logdensity(z), right, rtol=1e-12)
    values = made.constrain(z)
    assert set(values) == {"phi", "state", "last"}
    np.testing.assert_allclose(values["phi"], phi, rtol=1e-12)
    np.testing.assert_array_equal(values["last"], z["state"][-1])


@pytest.mark.parametrize("case", MODELS)
def test_gradients_are_finite_differences(case):
    model, args, kwargs = MODELS[case]
    made = from_numpyro(model, *args, **kwargs)
    step = jax.tree.map(
        lambda leaf: 1e-6 * leaf[0], points(jax.tree.map(np.zeros_like, made.init), 1)
    )
    z = jax.tree.map(lambda leaf: leaf[0], points(made.init, 1, 0.5))
    ahead = made.logdensity(jax.tree.map(jnp.add, z, step))
    behind = made.logdensity(jax.tree.map(jnp.subtract, z, step))
    gradient = jax.grad(made.logdensity)(z)
    along = sum(
        jnp.vdot(g, s) for g, s in zip(*map(jax.tree.leaves, (gradient, step)), strict=True)
    )
    np.testing.assert_allclose(along, (ahead - behind) / 2, rtol=1e-5, atol=2e-9)


def test_a_support_behind_an_event_follows_the_site_that_it_depends_on():
    """NumPyro's own way back takes its upper end for constant: 0.09 where 2.24 is right."""
    made = from_numpyro(dynamic_event)
    u = made.constrain({"s": jnp.asarray(1.5), "u": jnp.zeros(3)})["u"]
    np.testing.assert_allclose(u, np.exp(1.5) / 2, rtol=1e-12)


def test_discrete_sites_are_summed_out():
    made = from_numpyro(discrete, Y)
    z = {"w": jnp.asarray(0.3), "mu": jnp.asarray([0.5, 2.0])}
    w = jax.nn.sigmoid(0.3)
    parts = [jnp.log(q) + dist.Normal(m, 1).log_prob(Y) for q, m in ((1 - w, 0.5), (w, 2.0))]
    right = jnp.sum(jnp.logaddexp(*parts)) + dist.Normal(0, 3).log_prob(z["mu"]).sum()
    right += dist.Beta(2, 2).log_prob(w) + jnp.log(w * (1 - w))
    np.testing.assert_allclose(made.logdensity(z), right, rtol=1e-12)
    values = made.constrain(z)
    assert set(values) == {"w", "mu", "gap"}  # what depends on z is not known
    np.testing.assert_allclose(values["w"], w, rtol=1e-12)
    np.testing.assert_allclose(values["gap"], 1.5, rtol=1e-12)
    assert made.log_likelihood is None
    assert made.posterior_predictive is None
    assert made.notes == ("discrete site 'z' is summed out, and not in the draws",)


def test_likelihoods_are_numpyros_and_new_data_are_new():
    made = from_numpyro(centred, Y)
    z = jax.tree.map(lambda leaf: leaf[0], points(made.init, 1))
    values = made.constrain(z)
    own = numpyro.infer.log_likelihood(centred, values, Y, batch_ndims=0)
    np.testing.assert_allclose(made.log_likelihood(z)["y"], own["y"], rtol=1e-12)
    new = [made.posterior_predictive(jax.random.key(i), z)["y"] for i in range(2)]
    assert new[0].shape == Y.shape
    assert not np.any(new[0] == new[1])
    assert not np.any(new[0] == Y)
    many = jax.vmap(lambda key: made.posterior_predictive(key, z)["y"])(
        jax.random.split(jax.random.key(0), 4000)
    )
    np.testing.assert_allclose(many.mean(0), values["theta"], atol=5 * 10 / np.sqrt(4000))
    np.testing.assert_array_equal(made.observed_data["y"], Y)


def test_factors_are_no_data():
    made = from_numpyro(*MODELS["factor"][:1], Y)
    assert set(made.observed_data) == {"y"}
    z = {"mu": jnp.asarray(0.3)}
    assert set(made.log_likelihood(z)) == {"y"}
    assert set(made.posterior_predictive(jax.random.key(0), z)) == {"y"}


def test_axes_are_those_of_plates_and_events():
    assert from_numpyro(nested).dims == {
        "a": ("row", "a_dim_1"),
        "b": ("row", "column"),
        "w": ("row", "column", "part"),
    }
    made = from_numpyro(non_centred, y=Y, coords={"school": list("ABCDEF")})
    assert made.dims == {"raw": ("school",), "theta": ("school",), "y": ("school",)}
    assert made.labels == ("mu", "raw[A]", "raw[B]", "raw[C]", "raw[D]", "raw[E]", "raw[F]", "tau")
    made = from_numpyro(MODELS["Dirichlet"][0], dims={"x": ["part"]})
    assert made.dims == {"x": ("part",)}
    scope = from_numpyro(*MODELS["scope"][:1], Y)
    assert scope.dims["a.theta"] == ("a/school",)
    assert scope.labels[0] == "a.mu"


def test_keys_inside_a_model_are_those_of_its_density():
    made = from_numpyro(keyed, Y)
    assert float(made.constrain({"mu": jnp.asarray(0.0)})["shift"]) == 1.0


def subsampled():
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    with numpyro.plate("row", 6, subsample_size=2) as i:
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=jnp.asarray(Y)[i])


def mutable():
    numpyro.primitives.mutable("count", {"n": 0})
    numpyro.sample("mu", dist.Normal(0, 10))


def delta():
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    numpyro.sample("same", dist.Delta(mu))


def poisson():
    k = numpyro.sample("k", dist.Poisson(3.0))
    numpyro.sample("x", dist.Normal(k, 1.0), obs=1.0)


def nothing():
    numpyro.sample("y", dist.Normal(0, 1), obs=1.0)


def nowhere():
    x = numpyro.sample("x", dist.Normal(0, 1))
    numpyro.factor("f", jnp.where(x > 50, 0.0, -jnp.inf))


def option(seed):
    numpyro.sample("x", dist.Normal(seed, 1))


REFUSED = {
    "subsample": (subsampled, (), {}, "plate 'row' is subsampled, 2 of 6.* remove subsample_size"),
    "mutable": (mutable, (), {}, "site 'count' is mutable state"),
    "Delta": (delta, (), {}, "site 'same' has a Delta distribution.*numpyro.deterministic"),
    "Poisson": (poisson, (), {}, "site 'k' is discrete, Poisson, without a finite support"),
    "observed": (nothing, (), {}, "no site to sample"),
    "NaN": (centred, (np.asarray([1.0, np.nan]),), {}, "observed site 'y' holds 1 NaN"),
    "nowhere": (nowhere, (), {}, "finds no place where.*init_to_value"),
    "option": (option, (), {}, r"argument 'seed'.*functools.partial\(model, seed=...\)"),
    "no model": (3.0, (), {}, "must be a function with NumPyro's primitives, got 3.0"),
    "dims": (nested, (), {"dims": {"c": ["row"]}}, "dims names 'c', but the model has only"),
    "too many": (nested, (), {"dims": {"a": ["b", "c", "d"]}}, "has 3 names.*has 2 axes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_sampled_is_refused_by_name(case):
    model, args, kwargs, message = REFUSED[case]
    with pytest.raises(capriole.ModelError, match=message):
        from_numpyro(model, *args, **kwargs)


def test_masked_nan_are_no_nan():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 10))
        with handlers.mask(mask=~np.isnan(y)):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=np.where(np.isnan(y), 0, y))

    made = from_numpyro(model, np.asarray([1.0, np.nan]))
    assert np.isfinite(made.logdensity({"mu": jnp.asarray(0.0)}))


@pytest.mark.parametrize("package", ["numpyro", "funsor"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else real(name)
    )
    with pytest.raises(ImportError, match=rf"{package}: pip install 'capriole\[numpyro\]'"):
        from_numpyro(discrete, Y)


def test_an_option_of_the_same_name_goes_in_by_partial():
    assert from_numpyro(functools.partial(option, seed=2.0)).labels == ("x",)


def test_strategies_say_where_chains_start():
    at = {"mu": 3.0, "tau": 2.0, "theta": np.arange(6.0)}
    made = from_numpyro(centred, Y, init_strategy=numpyro.infer.init_to_value(values=at))
    values = made.constrain(made.init)
    for name, value in at.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6)
    median = from_numpyro(centred, Y, init_strategy=numpyro.infer.init_to_median)
    starts = median.starts(jax.random.key(1), 5)
    assert {name: leaf.shape for name, leaf in starts.items()} == {
        "mu": (5,),
        "tau": (5,),
        "theta": (5, 6),
    }
    assert len(np.unique(starts["mu"])) == 5
    assert from_numpyro(centred, Y).starts is None
