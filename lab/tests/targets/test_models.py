"""Models with data that ship or are simulated: against pairs of parameters and data drawn from the
model itself.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole.kernels import value_and_grad as _value_and_grad
from capriole_lab import targets
from capriole_lab.targets import MODELS, BinomialHierarchy, StochasticVolatility, make_target
from capriole_lab.targets._recurrence import linear_recurrence

KEY = jax.random.key(31)
DIMS = {"batting": 20, "coal": 50, "lynx-hare": 8, "volatility": 203}
NUM = 20_000
value_and_grad = eqx.filter_jit(_value_and_grad)
every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_models_are_typed_and_starts_are_finite(name):
    assert list(MODELS) == list(DIMS)
    assert all(MODELS[name])
    for dtype in (jnp.float32, jnp.float64):
        target = make_target(name, dtype=dtype)
        starts = eqx.filter_jit(target.start)(KEY, 200)
        assert starts.shape == (target.dim, 200) == (DIMS[name], 200)
        value, gradient = value_and_grad(target, starts)
        assert value.dtype == gradient.dtype == starts.dtype == dtype
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
    np.testing.assert_allclose(eqx.filter_jit(target.start)(KEY, 4), starts[:, :4], rtol=1e-12)


@every_model
def test_one_chain_is_a_column_of_many_and_second_derivatives_exist(name):
    target = make_target(name)
    starts = target.start(KEY, 20)
    value, gradient = value_and_grad(target, starts)
    single, single_gradient = value_and_grad(target, starts[:, 3])
    assert single.shape == ()
    np.testing.assert_allclose(single, value[3], rtol=1e-11)
    np.testing.assert_allclose(
        single_gradient, gradient[:, 3], rtol=1e-8, atol=1e-8 * np.abs(gradient).max()
    )

    @jax.jit
    def second(x):
        gradient = jax.grad(lambda x: target(x).sum())
        return jax.grad(lambda x: jnp.sum(gradient(x) * jnp.arange(1.0, len(x) + 1)[:, None]))(x)

    assert np.isfinite(second(starts)).all()
    assert np.any(second(starts), axis=1).all()


@every_model
def test_parameters_and_positions_are_each_others_inverse(name):
    target = make_target(name)
    starts = target.start(KEY, 20)
    parameters = target.constrain(starts)
    assert tuple(parameters) == target.parameters
    batch = {key: array.reshape(4, 5) for key, array in parameters.items()}
    np.testing.assert_allclose(
        target.unconstrain(batch).reshape(target.dim, 20), starts, rtol=1e-8, atol=1e-8
    )


def volatility_pairs(stream):
    """Positions, squared returns: T = 15 of Kim, Shephard and Chib's model and priors."""
    num = 15
    noise, mu = stream.standard_normal((num, NUM)), math.sqrt(10) * stream.standard_normal(NUM)
    half = stream.beta(20, 1.5, NUM)
    phi, sigma = 2 * half - 1, 1 / np.sqrt(stream.gamma(2.5, 1 / 0.025, NUM))
    h = [mu + sigma / np.sqrt(1 - phi**2) * noise[0]]
    for e in noise[1:]:
        h.append(mu + phi * (h[-1] - mu) + sigma * e)
    returns = np.exp(np.array(h) / 2) * stream.standard_normal((num, NUM))
    position = np.concatenate([noise, [mu, np.log(half / (1 - half)), np.log(sigma)]])
    return StochasticVolatility(returns=np.ones(num)), "squares", position, returns**2


def batting_pairs(stream):
    mu, tau = stream.standard_normal(NUM) - 1, np.abs(stream.standard_normal(NUM))
    odds = mu + tau * stream.standard_normal((18, NUM))
    hits = stream.binomial(45, 1 / (1 + np.exp(-odds))).astype(float)
    return make_target("batting"), "hits", np.concatenate([odds, [mu, np.log(tau)]]), hits


def coal_pairs(stream):
    target, noise = make_target("coal"), stream.standard_normal((50, NUM))
    times = 2.24 * np.arange(50)
    factor = np.linalg.cholesky(np.exp(-np.abs(times[:, None] - times) / 20))
    rates = math.log(191 / 112) - 1 / 2 + factor @ noise
    return target, "counts", noise, stream.poisson(2.24 * np.exp(rates)).astype(float)


def minus(term):
    """Plants a fault: a term forgotten."""
    return lambda target: lambda x: target(x) - term(x)


def scaled_factor(target):
    return eqx.tree_at(lambda t: t.factor, target, 1.05 * target.factor)


PAIRS = {"batting": batting_pairs, "coal": coal_pairs, "volatility": volatility_pairs}
FAULTS = {
    "batting": {
        "no Jacobian": minus(lambda x: x[-1]),
        "no prior of mu": minus(lambda x: -((x[-2] + 1) ** 2) / 2),
    },
    "coal": {
        "a rougher prior": scaled_factor,
        "no prior": minus(lambda x: -jnp.sum(x**2, axis=0) / 2),
    },
    "volatility": {
        "no Jacobian of phi": minus(
            lambda x: jax.nn.log_sigmoid(x[-2]) + jax.nn.log_sigmoid(-x[-2])
        ),
        "no Jacobian of sigma^2": minus(lambda x: 2 * x[-1]),
        "mu ~ N(0, 10^2)": minus(lambda x: -(x[-3] ** 2) * (1 / 20 - 1 / 200)),
    },
}


@functools.cache
def pairs(name):
    return PAIRS[name](np.random.default_rng(7))


def stein(name, plant=lambda target: target):
    """Largest |z| of ``E[d_i log p] = 0`` and ``E[x_i d_i log p] = -1`` over parameters and data
    from the model.

    Given its data each parameter is a draw of that posterior, so Stein's identities hold over all
    pairs; and only if priors, likelihood and Jacobians are those that made the pairs.
    """
    target, leaf, positions, data = pairs(name)

    def density(x, values):
        return plant(eqx.tree_at(lambda t: getattr(t, leaf), target, values))(x)

    score = np.asarray(
        jax.jit(jax.vmap(jax.grad(density), in_axes=-1, out_axes=-1))(positions, data)
    )
    together = np.sum(
        score[:-1], axis=0
    )  # a group and its mean moved as one: light tails where tau is small
    terms = np.concatenate([score, positions * score + 1, [together, positions[-2] * together + 1]])
    return np.abs(terms.mean(axis=1) / (terms.std(axis=1) / math.sqrt(NUM))).max()


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_parameters_and_data_satisfy_stein_identities(name):
    assert stein(name) < 5


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name in FAULTS for fault in FAULTS[name]]
)
def test_planted_faults_are_seen(name, fault):
    assert stein(name, FAULTS[name][fault]) > 5


def test_recurrence_is_the_loop():
    stream = np.random.default_rng(3)
    inputs, coefficient = stream.standard_normal((7, 3)), np.array([0.9, -0.5, 0.0])
    state, expected = np.zeros(3), []
    for row in inputs:
        state = coefficient * state + row
        expected.append(state)
    np.testing.assert_allclose(
        linear_recurrence(jnp.asarray(inputs), jnp.asarray(coefficient)), expected, rtol=1e-14
    )


# Reference means and their errors: hudson_lynx_hare-lotka_volterra of posteriordb (BSD-3).
LYNX_MEANS = (0.546864499783931, 0.0277472877678081, 0.800095360233122, 0.0240859152534545)
LYNX_MEANS = (*LYNX_MEANS, 34.0352224770469, 5.93589713368062, 0.24805686320252, 0.251016914583618)
LYNX_ERRORS = (
    0.00062626907415417,
    4.11604266143508e-05,
    0.000884603225898987,
    3.50047668143892e-05,
)
LYNX_ERRORS = (
    *LYNX_ERRORS,
    0.0293082761729642,
    0.00533872103038814,
    0.000439337727695207,
    0.000439525598676463,
)


@functools.cache
def lynx_proposals():
    """Draws of a multivariate t around the mode of lynx-hare, and their log densities."""
    target, mode = make_target("lynx-hare"), jnp.log(jnp.asarray(LYNX_MEANS))
    gradient = jax.jit(jax.grad(target))
    hessian = jax.jit(jax.jacrev(jax.grad(target)))
    for _ in range(6):
        mode = mode - jnp.linalg.solve(hessian(mode), gradient(mode))
    assert np.abs(gradient(mode)).max() < 1e-6
    proposal = stats.multivariate_t(mode, np.linalg.inv(-np.asarray(hessian(mode))), df=8, seed=11)
    positions = proposal.rvs(NUM)
    return target, jnp.asarray(positions.T), proposal.logpdf(positions)


def lynx_z(plant=lambda target: target):
    """z of importance-sampled posterior means against the reference's, for every parameter."""
    target, positions, proposed = lynx_proposals()
    log_weights = np.asarray(eqx.filter_jit(plant(target))(positions)) - proposed
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    assert 1 / np.sum(weights**2) > NUM / 4  # effective draws
    values = np.exp(np.asarray(positions))
    means = values @ weights
    errors = np.sqrt(((values - means[:, None]) ** 2) @ weights**2 + np.square(LYNX_ERRORS))
    return (means - LYNX_MEANS) / errors


def test_lynx_and_hare_have_the_reference_means():
    assert np.abs(lynx_z()).max() < 5
    assert np.abs(lynx_z(minus(lambda x: x[6]))).max() > 5  # the control: no Jacobian of sigma
    assert np.abs(lynx_z(minus(lambda x: x[0]))).max() > 5  # nor of theta


def by_diffrax(position):
    """Log populations at the whole years, by an adaptive eighth-order solver."""
    diffrax = pytest.importorskip("diffrax")
    theta = jnp.exp(position[:4])

    def slope(time, state, theta):
        prey, predators = state
        return jnp.stack(
            [(theta[0] - theta[1] * predators) * prey, (theta[3] * prey - theta[2]) * predators]
        )

    years = jnp.arange(21.0)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        diffrax.Dopri8(),
        0.0,
        20.0,
        0.01,
        jnp.exp(position[4:6]),
        args=theta,
        saveat=diffrax.SaveAt(ts=years),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
    )
    return jnp.log(solution.ys.T)


def test_lynx_and_hare_are_the_model_of_the_case_study():
    """The density against scipy.stats on diffrax's solution of the equations."""
    target, positions = make_target("lynx-hare"), lynx_proposals()[1][:, :5]
    data = np.exp(np.asarray(target.logs))
    assert data[:, 0].tolist() == pytest.approx([30.0, 4.0])
    expected = []
    for x in positions.T:
        path = np.asarray(by_diffrax(x))
        np.testing.assert_allclose(target.path(x), path, atol=2e-5)
        theta, initial, sigma = np.split(np.exp(np.asarray(x)), [4, 6])
        value = stats.truncnorm.logpdf(theta[::2], -2, np.inf, 1, 0.5).sum()
        value += stats.truncnorm.logpdf(theta[1::2], -1, np.inf, 0.05, 0.05).sum()
        value += (
            stats.lognorm.logpdf(initial, 1, scale=10).sum()
            + stats.lognorm.logpdf(sigma, 1, scale=np.exp(-1)).sum()
        )
        value += stats.lognorm.logpdf(data, sigma[:, None], scale=np.exp(path)).sum() + np.sum(x)
        expected.append(value)
    constant = np.asarray(target(positions)) - np.array(expected)
    np.testing.assert_allclose(constant, constant[0], atol=5e-4)


def test_coal_is_the_published_series():
    target = make_target("coal")
    assert target.counts.sum() == 191
    dates = targets._data.read_table("coal_disasters.csv", (191, 1))[:, 0]
    published = [
        4,
        5,
        4,
        1,
        0,
        4,
        3,
        4,
        0,
        6,
        3,
        3,
        4,
        0,
        2,
        6,
        3,
        3,
        5,
        4,
        5,
        3,
        1,
        4,
        4,
        1,
        5,
        5,
        3,
        4,
    ]
    assert np.histogram(dates, np.arange(1851, 1882))[0].tolist() == published
    assert target.width == pytest.approx(2.24)
    notice = (
        targets._data.importlib.resources.files("capriole_lab.targets") / "data" / "README.md"
    ).read_text()
    assert all(word in notice for word in ("Jarrett", "Hewitt", "public domain"))


def test_volatility_is_simulated_from_a_frozen_stream():
    squares = np.asarray(make_target("volatility").squares)
    assert squares.shape == (200,)
    np.testing.assert_allclose(
        np.sqrt(squares[:3]),
        [0.4972536921084781, 0.07225979794469352, 0.4812898613030424],
        rtol=1e-6,
    )


WRONG = [
    (targets.StochasticVolatility, {"returns": [1.0]}, "at least 2 returns"),
    (targets.StochasticVolatility, {"returns": [1.0, np.nan]}, "missing values"),
    (
        targets.CoxProcess,
        {"counts": [1, -1], "width": 1, "variance": 1, "length": 1},
        "not negative",
    ),
    (targets.CoxProcess, {"counts": [1, 0.5], "width": 1, "variance": 1, "length": 1}, "whole"),
    (targets.CoxProcess, {"counts": [0, 0], "width": 1, "variance": 1, "length": 1}, "not all 0"),
    (
        targets.CoxProcess,
        {"counts": [1, 2], "width": 0, "variance": 1, "length": 1},
        "positive, got 0",
    ),
    (targets.BinomialHierarchy, {"hits": [1, 5], "trials": 4}, "trials = 4"),
    (targets.LotkaVolterra, {"counts": [[1.0, 0.0], [1.0, 1.0]]}, "positive counts"),
    (targets.LotkaVolterra, {"counts": [[1.0, 1.0]]}, r"\(1, 2\)"),
    (targets.LotkaVolterra, {"counts": [[1.0, 1.0], [1.0, 1.0]], "steps": 0}, "at least 1, got 0"),
]


@pytest.mark.parametrize(("factory", "arguments", "message"), WRONG)
def test_wrong_arguments_are_named(factory, arguments, message):
    with pytest.raises(ValueError, match=message):
        factory(**arguments)


def test_the_exact_moments_of_a_small_hierarchy_are_those_of_weighted_prior_draws():
    small = BinomialHierarchy(hits=[1, 2], trials=3)
    mean, variance = small.hyper_moments()
    rng = np.random.default_rng(0)
    mu, log_tau = rng.normal(-1, 1, 400_000), np.log(np.abs(rng.normal(size=400_000)))
    odds = mu + np.exp(log_tau) * rng.normal(size=(2, 400_000))
    weight = np.exp(odds[0] + 2 * odds[1] - 3 * np.logaddexp(0, odds).sum(axis=0))
    weight /= weight.sum()
    for i, values in enumerate((mu, log_tau)):
        middle = np.sum(weight * values)
        error = np.sqrt(np.sum(weight**2 * (values - middle) ** 2))
        assert abs(middle - mean[i]) < 5 * error
        np.testing.assert_allclose(np.sum(weight * (values - middle) ** 2), variance[i], rtol=0.03)
