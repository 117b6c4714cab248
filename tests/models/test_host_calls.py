"""Calls of Python from compiled programs keep double precision, whatever thread XLA calls from."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.models.makers._host_calls import _halves, _whole, host_call

X = np.random.default_rng(0).normal(size=(5, 3)) + 1e-12


def doubled(x, k):
    assert x.dtype == np.float64
    return {"twice": 2 * x + k, "flag": x.sum(-1) > 0, "count": np.asarray(x.sum(-1), np.int64)}


@pytest.mark.parametrize("method", ["sequential", "broadcast_all"])
def test_values_are_those_of_the_function(method):
    form = {
        "twice": jax.ShapeDtypeStruct((3,), np.float64),
        "flag": jax.ShapeDtypeStruct((), np.bool_),
        "count": jax.ShapeDtypeStruct((), np.int64),
    }

    def one(x):
        k = jnp.zeros((), jnp.int32)
        return host_call(lambda x, k: doubled(x, k[..., None]), form, x, k, vmap_method=method)

    out = jax.jit(jax.vmap(one))(jnp.asarray(X))
    for name, right in doubled(X, 0).items():
        assert out[name].dtype == right.dtype
        np.testing.assert_array_equal(out[name], right)
    np.testing.assert_array_equal(one(jnp.asarray(X[0]))["twice"], 2 * X[0])


def test_digits_survive_a_thread_of_single_precision():
    """As XLA's own threads are: there JAX makes float32 of float64."""
    found = {}

    def convert():
        with jax.enable_x64(False):
            found["bare"] = np.asarray(jnp.asarray(X, dtype=None))
            found["whole"] = _whole(np.asarray(jnp.asarray(_halves(X))), X.dtype)

    thread = threading.Thread(target=convert)
    thread.start()
    thread.join()
    assert found["bare"].dtype == np.float32
    np.testing.assert_array_equal(found["whole"], X)
