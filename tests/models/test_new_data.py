"""New data without compiling: models whose arrays are arguments of their programs."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import capriole
from capriole.kernels import hmc
from capriole.models import as_logdensity, from_numpyro, model_of
from numpyro_models import Y, centred, non_centred

pytestmark = pytest.mark.usefixtures("standard_promotion")
OTHER = Y[::-1] + 2.0
GROUPS = ("log_likelihood", "posterior_predictive")


@pytest.fixture
def compiled():
    """An entry for every program that was compiled since."""
    found = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def drawn(model, groups=GROUPS):
    kernel = hmc(as_logdensity(model)[0], step_size=0.3, num_leapfrogs=3)
    options = {"num_chains": 4, "num_draws": 20, "num_warmup": 10, "groups": groups}
    return capriole.sample(kernel, **options)


def test_the_second_data_set_compiles_nothing_and_is_its_own(compiled):
    first = from_numpyro(non_centred, y=Y, jit_model_args=True)
    drawn(first)
    assert compiled, "programs are counted"
    compiled.clear()
    second = first.with_data(y=OTHER)
    tree = drawn(second)
    assert compiled == []
    right = from_numpyro(non_centred, y=OTHER)
    whole = drawn(right)
    np.testing.assert_array_equal(tree["observed_data"]["y"], OTHER)
    for group, name in (("posterior", "theta"), ("log_likelihood", "y")):
        np.testing.assert_allclose(tree[group][name], whole[group][name], rtol=1e-6)
    z = jax.tree.map(jnp.asarray, right.init)
    np.testing.assert_allclose(second.logdensity(z), right.logdensity(z), rtol=1e-12)
    assert abs(float(first.logdensity(z) - second.logdensity(z))) > 1e-3


def test_a_kernel_that_comes_out_of_a_compiled_program_knows_its_own_data():
    """JAX hands over the static parts of the first call; the data come from the arrays."""
    import equinox as eqx

    first = from_numpyro(non_centred, y=Y, jit_model_args=True)
    through = eqx.filter_jit(lambda density: density)
    for model, data in ((first, Y), (first.with_data(y=OTHER), OTHER)):
        found = model_of(through(as_logdensity(model)[0]))
        np.testing.assert_array_equal(found.observed_data["y"], data)
        assert found.labels == first.labels


def test_data_of_another_shape_are_compiled_anew():
    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
        numpyro.sample("y", dist.Normal(x @ slope, 1.0), obs=y)

    x = np.random.default_rng(0).normal(size=(6, 2))
    made = from_numpyro(model, x, y=Y, jit_model_args=True)
    wider = made.with_data(np.concatenate([x, x], axis=1)[:5], y=Y[:5])
    assert wider.init["slope"].shape == (4,)
    assert np.isfinite(wider.logdensity(wider.init))
    assert wider.observed_data["y"].shape == (5,)
    with pytest.raises(capriole.ModelError, match="observed site 'y' holds 1 NaN"):
        made.with_data(x[:5], y=np.append(Y[:4], np.nan))
    with pytest.raises(capriole.ModelError, match="observed site 'y' holds NaN"):
        made.with_data(x, y=np.append(Y[:5], np.nan))


def test_a_start_that_new_data_refuse_is_replaced():
    def model(y):
        top = numpyro.sample("top", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.factor("inside", jnp.where(top > jnp.max(y), -((top - jnp.max(y)) ** 2), -jnp.inf))
        numpyro.sample("y", dist.Normal(0, 1), obs=y)

    made = from_numpyro(model, np.full(2, -5.0), jit_model_args=True)
    start = float(made.init["top"])
    moved = made.with_data(np.full(2, start + 0.1)) if start < 1.8 else made
    assert np.isfinite(moved.logdensity(moved.init))
    assert start >= 1.8 or float(moved.init["top"]) > start


def test_closed_models_take_new_data_too():
    made = from_numpyro(centred, Y)
    other = made.with_data(OTHER)
    z = jax.tree.map(jnp.asarray, made.init)
    np.testing.assert_allclose(
        other.logdensity(z), from_numpyro(centred, OTHER).logdensity(z), rtol=1e-12
    )
    assert not np.allclose(made.logdensity(z), other.logdensity(z))
