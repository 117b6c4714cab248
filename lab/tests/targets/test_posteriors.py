"""Posteriors against posteriordb's reference draws, without a sampler: Stein's identities and what
they must catch.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import log_sigmoid

from capriole.kernels import value_and_grad as _value_and_grad
from capriole_lab import targets
from capriole_lab.targets import POSTERIORS, make_target, reference_draws
from capriole_lab.targets._priors import Flat, Normal, StudentT
from checkout import needs_checkout

PREFIX = "posteriordb/"
NAMES = [full.removeprefix(PREFIX) for full in POSTERIORS]
DIMS = dict(zip(NAMES, (10, 10, 6, 5, 5, 3, 3, 26, 7, 4, 5, 4, 13), strict=True))
SCHOOLS, CENTRED, BLR = NAMES[:3]
KILPISJARVI, GARCH, MIXTURE, HMM, GP = NAMES[6], *NAMES[9:]
KEY = jax.random.key(30)
value_and_grad = eqx.filter_jit(_value_and_grad)
every_posterior = pytest.mark.parametrize("name", NAMES)


@functools.cache
def case(name):
    """A posterior, its reference draws by name and as positions (dim, draws), the score there."""
    target, reference = make_target(PREFIX + name), reference_draws(name)
    draws = target.unconstrain(reference).reshape(target.dim, -1)
    return target, reference, np.asarray(draws), np.asarray(value_and_grad(target, draws)[1])


def z_scores(terms):
    return terms.mean(axis=-1) / (terms.std(axis=-1) / np.sqrt(terms.shape[-1]))


def stein(draws, score):
    """Largest |z| of ``E[d_i log p] = 0`` and of ``E[(x_i - m_i) d_j log p] = -delta_ij``, along
    coordinates and along principal axes: a stiff direction of a correlated posterior hides from its
    coordinates what soft ones show.
    """
    mean, axes = draws.mean(axis=1, keepdims=True), np.linalg.eigh(np.cov(draws))[1]
    worst = []
    for x, d in ((draws - mean, score), (axes.T @ (draws - mean), axes.T @ score)):
        second = x[:, None] * d + np.eye(len(x))[:, :, None]
        worst.append([np.abs(z_scores(d)).max(), np.abs(z_scores(second)).max()])
    return np.max(worst, axis=0)


@needs_checkout
@every_posterior
def test_reference_draws_satisfy_stein_identities(name):
    target, _, draws, score = case(name)
    assert target.dim == DIMS[name]
    assert draws.shape == score.shape == (target.dim, 10_000)
    assert max(stein(draws, score)) < 5
    assert stein(draws, score / 1.2)[1] > 8  # the control: a density 20 % too flat is seen


def minus(term):
    """Plants a fault: a term forgotten."""
    return lambda target: lambda x: target(x) - term(x)


def with_priors(*priors):
    return lambda target: eqx.tree_at(lambda t: t.priors, target, priors)


def wider_mu(x):
    return -(x[-2] ** 2) * (1 / 50 - 1 / 200)


def prior_tau(x):
    return StudentT(1, 0, 5)(jnp.exp(x[-1]))


FAULTS = {
    "regression, no Jacobian": (BLR, minus(lambda x: x[-1])),
    "regression, priors forgotten": (KILPISJARVI, with_priors(Flat(), Flat())),
    "regression, a variance for a scale": (
        KILPISJARVI,
        with_priors(Normal(9.31, 100), Normal(0, 0.0333**0.5)),
    ),
    "schools, no Jacobian": (SCHOOLS, minus(lambda x: x[-1])),
    "schools, mu ~ N(0, 10)": (SCHOOLS, minus(wider_mu)),
    "schools, no prior of tau": (SCHOOLS, minus(prior_tau)),
    "centred schools, no Jacobian": (CENTRED, minus(lambda x: x[-1])),
    "centred schools, no prior of tau": (CENTRED, minus(prior_tau)),
    "garch, no Jacobian of a0": (GARCH, minus(lambda x: x[1])),
    "garch, no Jacobian of 1 - a1": (GARCH, minus(lambda x: log_sigmoid(-x[2]))),
    "mixture, s_k ~ N(0, 0.2)": (
        MIXTURE,
        minus(lambda x: jnp.sum(jnp.exp(2 * x[2:4]), axis=0) / 0.08),
    ),
    "hmm, no Jacobian of theta": (
        HMM,
        minus(lambda x: jnp.sum(log_sigmoid(x[:2]) + log_sigmoid(-x[:2]), axis=0)),
    ),
    "hmm, priors of mu forgotten": (
        HMM,
        minus(lambda x: -((jnp.exp(x[2]) + jnp.exp(x[3]) - 10) ** 2) / 2),
    ),
    "gp, rho ~ Gamma(20, 4)": (GP, minus(lambda x: 5 * x[0])),
    "gp, alpha ~ N+(0, 4)": (GP, minus(lambda x: -jnp.exp(2 * x[1]) * (1 / 8 - 1 / 32))),
}


@needs_checkout
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(fault):
    name, plant = FAULTS[fault]
    target, _, draws, _ = case(name)
    density = plant(target)
    score = jax.jit(jax.grad(lambda x: density(x).sum()))(jnp.asarray(draws))
    assert max(stein(draws, np.asarray(score))) > 5


@needs_checkout
@every_posterior
def test_parameters_and_positions_are_each_others_inverse(name):
    target, reference, draws, _ = case(name)
    assert set(reference) <= set(target.parameters)
    parameters = target.constrain(jnp.asarray(draws))
    assert tuple(parameters) == target.parameters
    for key, values in reference.items():
        np.testing.assert_allclose(
            parameters[key], values.ravel(), rtol=1e-11, atol=1e-9 * values.std()
        )
    assert target.unconstrain(reference).shape == (target.dim, 10, 1000)
    with pytest.raises(ValueError, match="missing"):
        target.unconstrain({})


@needs_checkout
@every_posterior
def test_one_chain_is_a_column_of_many(name):
    target, _, draws, score = case(name)
    value, gradient = value_and_grad(target, jnp.asarray(draws[:, 0]))
    assert value.shape == ()
    np.testing.assert_allclose(gradient, score[:, 0], rtol=1e-8, atol=1e-8 * np.abs(score).max())
    parameters = jax.eval_shape(target.constrain, jnp.asarray(draws[:, 0]))
    assert {key: array.shape for key, array in parameters.items()} == dict.fromkeys(
        target.parameters, ()
    )


@needs_checkout
@every_posterior
def test_starts_are_finite_and_second_derivatives_exist(name):
    target, _, draws, _ = case(name)
    start = eqx.filter_jit(target.start)
    starts = start(KEY, 100)
    np.testing.assert_allclose(starts[:, :4], start(KEY, 4), rtol=1e-12)
    positions = jnp.concatenate([starts, draws[:, :100]], axis=1)

    @jax.jit
    def derivatives(x):
        gradient = jax.grad(lambda x: target(x).sum())
        return gradient(x), jax.grad(
            lambda x: jnp.sum(gradient(x) * jnp.arange(1.0, len(x) + 1)[:, None])
        )(x)

    for array in derivatives(positions):
        assert np.isfinite(array).all()
        assert np.any(array, axis=1).all()


@needs_checkout
@every_posterior
def test_single_precision_is_good_enough_or_refused(name):
    _, _, draws, score = case(name)
    if name == GP:
        with pytest.raises(ValueError, match=r"needs float64, got float32.*--float64"):
            make_target(PREFIX + name, dtype=jnp.float32)
        return
    target = make_target(PREFIX + name, dtype=jnp.float32)
    assert target.start(KEY, 2).dtype == jnp.float32
    value, single = value_and_grad(target, jnp.asarray(draws, jnp.float32))
    assert value.dtype == single.dtype == jnp.float32
    error = np.sqrt(np.mean((np.asarray(single, np.float64) - score) ** 2, axis=1)) / score.std(
        axis=1
    )
    assert error.max() < 5e-3


@needs_checkout
def test_the_gaussian_process_loses_much_of_its_posterior_in_single_precision():
    target, _, draws, _ = case(GP)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), target)
    lost = float(jnp.mean(jnp.isnan(eqx.filter_jit(single)(jnp.asarray(draws, jnp.float32)))))
    assert (
        lost > 0.2
    )  # why the class refuses it (0.37 when measured; it varies with the order of roundings)


@needs_checkout
def test_regression_is_the_formula_of_its_rows():
    data = targets.read_data(BLR)
    features, response = np.array(data["X"]), np.array(data["y"])
    target, _, draws, _ = case(BLR)

    def plain(u):
        sigma = np.exp(u[-1])
        fit = -len(response) * u[-1] - np.sum((response - features @ u[:-1]) ** 2) / (2 * sigma**2)
        return fit - np.sum(u[:-1] ** 2) / 200 - sigma**2 / 200 + u[-1]

    values = np.asarray(target(jnp.asarray(draws[:, :50])))
    np.testing.assert_allclose(values, [plain(u) for u in draws[:, :50].T], rtol=1e-12, atol=1e-9)


REGRESSION = {"priors": ((1, Flat()),), "scale_prior": Flat(), "parameters": ("b", "sigma")}
WRONG = [
    ({"features": np.ones(3), "response": np.ones(3)}, r"\(3,\)"),
    ({"features": np.ones((3, 2)), "response": np.ones(3)}, "2 features need as many priors"),
    ({"features": np.full((3, 1), np.nan), "response": np.ones(3)}, "finite"),
    ({"features": np.zeros((3, 1)), "response": np.ones(3)}, "not linearly independent"),
    ({"features": np.ones((1, 1)), "response": np.ones(1)}, "not linearly independent"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_regressions_are_named(arguments, message):
    from capriole_lab.targets.models._regression import NormalRegression

    with pytest.raises(ValueError, match=message):
        NormalRegression(**REGRESSION | arguments)


def test_wrong_data_of_models_are_named():
    from capriole_lab.targets.models import _gp, _schools, _series

    with pytest.raises(ValueError, match=r"positive errors of one length, got \(2,\)"):
        _schools.CentredSchools(effects=[1.0, 2.0], errors=[1.0, 0.0])
    with pytest.raises(ValueError, match="at least 2 values"):
        _series.HiddenMarkov(series=[1.0])
    with pytest.raises(ValueError, match="missing values"):
        _series.NormalMixture(values=[1.0, np.nan])
    with pytest.raises(ValueError, match=r"positive, got 0\.0"):
        _series.Garch(series=[1.0, 2.0], first_scale=0.0)
    with pytest.raises(ValueError, match=r"one length, got \(2,\) and \(1,\)"):
        _gp.PoissonProcessRegression(inputs=[0.0, 1.0], counts=[1.0])


def test_registry_names_are_found_and_hinted():
    assert len(POSTERIORS) == 13
    assert all(all(entry) for entry in POSTERIORS.values())
    with pytest.raises(ValueError, match="did you mean 'posteriordb/arK-arK'"):
        make_target("arK-arK")


@pytest.mark.parametrize("log_scale", [0.0, -3.0, -20.0])
@pytest.mark.parametrize("narrow", [0, 1])
def test_a_mixture_is_right_where_one_scale_is_tiny(log_scale, narrow):
    """At a scale of exp(-20) the narrow component's sums must not cancel."""
    from capriole_lab.targets.models._series import NormalMixture

    values = np.random.default_rng(0).normal(size=200) * 2
    target = NormalMixture(values=values, dtype="float64")
    means, scales = np.array([-1.3, 1.2]), np.array([1.5, 1.5])
    scales[narrow] = np.exp(log_scale)
    u = np.array([means[0], np.log(means[1] - means[0]), *np.log(scales), 0.4])
    theta = 1 / (1 + np.exp(-0.4))
    each = (
        -(((values[:, None] - means) / scales) ** 2) / 2
        - np.log(scales)
        + np.log([theta, 1 - theta])
    )
    exact = np.sum(np.logaddexp(*each.T)) - np.sum(means**2 + scales**2) / 8
    exact += 5 * np.log(theta * (1 - theta)) + u[1] + u[2] + u[3]
    np.testing.assert_allclose(target(jnp.asarray(u)), exact, rtol=1e-9)
