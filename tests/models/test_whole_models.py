"""Whole models of PyMC and Stan through `fit`: eight schools, against moments by quadrature."""

import arviz_stats
import jax
import numpy as np
import pytest

import capriole
from stan_compiler import CompiledStan, can_compile

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
FIT = {"seed": 3, "num_draws": 500, "train_steps": 0, "compare": False}
SAMPLED = ("log_likelihood", "posterior_predictive")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("standard_promotion"),
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS installation"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def moments():
    """Mean and standard deviation of mu and tau; effects are integrated out."""
    mu, tau = np.meshgrid(np.linspace(-25, 30, 1101), np.linspace(1e-3, 120, 6000), indexing="ij")
    log = -(mu**2) / 50 - np.log1p((tau / 5) ** 2)
    for effect, error in zip(EFFECTS, ERRORS, strict=True):
        variance = error**2 + tau**2
        log -= (effect - mu) ** 2 / (2 * variance) + np.log(variance) / 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    found = {}
    for name, values in (("mu", mu), ("tau", tau)):
        mean = np.sum(weight * values)
        found[name] = mean, np.sqrt(np.sum(weight * (values - mean) ** 2))
    return found


def check(tree):
    for name, (mean, spread) in moments().items():
        draws = tree.posterior[name]
        error = spread / np.sqrt(float(arviz_stats.ess(draws)))
        assert abs(float(draws.mean()) - mean) < 4 * error, name
    assert tree.posterior["theta"].shape[2:] == (8,)
    assert tree.log_likelihood["y"].shape == tree.posterior_predictive["y"].shape
    np.testing.assert_array_equal(tree.observed_data["y"], EFFECTS)
    assert set(tree.children) >= {"sample_stats", "unconstrained_posterior"}
    assert float(arviz_stats.loo(tree).elpd) == pytest.approx(-30.8, abs=0.5)


def test_pymc_draws_and_reads_the_tree():
    pm = pytest.importorskip("pymc")
    names = [f"school {i}" for i in range(8)]
    with pm.Model(coords={"school": names}) as model:
        tau = pm.HalfCauchy("tau", 5)
        mu = pm.Normal("mu", 0, 5)
        theta = pm.Normal("theta", mu, tau, dims="school")
        pm.Deterministic("effect", theta - mu, dims="school")
        pm.Normal("y", theta, ERRORS, observed=EFFECTS, dims="school")
    with jax.enable_x64(False):  # the model needs float64, and asks for it
        found = capriole.fit(model, groups=SAMPLED, **FIT)
    assert not found.verdict.failed, found.verdict.recommendation
    check(found.tree)
    assert list(found.tree.posterior["effect"].coords["school"].values) == names
    ours = found.tree.log_likelihood["y"].copy()
    tree = pm.compute_log_likelihood(found.tree.copy(), model=model, progressbar=False)
    np.testing.assert_allclose(tree.log_likelihood["y"], ours, rtol=1e-9)
    drawn = pm.sample_posterior_predictive(
        found.tree, model=model, random_seed=0, progressbar=False
    ).posterior_predictive["y"]
    spread = found.tree.posterior_predictive["y"].std(["chain", "draw"])
    np.testing.assert_allclose(drawn.std(["chain", "draw"]), spread, rtol=0.1)
    over = ["chain", "draw"]
    nearer = np.abs(drawn.mean(over) - found.tree.posterior["theta"].mean(over))
    assert (nearer < 5 * spread / np.sqrt(500)).all()


@pytest.mark.skipif(not can_compile(), reason="needs g++ and the httpstan wheel")
def test_stan_draws():
    data = {"J": 8, "y": EFFECTS.tolist(), "sigma": ERRORS.tolist()}
    model = capriole.from_stan(CompiledStan("eight_schools", data), dims={"theta": ["school"]})
    found = capriole.fit(model, groups=SAMPLED, **FIT)
    assert not found.verdict.failed, found.verdict.recommendation
    check(found.tree)
    assert found.tree.posterior["theta"].dims == ("chain", "draw", "school")


@pytest.mark.skipif(not can_compile(), reason="needs g++ and the httpstan wheel")
def test_a_network_trains_by_stans_curvature():
    """Stan's Hessian-vector products against a force that counts as constant."""
    data = {"J": 8, "y": EFFECTS.tolist(), "sigma": ERRORS.tolist()}
    stan = CompiledStan("eight_schools", data)
    acceptance = {}
    for curvature in (True, False):
        model = capriole.from_stan(stan, curvature=curvature)
        result = capriole.train(model, num_steps=200, num_leapfrogs=4, num_chains=100)
        tree = capriole.sample(result.transition, seed=1, num_draws=200)
        acceptance[curvature] = float(tree.sample_stats["acceptance_rate"].mean())
    assert acceptance[True] > acceptance[False] + 0.02, acceptance
