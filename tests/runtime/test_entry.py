"""Public calls: other libraries' names of arguments, JAX's transformations and settings."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.runtime import entry_point
from capriole.runtime._entry import _CHOSEN, _NAMES
from capriole.sampling._api import _checked


def normal(x):
    return -jnp.sum(x**2) / 2


@pytest.mark.parametrize(
    ("call", "given", "words"),
    [
        (capriole.fit, "chains", "fit() has no argument 'chains': it is called num_chains"),
        (capriole.fit, "draws", "it is called num_draws"),
        (capriole.fit, "num_samples", "it is called num_draws"),
        (capriole.fit, "rng_key", "it is called seed"),
        (capriole.fit, "random_seed", "it is called seed"),
        (capriole.fit, "initvals", "it is called init"),
        (capriole.fit, "progressbar", "it is called progress"),
        (capriole.fit, "tune", "it decides when its warm-up ends; leave it out"),
        (capriole.fit, "num_warmup", "it is adapted; leave it out"),
        (capriole.fit, "target_accept", "it is adapted; leave it out"),
        (capriole.fit, "cores", "it is not needed, because chains share one program; leave it out"),
        (capriole.fit, "num_chainz", "is it num_chains?"),
        (capriole.fit, "qqq", "it has logdensity, init, starts"),
        (capriole.train, "chains", "train() has no argument 'chains': it is called num_chains"),
        (capriole.sample, "tune", "sample() has no argument 'tune': it is called num_warmup"),
        (capriole.sample, "thinning", "it is called thin"),
    ],
)
def test_an_argument_of_another_library_is_named_as_ours(call, given, words):
    with pytest.raises(TypeError) as caught:
        call(normal, jnp.zeros(2), **{given: 4})
    assert words in str(caught.value)


def test_every_name_that_is_given_for_others_is_an_argument_somewhere():
    ours = {
        name
        for call in (capriole.fit, capriole.train, capriole.sample)
        for name in inspect.signature(call).parameters
    }
    assert set(_NAMES) <= ours
    others = [name for names in (*_NAMES.values(), *_CHOSEN.values()) for name in names.split()]
    assert len(others) == len(set(others))


def inside_vmap(call):
    """The log density closes over a traced number, and nothing else is traced."""
    return jax.vmap(lambda mean: call(lambda x: normal(x - mean), np.zeros(2)))(jnp.zeros(3))


@pytest.mark.parametrize("call", [capriole.fit, capriole.train])
def test_a_call_inside_a_transformation_is_refused(call):
    outside = "cannot run inside jax.jit, vmap, grad or scan.*call it outside"
    for transform in (jax.jit, jax.vmap, jax.grad):
        with pytest.raises(RuntimeError, match=outside):
            transform(lambda x: call(normal, x))(jnp.zeros((3, 2)))
    with pytest.raises(RuntimeError, match=outside):
        jax.jit(lambda x: [call(normal, np.zeros(2)), x])(0.0)
    with pytest.raises(ValueError, match=r"reads a number that JAX is tracing.*call outside"):
        inside_vmap(call)


def test_ranks_may_be_promoted_inside_and_settings_come_back():
    @entry_point
    def call(x):
        return jnp.ones((2, 3)) * x

    with jax.numpy_rank_promotion("raise"):
        assert call(jnp.ones(3)).shape == (2, 3)
        with pytest.raises(ValueError, match="rank_promotion"):
            jnp.ones((2, 3)) * jnp.ones(3)


@pytest.mark.usefixtures("standard_promotion")
def test_training_and_sampling_where_ranks_must_not_be_promoted():
    with jax.numpy_rank_promotion("raise"):
        found = capriole.train(
            normal, jnp.zeros(2), num_leapfrogs=2, num_steps=3, num_chains=16, width=8
        )
        tree = capriole.sample(found.transition, jnp.zeros(2), num_draws=5, num_warmup=2)
    assert tree["posterior"]["x"].shape == (4, 5, 2)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (None, "got None: where NUTS drew, fit returns none.*compare=False"),
        (capriole.Fit(None, None, None), "got Fit, whose .transition is None because NUTS drew"),
        (
            capriole.Fit(
                None,
                None,
                capriole.kernels.hmc(capriole.PerChain(normal), step_size=0.1, num_leapfrogs=1),
            ),
            "got Fit: pass its .transition",
        ),
        (normal, "of capriole.train, fit.*or load, got function"),
    ],
)
def test_what_is_no_kernel_is_refused_with_what_to_pass(thing, words):
    with pytest.raises(TypeError, match=f"transition must be a kernel, .*{words}"):
        _checked(thing)  # `sample` itself has its types checked in tests
