"""NumPyro models of many kinds of sites: name -> (model, args, kwargs)."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.infer.reparam import LocScaleReparam

Y = np.random.default_rng(1).normal(0.5, 1.0, 6)


def observed(loc=0.0):
    numpyro.sample("y", dist.Normal(loc, 1.0), obs=jnp.asarray(0.3))


def of(make):
    """A model with one latent site."""

    def model():
        x = numpyro.sample("x", make())
        observed(jnp.sum(x))

    return model


def dynamic_plate():
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    with numpyro.plate("row", 3):
        numpyro.sample("u", dist.Uniform(0.0, s))
    observed(s)


def dynamic_event():
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    numpyro.sample("u", dist.Uniform(0.0, s).expand([3]).to_event(1))
    observed(s)


def dynamic_pareto():
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    numpyro.sample("v", dist.Pareto(s, 2.0).expand([2]).to_event(1))
    observed(s)


def centred(y):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, 10.0), obs=y)


def non_centred(y=None):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", 6):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * raw)
        numpyro.sample("y", dist.Normal(theta, 10.0), obs=y)


def nested():
    with numpyro.plate("row", 3, dim=-2):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.deterministic("constant", 2.0)
        with numpyro.plate("column", 2, dim=-1):
            b = numpyro.sample("b", dist.Normal(a, 1))
            numpyro.sample("w", dist.Dirichlet(jnp.ones(4)), infer={"event_dims": ["part"]})
    observed(a.sum() + b.sum())


def chain(y):
    phi = numpyro.sample("phi", dist.Uniform(-1, 1))

    def step(before, now):
        state = numpyro.sample("state", dist.Normal(phi * before, 0.5))
        numpyro.sample("y", dist.Normal(state, 1.0), obs=now)
        return state, state

    _, states = scan(step, jnp.zeros(()), jnp.asarray(y))
    numpyro.deterministic("last", states[-1])


def mixture(y):
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
    mu = numpyro.sample("mu", dist.ImproperUniform(constraints.ordered_vector, (), (2,)))
    parts = dist.Normal(mu, 1.0)
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.MixtureSameFamily(dist.Categorical(w), parts), obs=y)


def discrete(y):
    w = numpyro.sample("w", dist.Beta(2, 2))
    mu = numpyro.sample("mu", dist.Normal(0, 3).expand([2]).to_event(1))
    numpyro.deterministic("gap", mu[1] - mu[0])
    with numpyro.plate("row", len(y)):
        z = numpyro.sample("z", dist.Bernoulli(w))
        numpyro.deterministic("its", mu[z])
        numpyro.sample("y", dist.Normal(mu[z], 1.0), obs=y)


def masked(y):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    with handlers.mask(mask=np.arange(len(y)) < 4), handlers.scale(scale=2.0):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def factored(y):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    numpyro.factor("f", -(mu**2) / 2)
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def held(y):
    s = numpyro.param("s", 2.0, constraint=constraints.positive)
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    numpyro.sample("y", dist.Normal(mu, s), obs=y)


def keyed(y):
    shift = numpyro.deterministic("shift", jnp.asarray(numpyro.prng_key() is not None, float))
    mu = numpyro.sample("mu", dist.Normal(shift, 10))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


COVARIANCE = np.asarray([[1.0, 0.5], [0.5, 2.0]])
MODELS = {
    "normal": (of(lambda: dist.Normal(1.0, 2.0)), (), {}),
    "half Cauchy": (of(lambda: dist.HalfCauchy(2.0)), (), {}),
    "log normal": (of(lambda: dist.LogNormal(0.0, 1.0).expand([2]).to_event(1)), (), {}),
    "gamma": (of(lambda: dist.Gamma(3.0, 2.0)), (), {}),
    "beta": (of(lambda: dist.Beta(2.0, 3.0)), (), {}),
    "uniform": (of(lambda: dist.Uniform(-1.0, 4.0)), (), {}),
    "truncated": (of(lambda: dist.TruncatedNormal(0.0, 1.0, low=-1.0, high=2.0)), (), {}),
    "pareto": (of(lambda: dist.Pareto(2.0, 3.0)), (), {}),
    "von Mises": (of(lambda: dist.VonMises(0.0, 1.0)), (), {}),
    "multivariate": (
        of(lambda: dist.MultivariateNormal(jnp.zeros(2), jnp.asarray(COVARIANCE))),
        (),
        {},
    ),
    "Dirichlet": (of(lambda: dist.Dirichlet(jnp.asarray([1.0, 2.0, 3.0]))), (), {}),
    "LKJ": (of(lambda: dist.LKJ(3, 2.0)), (), {}),
    "LKJ factor": (of(lambda: dist.LKJCholesky(3, 2.0)), (), {}),
    "Wishart factor": (of(lambda: dist.WishartCholesky(5.0, scale_tril=jnp.eye(2))), (), {}),
    "sum of zero": (of(lambda: dist.ZeroSumNormal(1.0, (4,))), (), {}),
    "ordered": (of(lambda: dist.ImproperUniform(constraints.ordered_vector, (), (3,))), (), {}),
    "random walk": (of(lambda: dist.GaussianRandomWalk(1.0, 4)), (), {}),
    "dynamic plate": (dynamic_plate, (), {}),
    "dynamic event": (dynamic_event, (), {}),
    "dynamic bound": (dynamic_pareto, (), {}),
    "centred": (centred, (Y,), {}),
    "non centred": (non_centred, (), {"y": Y}),
    "reparametrised": (
        handlers.reparam(centred, config={"theta": LocScaleReparam(0)}),
        (Y,),
        {},
    ),
    "scope": (handlers.scope(centred, "a"), (Y,), {}),
    "nested plates": (nested, (), {}),
    "scan": (chain, (Y,), {}),
    "mixture": (mixture, (Y,), {}),
    "mask and scale": (masked, (Y,), {}),
    "factor": (factored, (Y,), {}),
    "param": (held, (Y,), {}),
    "key": (keyed, (Y,), {}),
}
