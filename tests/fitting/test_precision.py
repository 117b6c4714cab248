"""`fit` has one precision, whatever JAX's setting is before, while and after it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.models import kernel_precision

OPTIONS = {"seed": 2, "num_warmup_chains": 16, "num_chains": 4, "num_draws": 50}
OPTIONS |= {"train_steps": 0, "compare": False, "on_failure": "ignore"}


def fit(flag, **options):
    """A fit of N(data, I), all made under a setting of JAX's, and draws of its kernel after it."""
    with jax.enable_x64(flag), jax.numpy_dtype_promotion("standard"):
        data = jnp.arange(2.0)
        found = capriole.fit(
            lambda x: -jnp.sum((x - data) ** 2) / 2, jnp.zeros(2), **OPTIONS | options
        )
        assert jax.config.read("jax_enable_x64") is flag
    return found


@pytest.fixture(scope="module")
def found():
    return [fit(flag) for flag in (False, True)]


def test_the_draws_are_the_same_under_both_settings(found):
    trees = [each.tree for each in found]
    for group in ("posterior", "sample_stats"):
        for name in trees[0][group].data_vars:
            np.testing.assert_array_equal(*(tree[group][name] for tree in trees))
    assert trees[0]["sample_stats"]["lp"].dtype == np.float64


@pytest.mark.parametrize("flag", [False, True])
def test_the_kernel_draws_on_under_either_setting(found, flag, tmp_path):
    kernel = found[0].transition
    with jax.enable_x64(flag), jax.numpy_dtype_promotion("standard"):
        options = {"num_chains": 2, "num_draws": 8, "num_warmup": 4}
        tree = capriole.sample(kernel, jnp.zeros(2), **options)
        path = capriole.save(tmp_path / "kernel.safetensors", kernel, dim=2)
        data = jnp.arange(2.0)
        back = capriole.load(path, lambda x: -jnp.sum((x - data) ** 2) / 2, jnp.zeros(2))
        again = capriole.sample(back, jnp.zeros(2), **options)
    assert tree["sample_stats"]["lp"].dtype == np.float64
    np.testing.assert_array_equal(tree["posterior"]["x"], again["posterior"]["x"])


def test_float32_is_there_for_the_asking():
    found = fit(False, precision="float32")
    assert kernel_precision(found.transition) == "float32"
    lp = found.tree["sample_stats"]["lp"].values
    np.testing.assert_array_equal(lp, lp.astype(np.float32))


@pytest.mark.parametrize("call", [capriole.fit, capriole.train])
def test_another_precision_is_refused_before_time_is_spent(call):
    with pytest.raises(ValueError, match="precision must be 'float64' or 'float32', got 'half'"):
        call(lambda x: -x, 0.0, precision="half")
