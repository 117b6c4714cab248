"""Draws of a model: the user's variables, names of axes, data, and groups on request."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.kernels import hmc
from capriole.models import as_logdensity, constrained
from capriole.sampling import UNCONSTRAINED, over_draws

SCHOOLS = ["Choate", "Deerfield", "Exeter"]
Y = np.asarray([28.0, 8.0, -3.0])


def density(x):
    prior = -(x["tau"] ** 2) / 50 - jnp.sum((x["theta"] / x["tau"]) ** 2) / 2
    return prior - 3 * jnp.log(x["tau"]) - jnp.sum((Y - x["theta"]) ** 2) / 200


def likelihood(z):
    return {"y": -((Y - z["theta"]) ** 2) / 200}


def predictive(key, z):
    return {"y": z["theta"] + 10 * jax.random.normal(key, (3,), z["theta"].dtype)}


def schools(**more):
    """A model with a bounded variable, a deterministic one, data, and names of axes."""
    base = constrained(
        density, {"tau": 5.0, "theta": np.ones(3)}, {"tau": "positive"}, coords={"school": SCHOOLS}
    )

    def values(z):
        found = base.constrain(z)
        return found | {"shrinkage": found["theta"] / Y, "first": z["theta"][0] > 0}

    return capriole.Model(
        base.logdensity,
        base.init,
        values,
        dims={"theta": ("school",), "shrinkage": ("school",), "y": ("school",)},
        coords=base.coords,
        observed_data={"y": Y},
        constant_data={"sigma": np.full(3, 10.0), "size": np.asarray(3)},
        log_likelihood=likelihood,
        posterior_predictive=predictive,
        **more,
    )


@pytest.fixture(scope="module")
def model():
    return schools()


@pytest.fixture(scope="module")
def kernel(model):
    return hmc(as_logdensity(model)[0], step_size=0.3, num_leapfrogs=3)


@pytest.fixture(scope="module")
def tree(kernel):
    groups = ("log_likelihood", "posterior_predictive")
    return capriole.sample(kernel, num_chains=4, num_draws=100, num_warmup=20, groups=groups)


def test_a_kernel_knows_the_variables_of_its_model(tree):
    posterior, free = tree["posterior"], tree[UNCONSTRAINED]
    assert set(posterior.data_vars) == {"tau", "theta", "shrinkage", "first"}
    np.testing.assert_allclose(posterior["tau"], np.exp(free["tau"]), rtol=1e-12)
    np.testing.assert_allclose(posterior["shrinkage"], posterior["theta"] / Y, rtol=1e-12)
    assert posterior["first"].dtype == bool
    assert posterior["theta"].dims == ("chain", "draw", "school")
    assert posterior["theta"].sel(school="Choate").shape == (4, 100)
    assert list(posterior["shrinkage"].coords["school"].values) == SCHOOLS
    assert posterior.attrs["modeling_interface"] == "capriole"
    np.testing.assert_array_equal(tree["observed_data"]["y"], Y)
    assert tree["observed_data"]["y"].dims == ("school",)
    assert set(tree["constant_data"].data_vars) == {"sigma", "size"}
    assert tree["sample_stats"]["lp"].shape == (4, 100)


def test_groups_are_of_the_same_draws(tree):
    theta = tree[UNCONSTRAINED]["theta"].values
    np.testing.assert_allclose(tree["log_likelihood"]["y"], -((Y - theta) ** 2) / 200, rtol=1e-12)
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "school")
    noise = (tree["posterior_predictive"]["y"].values - theta) / 10
    assert len(np.unique(noise)) == noise.size
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * noise.size)


def test_groups_can_be_added_later(tree, model, kernel):
    bare = capriole.sample(kernel, num_chains=4, num_draws=100, num_warmup=20)
    assert "log_likelihood" not in bare.children
    later = capriole.complete(bare, model, groups=["log_likelihood"])
    np.testing.assert_array_equal(later["log_likelihood"]["y"], tree["log_likelihood"]["y"])
    assert "posterior_predictive" not in later.children
    assert later["posterior"].identical(bare["posterior"])


def test_blocks_make_the_same_values(monkeypatch):
    def function(z):
        return {"square": z**2, "sum": jnp.sum(z)}

    z = np.random.default_rng(0).normal(size=(3, 70, 2))
    whole = over_draws(function, z)
    monkeypatch.setattr("capriole.sampling._groups._BLOCK_NUMBERS", 100)
    parts = over_draws(function, z)
    for name, right in {"square": z**2, "sum": z.sum(-1)}.items():
        np.testing.assert_allclose(whole[name], right, rtol=1e-12)
        np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.filterwarnings("ignore")  # ArviZ's advice on so few draws is not ours
def test_arviz_reads_the_tree_and_files_keep_it(tree, tmp_path):
    import arviz_stats as az
    import xarray

    assert "theta[Choate]" in az.summary(tree, var_names=["theta", "tau"]).index
    loo = az.loo(tree)
    assert np.isfinite(loo.elpd)
    assert len(az.compare({"a": loo, "b": az.loo(tree)})) == 2
    tree.to_zarr(tmp_path / "draws.zarr")
    back = xarray.open_datatree(tmp_path / "draws.zarr", engine="zarr")
    np.testing.assert_array_equal(back["posterior"]["theta"], tree["posterior"]["theta"])
    assert list(back["posterior"]["theta"].coords["school"].values) == SCHOOLS
    tree.to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    back = xarray.open_datatree(tmp_path / "draws.nc", engine="h5netcdf")
    np.testing.assert_array_equal(back["log_likelihood"]["y"], tree["log_likelihood"]["y"])


@pytest.mark.filterwarnings("ignore")
def test_arviz_plots_predictions_and_asks_for_priors(tree):
    plots = pytest.importorskip("arviz_plots")
    import arviz_stats as az
    from arviz_base import from_dict

    plots.plot_ppc_dist(tree, backend="none")
    prior = -(tree["posterior"]["tau"].values ** 2) / 50
    tree = tree.assign({"log_prior": from_dict({"log_prior": {"tau": prior}})["log_prior"]})
    found = az.psense_summary(tree, var_names=["tau"])
    assert set(found.index) == {"tau"}


REFUSED = {
    "unknown": (("loglik",), "groups may be log_likelihood and posterior_predictive, got 'loglik'"),
    "a word": ("log_likelihood", r"must be a list of names.* write \('log_likelihood',\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unknown_groups_are_refused(case, tree, model):
    groups, message = REFUSED[case]
    with pytest.raises(capriole.ModelError, match=message):
        capriole.complete(tree, model, groups=groups)


def test_groups_that_a_model_lacks_are_refused(tree, kernel):
    bare = constrained(density, {"tau": 5.0, "theta": np.ones(3)}, {"tau": "positive"})
    with pytest.raises(capriole.ModelError, match="this model of capriole has no log_likelihood"):
        capriole.complete(tree, bare, groups=["log_likelihood"])
    plain = hmc(
        as_logdensity(lambda x: -jnp.sum(x**2), np.zeros(2))[0], step_size=0.1, num_leapfrogs=2
    )
    with pytest.raises(capriole.ModelError, match="a bare log density has no log_likelihood"):
        capriole.sample(plain, np.zeros(2), groups=["log_likelihood"])
    draws = capriole.sample(plain, np.zeros(2), num_draws=10)
    with pytest.raises(capriole.ModelError, match="no group unconstrained_posterior"):
        capriole.complete(draws, schools())
    longer = {"tau": np.zeros(()), "theta": np.zeros(4)}
    other = capriole.Model(density, longer, log_likelihood=lambda z: {"y": z["theta"]})
    with pytest.raises(capriole.ModelError, match=r"'theta' has shape .3,. in the draws, but .4,."):
        capriole.complete(tree, other, groups=["log_likelihood"])


def test_a_group_that_fails_does_so_before_the_draws():
    def wrong(z):
        return {"y": z["none"]}

    base = schools()
    model = capriole.Model(base.logdensity, base.init, log_likelihood=wrong)
    kernel = hmc(as_logdensity(model)[0], step_size=0.3, num_leapfrogs=3)
    with pytest.raises(capriole.ModelError, match="log_likelihood failed at its init: KeyError"):
        capriole.sample(kernel, num_draws=10**9, groups=["log_likelihood"])


def test_a_model_without_variables_of_its_own_keeps_its_positions():
    model = capriole.Model(
        lambda z: -jnp.sum(z["b"]["c"] ** 2), {"b": {"c": np.zeros(2)}}, dims={"b.c": ("k",)}
    )
    kernel = hmc(as_logdensity(model)[0], step_size=0.3, num_leapfrogs=2)
    tree = capriole.sample(kernel, num_chains=2, num_draws=20, num_warmup=10)
    assert tree["posterior"]["b.c"].dims == ("chain", "draw", "k")
    np.testing.assert_array_equal(tree["posterior"]["b.c"], tree[UNCONSTRAINED]["b.c"])


def test_names_that_do_not_fit_unconstrained_values_are_left_out():
    model = constrained(
        lambda x: jnp.sum(jnp.log(x["w"])),
        {"w": np.asarray([0.2, 0.3, 0.5])},
        {"w": "simplex"},
        dims={"w": ("part",)},
        coords={"part": ["a", "b", "c"]},
    )
    kernel = hmc(as_logdensity(model)[0], step_size=0.3, num_leapfrogs=2)
    tree = capriole.sample(kernel, num_chains=2, num_draws=20, num_warmup=10)
    assert tree["posterior"]["w"].dims == ("chain", "draw", "part")
    assert tree[UNCONSTRAINED]["w"].dims == ("chain", "draw", "w_dim_0")
