"""Exact draws stay exact: a few transitions from many exact draws of skewed targets."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import (
    CrankNicolson,
    LogJump,
    Mixture,
    PaperLoss,
    Recipe,
    Tempered,
    Transition,
    adam,
    hmc,
    learned_leapfrog,
    train_kernel,
)
from densities import Banana, Funnel, Gaussian, Mixture2
from invariance import check_invariance, check_symmetry
from kernels import leapfrog, learned, rotation, surrogate

F64 = jnp.dtype("float64")
ICG = Gaussian(jnp.geomspace(0.1, 10, 5))
TARGETS = {"banana": Banana(), "mog-asym": Mixture2(), "funnel": Funnel(), "icg": ICG}
DIMS = {"banana": 2, "mog-asym": 2, "funnel": 3, "icg": 5}


def plain(name):
    return Transition(TARGETS[name], leapfrog(4, 0.15 if name == "icg" else 0.5)(DIMS[name], F64))


def stirred(name):
    size = {"icg": 0.06, "funnel": 0.15}.get(name, 0.25)
    return Transition(TARGETS[name], learned(4, size, heads=0.7)(DIMS[name], F64))


def jittered(name):
    return hmc(TARGETS[name], step_size=jnp.asarray(0.15 if name == "icg" else 0.5), num_leapfrogs=4, jitter=0.4)


def mixture(name):
    return Mixture((stirred(name), jittered(name)), (0.6, 0.4))


def other(dynamics):
    return lambda name: Transition(TARGETS[name], dynamics(DIMS[name], F64))


def conditional(name):
    context = jnp.asarray(np.random.default_rng(5).normal(size=(3, 40_000)))
    return Transition(TARGETS[name], learned(4, 0.25, heads=0.7, context=3)(DIMS[name], F64), context)


KERNELS = {"leapfrog": plain, "learned": stirred, "jittered": jittered, "mixture": mixture, "conditional": conditional}
KERNELS |= {
    "rotation": other(rotation(2, 0.7)),
    "gradient-free": other(lambda dim, dtype: CrankNicolson(jnp.asarray(0.7, dtype))),
    "squashed": other(learned(4, 0.25, heads=0.7, squashed=True)),
    "two sizes": other(learned(4, (0.3, 0.2), heads=0.7)),
    "surrogate": other(surrogate(3)),
}
PAIRS = [(kernel, name) for kernel in ("leapfrog", "learned") for name in TARGETS]
PAIRS += [("mixture", "mog-asym"), *((k, "banana") for k in KERNELS if k not in ("leapfrog", "learned", "mixture"))]


@pytest.mark.parametrize(("kernel", "name"), PAIRS)
def test_invariance(kernel, name):
    check_invariance(KERNELS[kernel](name), TARGETS[name])


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_kernel_for_another_target_is_found_out(name):
    """The control: the same kernel for 1.1 times the log density must fail."""
    wrong = Tempered(TARGETS[name], jnp.asarray(1 / 1.1))
    transition = Transition(wrong, leapfrog(4, 0.15 if name == "icg" else 0.5)(DIMS[name], F64))
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(transition, TARGETS[name], steps=8)


@pytest.mark.parametrize("name", ["banana", "mog-asym"])
def test_flow_is_symmetric(name):
    check_symmetry(stirred(name), TARGETS[name])


@cache
def trained(name, objective):
    """A hundred iterations from random networks: far from HMC and far from converged."""
    start = Transition(
        TARGETS[name], learned_leapfrog(jax.random.key(0), dim=2, num_leapfrogs=4, step_size=0.3, width=8)
    )
    position = jnp.asarray(jax.random.normal(jax.random.key(1), (2, 64)))
    recipe = Recipe(objective, adam(1e-2))
    return train_kernel(jax.random.key(2), start, position, recipe, num_steps=100, chunk_size=100)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(("name", "objective"), [("mog-asym", LogJump()), ("banana", PaperLoss())])
def test_a_trained_kernel_is_invariant(name, objective):
    result = trained(name, objective)
    check_invariance(result.transition, TARGETS[name])
    check_symmetry(result.transition, TARGETS[name])
