"""Densities without a finite integral are refused, in words; proper ones, however wide, heavy or
bent, are not.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole import PerChain
from capriole.adaptation import refuse_improper
from capriole.fitting import _search
from densities import Funnel
from stored import exploration

STARTS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 64)), jnp.float32)


def sigmoid_without_its_jacobian(x):
    return 7 * jax.nn.log_sigmoid(x[1]) - (x[0] ** 2 + x[2] ** 2) / 2


def with_a_flat_prior_on_a_log_scale(x):
    """Two data that are 20 nats more probable with noise of another scale than 1 alone."""
    scale = 1 + jnp.exp(x[2])
    return -(x[0] ** 2 + x[1] ** 2) / 2 - 25 / scale**2 - 2 * jnp.log(scale)


def dirichlet(concentration):
    """Two break points of a stick whose logarithms are kept from minus infinity, as NumPyro's."""

    def logdensity(x):
        tiny = jnp.finfo(jnp.float32).tiny
        fractions = jax.nn.sigmoid(x)
        logs = jnp.log(jnp.maximum(fractions, tiny)) + jnp.log(jnp.maximum(1 - fractions, tiny))
        return concentration * jnp.sum(logs)

    return logdensity


IMPROPER = {
    "x.1., x.2.,": lambda x: -(x[0] ** 2) / 2,
    "x.1.,": sigmoid_without_its_jacobian,
    "x.0., x.1., x.2.,": lambda x: -jnp.sum(jnp.log1p(x**2)) / 2,
    "x.2.,": with_a_flat_prior_on_a_log_scale,
    "a combination of x.0., x.2.,": lambda x: -((x[0] + x[2] - 3) ** 2 + x[1] ** 2) / 2,
}
PROPER = {
    "in a box with a floor": lambda x: jnp.where(
        jnp.all(jnp.abs(x) < 10), -jnp.sum(x**2) / 2, -1e10
    ),
    "clipped from below": lambda x: jnp.maximum(-jnp.sum(x**2) / 2, -1e6),
    "cauchy": lambda x: -jnp.sum(jnp.log1p(x**2)),
    "wide": lambda x: -jnp.sum(x**2) / 2e16,
    "wider": lambda x: -jnp.sum((x / 1e14) ** 2) / 2,
    "wide in one dimension": lambda x: -(x[0] ** 2 + (x[1] / 1e17) ** 2 + x[2] ** 2) / 2,
    "clamped": lambda x: jnp.maximum(-jnp.sum(x**2) / 2, -60.0),
    "dirichlet(1/2)": dirichlet(0.5),
    "dirichlet(2)": dirichlet(2.0),
    "exponential": lambda x: -jnp.sum(jnp.abs(x)),
    "of full rank, hardly": lambda x: -((x[0] + x[2] - 3) ** 2 + x[1] ** 2 + 1e-6 * x[2] ** 2) / 2,
}


@pytest.mark.parametrize("where", IMPROPER)
def test_what_does_not_fall_is_named(where):
    with pytest.raises(ValueError, match=rf"fall along {where} out to 1e\+1[28] .* give a prior"):
        refuse_improper(PerChain(IMPROPER[where]), STARTS)


@pytest.mark.parametrize("name", PROPER)
def test_what_falls_at_last_is_not_refused(name):
    refuse_improper(PerChain(PROPER[name]), STARTS)


def test_a_floor_that_chains_may_get_down_to_is_no_clamp():
    with pytest.raises(ValueError, match=r"along x.0., x.1., x.2."):
        refuse_improper(PerChain(lambda x: jnp.maximum(-jnp.sum(x**2) / 2, -20.0)), STARTS)


def test_of_what_may_only_be_wide_no_more_is_said_than_is_known():
    with pytest.raises(ValueError, match=r"If it is only that wide: start wider \(spread\)"):
        refuse_improper(PerChain(lambda x: -jnp.sum((x / 1e19) ** 2) / 2), STARTS)
    wider = 1e4 * STARTS
    refuse_improper(PerChain(lambda x: -jnp.sum((x / 1e19) ** 2) / 2), wider)


@pytest.mark.parametrize("concentration", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5), (10.0, 1.0, 3.0)])
def test_a_dirichlet_of_numpyros_is_not_refused_in_float32(concentration):
    dist = pytest.importorskip("numpyro.distributions")
    transforms = pytest.importorskip("numpyro.distributions.transforms")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        prior = dist.Dirichlet(jnp.asarray(concentration))
        transform = transforms.biject_to(prior.support)

        def logdensity(u):
            x = transform(u)
            return prior.log_prob(x) + transform.log_abs_det_jacobian(u, x)

        starts = np.random.default_rng(0).normal(size=(len(concentration) - 1, 64))
        refuse_improper(PerChain(logdensity), jnp.asarray(starts, jnp.float32))


def test_a_funnel_is_not_refused():
    refuse_improper(Funnel(), STARTS)


def test_a_density_that_raises_far_out_is_not_refused():
    def raises(x):
        return -(eqx.error_if(x[0], jnp.abs(x[0]) > 50, "too far") ** 2) / 2

    refuse_improper(PerChain(raises), STARTS)


@pytest.mark.parametrize("error", [np.linalg.LinAlgError("singular"), ValueError("not finite")])
def test_where_the_warmup_breaks_down_the_density_is_asked(monkeypatch, error):
    def run_away(*args, **options):
        raise error

    monkeypatch.setattr(_search, "explore", run_away)
    with pytest.raises(ValueError, match=r"fall along x.1., x.2., out to"):
        capriole.fit(IMPROPER["x.1., x.2.,"], np.zeros(3), num_warmup_chains=16)
    with pytest.raises(type(error), match=str(error)):
        capriole.fit(PROPER["exponential"], np.zeros(3), num_warmup_chains=16)


def test_where_chains_of_the_warmup_disagree_the_density_is_asked(monkeypatch):
    max_separation = exploration(3, max_separation=100.0)
    monkeypatch.setattr(_search, "explore", lambda *args, **options: max_separation)
    with pytest.raises(ValueError, match=r"fall along x.1., x.2., out to"):
        capriole.fit(IMPROPER["x.1., x.2.,"], np.zeros(3), num_warmup_chains=16)


@pytest.mark.slow
def test_fit_refuses_at_once_what_chains_run_away_on():
    with pytest.raises(ValueError, match=r"fall along x.1., x.2., out to"):
        capriole.fit(IMPROPER["x.1., x.2.,"], np.zeros(3), num_warmup_chains=16, train_steps=0)
