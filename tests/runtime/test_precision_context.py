"""One precision for a computation, and JAX's setting as it was before and after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.runtime import in_precision, precision_context


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("precision", ["float64", "float32", np.float64, jnp.dtype("float32")])
def test_the_context_has_its_precision_and_leaves_the_setting(flag, precision):
    with jax.enable_x64(flag):
        with precision_context(precision):
            assert jnp.zeros(()).dtype == np.dtype(precision)
        assert jax.config.read("jax_enable_x64") is flag


def test_an_error_leaves_the_setting_too():
    with jax.enable_x64(False):
        with pytest.raises(KeyError), precision_context("float64"):
            raise KeyError
        assert jnp.zeros(()).dtype == np.float32


@pytest.mark.parametrize("precision", ["float16", "double precision", None, 64, np.int32])
def test_other_precisions_are_refused_by_name(precision):
    with pytest.raises(ValueError, match="precision must be 'float64' or 'float32', got"):
        precision_context(precision)


def test_between_two_items_the_caller_has_his_own_precision():
    def numbers():
        for _ in range(3):
            yield jnp.zeros(())

    with jax.enable_x64(False):
        for item in in_precision("float64", numbers()):
            assert item.dtype == np.float64
            assert jnp.zeros(()).dtype == np.float32
