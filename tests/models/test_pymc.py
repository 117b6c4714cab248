"""PyMC models: each kind of site against PyMC's own log density and its own constrained values."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.models import ModelError, from_pymc

pm = pytest.importorskip("pymc")
pt = pytest.importorskip("pytensor.tensor")

RNG = np.random.default_rng(0)
pytestmark = [
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS installation"),
]


def normal():
    mu = pm.Normal("mu", 1, 2, shape=3)
    pm.Normal("y", mu, 0.5, observed=[1.0, 2.0, 3.0])


def positive():
    """Names that sort otherwise than they are declared, of equal shapes."""
    z = pm.HalfCauchy("z", 5)
    a = pm.Gamma("a", 2, 3)
    pm.Normal("y", a, z, observed=[1.0, 2.0])


def interval():
    pm.Uniform("u", -1, 3)
    p = pm.Beta("p", 2, 3)
    pm.Binomial("y", 10, p, observed=[3, 5])


def random_bound():
    top = pm.Exponential("top", 1)
    pm.Uniform("u", 0, top, shape=2)


def truncated():
    pm.TruncatedNormal("x", 0, 1, lower=-1)
    pm.TruncatedNormal("v", 0, 1, lower=-1, upper=2)


def simplex():
    w = pm.Dirichlet("w", np.array([1.0, 2.0, 3.0]))
    pm.Multinomial("y", 6, w, observed=[1, 2, 3])


def ordered():
    cut = pm.distributions.transforms.ordered
    pm.Normal("o", 0, 2, shape=3, transform=cut, initval=[-1.0, 0.0, 1.0])


def correlation():
    chol, _, _ = pm.LKJCholeskyCov("chol", n=3, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))
    pm.MvNormal("y", np.zeros(3), chol=chol, observed=RNG.normal(size=(4, 3)))


def zero_sum():
    pm.ZeroSumNormal("z", sigma=2, shape=4)


def circular():
    pm.VonMises("angle", 0.5, 2)


def flat():
    mu = pm.Flat("mu")
    sigma = pm.HalfFlat("sigma")
    pm.Normal("y", mu, sigma, observed=[1.0, 2.0, 3.5])


def potential():
    x = pm.Normal("x")
    pm.Potential("more", -(x**4))


def missing():
    mu = pm.Normal("mu")
    pm.Normal("y", mu, 1, observed=np.ma.masked_invalid([1.0, np.nan, 2.0]))


def censored():
    mu = pm.Normal("mu")
    pm.Censored("y", pm.Normal.dist(mu, 1), lower=None, upper=2.0, observed=[1.0, 2.0, 2.0])


def mixture():
    w = pm.Dirichlet("w", np.ones(2))
    mu = pm.Normal("mu", 0, 1, shape=2)
    pm.NormalMixture("y", w, mu, 1.0, observed=[1.0, 2.0, -1.0])


def series():
    rho = pm.Uniform("rho", -1, 1)
    pm.AR("x", [0.0, rho], sigma=1, constant=True, init_dist=pm.Normal.dist(0, 1), shape=5)


def random_walk():
    pm.GaussianRandomWalk("x", sigma=0.5, init_dist=pm.Normal.dist(0, 1), steps=4)


def process():
    length = pm.InverseGamma("length", 5, 5)
    prior = pm.gp.Latent(cov_func=pm.gp.cov.ExpQuad(1, length))
    f = prior.prior("f", np.linspace(0, 1, 5)[:, None])
    pm.Poisson("y", pm.math.exp(f), observed=np.ones(5))


def counts():
    rate = pm.LogNormal("rate", 0, 1)
    shape = pm.StudentT("shape", 4, mu=0, sigma=1)
    pm.NegativeBinomial("y", rate, pm.math.exp(shape), observed=[0, 3, 1])


def logistic():
    b = pm.Laplace("b", 0, 1, shape=2)
    x = pm.Data("x", RNG.normal(size=(5, 2)))
    pm.Bernoulli("y", logit_p=x @ b, observed=[0, 1, 1, 0, 1])


def shared():
    y = pm.Data("y_data", [1.0, 2.0])
    mu = pm.Normal("mu")
    pm.Deterministic("twice", 2 * mu)
    pm.Normal("y", mu, 1, observed=y)


def own_density():
    def logp(value, mu):
        return -((value - mu) ** 2)

    mu = pm.Cauchy("mu", 0, 1)
    pm.CustomDist("x", mu, logp=logp, shape=2)


def written_in_jax():
    import pytensor

    x = pm.Normal("x")
    pm.Potential("more", pytensor.wrap_jax(lambda x: -(x**2) / 2)(x))


QUICK = [positive, random_bound, ordered, circular, flat, potential, missing, logistic, shared]
QUICK += [own_density, written_in_jax]
SLOW = [normal, interval, truncated, simplex, correlation, zero_sum, censored, mixture, series]
SLOW += [random_walk, process, counts]
KINDS = [*QUICK, *(pytest.param(body, marks=pytest.mark.slow) for body in SLOW)]


def built(body):
    with pm.Model() as model:
        body()
    return model


def points(model, num=20, scale=1.0):
    """Positions around the initial one."""
    rng = np.random.default_rng(3)
    return [
        {k: v + scale * rng.uniform(-1, 1, v.shape) for k, v in model.init.items()}
        for _ in range(num)
    ]


@pytest.mark.filterwarnings("ignore:Data in .* contains missing values")
@pytest.mark.parametrize("body", KINDS, ids=lambda body: body.__name__)
def test_a_site_is_as_in_pymc(body):
    theirs = built(body)
    ours = from_pymc(theirs)
    at = points(ours)
    logp = theirs.compile_logp(mode="FAST_COMPILE")
    batch = {k: np.stack([z[k] for z in at]) for k in ours.init}
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(ours.logdensity)))(batch)
    expected = [float(logp(z)) for z in at]
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)
    check_gradient(ours.logdensity, batch, grads)
    names = [v for v in theirs.unobserved_value_vars if not v.name.endswith("__")]
    constrain = theirs.compile_fn(names, inputs=theirs.value_vars, mode="FAST_COMPILE")
    found = jax.jit(jax.vmap(ours.constrain))(batch)
    assert set(found) == {v.name for v in names} != set()
    for i, z in enumerate(at):
        for v, value in zip(names, constrain(z), strict=True):
            np.testing.assert_allclose(found[v.name][i], value, rtol=1e-9, atol=1e-12)


def check_gradient(logdensity, batch, grads, step=1e-5):
    """Along one random direction at each point."""
    rng = np.random.default_rng(4)
    way = {k: rng.normal(size=v.shape) for k, v in batch.items()}
    ends = [
        jax.vmap(logdensity)({k: v + s * step * way[k] for k, v in batch.items()}) for s in (1, -1)
    ]
    slope = sum(jnp.sum((grads[k] * way[k]).reshape(len(v), -1), 1) for k, v in batch.items())
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5, atol=1e-6)


def test_a_bad_parameter_has_log_density_minus_infinity():
    """PyMC checks parameters. All data are ones, so that the formula alone would be finite."""
    with pm.Model() as theirs:
        p = pm.Normal("p", 0.5, 1)
        pm.Bernoulli("y", p, observed=[1, 1])
    ours = from_pymc(theirs)
    assert np.isfinite(ours.logdensity({"p": jnp.asarray(0.9)}))
    assert ours.logdensity({"p": jnp.asarray(1.5)}) == -jnp.inf


def school_model():
    errors = np.array([15.0, 10.0, 16.0])
    with pm.Model(coords={"school": ["Ann", "Bo", "Cy"]}) as model:
        model.add_coord("unlabelled", length=2)
        tau = pm.HalfCauchy("tau", 5)
        raw = pm.Normal("raw", 0, 1, dims="school")
        mu = pm.Normal("mu", 0, 5)
        theta = pm.Deterministic("theta", mu + tau * raw, dims="school")
        spread = pm.Data("spread", errors, dims="school")
        pm.Normal("y", theta, spread, observed=[28.0, 8.0, -3.0], dims="school")
    return model


@pytest.fixture(scope="module")
def schools():
    theirs = school_model()
    return theirs, from_pymc(theirs)


def test_names_axes_and_data_are_those_of_pymc(schools):
    _, ours = schools
    assert set(ours.init) == {"tau_log__", "raw", "mu"}
    assert ours.dims == {name: ["school"] for name in ("raw", "theta", "spread", "y")}
    assert list(ours.coords) == ["school"]
    np.testing.assert_array_equal(ours.observed_data["y"], [28.0, 8.0, -3.0])
    np.testing.assert_array_equal(ours.constant_data["spread"], [15.0, 10.0, 16.0])
    assert "raw[Bo]" in ours.labels
    assert ours.double
    assert ours.library.startswith("pymc")
    with pm.Model(name="outer") as named:
        pm.Normal("x")
    assert list(from_pymc(named).init) == ["outer::x"]


def test_log_likelihood_of_each_observation(schools):
    from scipy import stats

    _, ours = schools
    at = points(ours, 1)[0]
    theta = ours.constrain(at)["theta"]
    found = ours.log_likelihood(at)
    expected = stats.norm.logpdf([28.0, 8.0, -3.0], theta, [15.0, 10.0, 16.0])
    np.testing.assert_allclose(found["y"], expected, rtol=1e-12)


def test_predictions_are_drawn_around_theta(schools):
    _, ours = schools
    num = 2000
    at = {k: np.broadcast_to(v + 0.5, (num, *v.shape)) for k, v in ours.init.items()}
    keys = jax.random.split(jax.random.key(1), num)
    draw = jax.jit(jax.vmap(ours.posterior_predictive))
    y = draw(keys, at)["y"]
    np.testing.assert_array_equal(draw(keys, at)["y"], y)
    theta = ours.constrain({k: v[0] for k, v in at.items()})["theta"]
    z = np.sqrt(num) * (np.mean(y, 0) - theta) / np.array([15.0, 10.0, 16.0])
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(np.std(y, 0), [15.0, 10.0, 16.0], rtol=0.1)


def test_integers_stay_integers_in_predictions():
    with pm.Model() as theirs:
        pm.Poisson("k", pm.LogNormal("rate", 1, 1), observed=[1, 2, 3])
    ours = from_pymc(theirs)
    found = ours.posterior_predictive(jax.random.key(0), ours.init)["k"]
    assert jnp.issubdtype(found.dtype, jnp.integer)
    assert found.shape == (3,)


def test_data_that_were_changed_are_noticed():
    theirs = school_model()
    ours = from_pymc(theirs)
    before = float(ours.logdensity(ours.init))
    with theirs:
        pm.set_data({"spread": np.array([1.0, 2.0, 3.0])})
    for use in (ours.logdensity, jax.jit(ours.logdensity), ours.constrain, ours.log_likelihood):
        with pytest.raises(ModelError, match=r"pm.set_data changed 'spread'.*from_pymc"):
            use(ours.init)
    again = from_pymc(theirs)
    assert float(again.logdensity(again.init)) != before
    with theirs:
        pm.set_data({"spread": np.array([15.0, 10.0, 16.0])})
    assert float(ours.logdensity(ours.init)) == before


def test_functions_may_first_be_called_under_jit():
    """What is made then must hold no tracer."""
    ours = from_pymc(school_model())
    jax.jit(ours.constrain)(ours.init)
    jax.jit(jax.vmap(ours.log_likelihood))({k: v[None] for k, v in ours.init.items()})
    assert float(ours.constrain(ours.init)["tau"]) == pytest.approx(5.0)
    assert ours.log_likelihood(ours.init)["y"].shape == (3,)


def test_initial_values_are_in_the_models_own_space():
    with pm.Model() as theirs:
        pm.HalfNormal("s")
        pm.Normal("m", shape=2)
    one = from_pymc(theirs, initvals={"s": 3.0})
    assert float(one.init["s_log__"]) == pytest.approx(np.log(3.0))
    assert one.starts is None
    several = from_pymc(theirs, initvals=[{"s": 3.0}, {"s": 0.5, "m": [1.0, 2.0]}])
    starts = several.starts(jax.random.key(0), 5)
    np.testing.assert_allclose(np.exp(starts["s_log__"][:2]), [3.0, 0.5])
    np.testing.assert_allclose(starts["m"][:2], [[0.0, 0.0], [1.0, 2.0]])
    repeated = np.asarray(starts["m"][2:] - starts["m"][:2].take(np.array([0, 1, 0]), axis=0))
    assert (np.abs(repeated) <= 1).all()
    assert (repeated != 0).all()
    with pytest.raises(ModelError, match=r"initvals name \['t'\].*\['s', 'm'\]"):
        from_pymc(theirs, initvals={"t": 1.0})


def discrete():
    pm.Poisson("k", 3)
    pm.Normal("x")


def batches():
    mu = pm.Normal("mu")
    part = pm.Minibatch(RNG.normal(size=100), batch_size=10)
    pm.Normal("y", mu, 1, observed=part, total_size=100)


def simulator():
    mu = pm.Normal("mu")
    draw = lambda rng, mu, size=None: rng.normal(mu, 1, size=size)  # noqa: E731
    pm.Simulator("y", draw, mu, observed=[1.0, 2.0])


def nothing_free():
    pm.Normal("y", 0, 1, observed=[1.0])


def black_box():
    from pytensor.graph.op import Op

    class Box(Op):
        itypes = [pt.dscalar]
        otypes = [pt.dscalar]

        def perform(self, node, inputs, outputs):
            outputs[0][0] = np.asarray(-(inputs[0] ** 2))

    x = pm.Normal("x")
    pm.Potential("boxed", Box()(x))


def not_a_number():
    slope = pm.Normal("slope", 1, 1)
    pm.Normal("z", 0, 1)
    pm.Normal("y", slope * pm.math.sqrt([1.0, -2.0]), 1, observed=[1.0, 2.0])


def outside():
    top = pm.Exponential("top", 1)
    pm.Uniform("y", 0, top, observed=[5.0, 7.0])


REFUSALS = {
    discrete: r"'k' is discrete: .*marginalize",
    batches: r"'y' is random given the parameters.*Minibatch",
    simulator: r"'y' is random given the parameters.*Simulator",
    nothing_free: "no free variable",
    black_box: r"'boxed' is not to be had in JAX: .*Box.*wrap_jax",
    not_a_number: r"not finite at the initial values \(y nan\)",
    outside: r"not finite at the initial values \(y -inf\).*initvals",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("body", REFUSALS, ids=lambda body: body.__name__)
def test_what_cannot_be_sampled_is_refused_in_words(body):
    with pytest.raises(ModelError, match=REFUSALS[body]):
        from_pymc(built(body))


def test_something_else_is_no_model():
    with pytest.raises(ModelError, match=r"must be a pymc.Model, got <function"):
        from_pymc(normal)


IMPORTS = """
import os, warnings
import jax
before = (os.environ.get("XLA_FLAGS"), len(jax.devices()), jax.config.jax_enable_x64)
import pymc as pm
filters = list(warnings.filters)
from capriole.models import from_pymc
with pm.Model() as model:
    pm.Normal("y", pm.Normal("mu"), pm.HalfNormal("s"), observed=[1.0, 2.0])
with jax.enable_x64({inside}):
    ours = from_pymc(model)
    ours.log_likelihood(ours.init), ours.constrain(ours.init)
    ours.posterior_predictive(jax.random.key(0), ours.init)
assert (os.environ.get("XLA_FLAGS"), len(jax.devices()), jax.config.jax_enable_x64) == before
assert warnings.filters[-len(filters):] == filters  # PyTensor's imports add some in front
import sys
assert "pymc.sampling.jax" not in sys.modules
assert jax.numpy.zeros(2).dtype == {dtype!r}
print("untouched")
"""


@pytest.mark.parametrize(
    ("process", "inside"), [("0", "True"), pytest.param("1", "False", marks=pytest.mark.slow)]
)
def test_the_process_keeps_its_settings(process, inside):
    dtype = "float64" if process == "1" else "float32"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS.format(inside=inside, dtype=dtype)],
        env=os.environ | {"JAX_ENABLE_X64": process},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "untouched\n", done.stderr
