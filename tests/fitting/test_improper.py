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


IMPROPER = {
    "x.1., x.2.,": lambda x: -(x[0] ** 2) / 2,
    "x.1.,": sigmoid_without_its_jacobian,
    "x.0., x.1., x.2.,": lambda x: -jnp.sum(jnp.log1p(x**2)) / 2,
    "a combination of x.0., x.2.,": lambda x: -((x[0] + x[2] - 3) ** 2 + x[1] ** 2) / 2,
}
PROPER = {
    "in a box with a floor": lambda x: jnp.where(
        jnp.all(jnp.abs(x) < 10), -jnp.sum(x**2) / 2, -1e10
    ),
    "clipped from below": lambda x: jnp.maximum(-jnp.sum(x**2) / 2, -1e6),
    "cauchy": lambda x: -jnp.sum(jnp.log1p(x**2)),
    "wide": lambda x: -jnp.sum(x**2) / 2e16,
    "exponential": lambda x: -jnp.sum(jnp.abs(x)),
    "of full rank, hardly": lambda x: -((x[0] + x[2] - 3) ** 2 + x[1] ** 2 + 1e-6 * x[2] ** 2) / 2,
}


@pytest.mark.parametrize("where", IMPROPER)
def test_what_does_not_fall_is_named(where):
    with pytest.raises(ValueError, match=rf"infinity along {where} so .* give a prior"):
        refuse_improper(PerChain(IMPROPER[where]), STARTS)


@pytest.mark.parametrize("name", PROPER)
def test_what_falls_at_last_is_not_refused(name):
    refuse_improper(PerChain(PROPER[name]), STARTS)


def test_a_floor_that_all_the_volume_out_there_would_make_up_for_is_no_boundary():
    with pytest.raises(ValueError, match=r"along x.0., x.1., x.2."):
        refuse_improper(PerChain(lambda x: jnp.maximum(-jnp.sum(x**2) / 2, -300.0)), STARTS)


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
    with pytest.raises(ValueError, match=r"along x.1., x.2., so it has no finite integral"):
        capriole.fit(IMPROPER["x.1., x.2.,"], np.zeros(3), num_warmup_chains=16)
    with pytest.raises(type(error), match=str(error)):
        capriole.fit(PROPER["exponential"], np.zeros(3), num_warmup_chains=16)


def test_where_chains_of_the_warmup_disagree_the_density_is_asked(monkeypatch):
    max_separation = exploration(3, max_separation=100.0)
    monkeypatch.setattr(_search, "explore", lambda *args, **options: max_separation)
    with pytest.raises(ValueError, match=r"along x.1., x.2., so it has no finite integral"):
        capriole.fit(IMPROPER["x.1., x.2.,"], np.zeros(3), num_warmup_chains=16)


@pytest.mark.slow
def test_fit_refuses_at_once_what_chains_run_away_on():
    with pytest.raises(ValueError, match=r"along x.1., x.2., so it has no finite integral"):
        capriole.fit(IMPROPER["x.1., x.2.,"], np.zeros(3), num_warmup_chains=16, train_steps=0)
