"""Exact draws stay exact: a few transitions from many exact draws of skewed targets."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.kernels import (
    CrankNicolson,
    Mixture,
    ModeJump,
    Tempered,
    Transition,
    hmc,
    learned_leapfrog,
)
from capriole.sampling import record_of
from capriole.training import LogJump, PaperLoss, Recipe, adam, train_kernel
from densities import Banana, Funnel, Gaussian, Mixture2
from invariance import check_invariance, check_symmetry
from kernels import jump, leapfrog, learned, rotation, surrogate

F64 = jnp.dtype("float64")
ICG = Gaussian(jnp.geomspace(0.1, 10, 5))
TARGETS = {"banana": Banana(), "mog-asym": Mixture2(), "funnel": Funnel(), "icg": ICG}
DIMS = {"banana": 2, "mog-asym": 2, "funnel": 3, "icg": 5}


def plain(name, temperature=1.0):
    """HMC; its temperature is data, so that the control below is the same program."""
    target = Tempered(TARGETS[name], jnp.asarray(temperature))
    return Transition(target, leapfrog(4, 0.15 if name == "icg" else 0.5)(DIMS[name], F64))


def stirred(name):
    size = {"icg": 0.06, "funnel": 0.15}.get(name, 0.25)
    return Transition(TARGETS[name], learned(4, size, heads=0.7)(DIMS[name], F64))


def jittered(name):
    return hmc(
        TARGETS[name],
        step_size=jnp.asarray(0.15 if name == "icg" else 0.5),
        num_leapfrogs=4,
        jitter=0.4,
    )


def mixture(name):
    return Mixture((stirred(name), jittered(name)), (0.6, 0.4))


def other(dynamics):
    return lambda name: Transition(TARGETS[name], dynamics(DIMS[name], F64))


def conditional(name):
    context = jnp.asarray(np.random.default_rng(5).normal(size=(3, 40_000)))
    return Transition(
        TARGETS[name], learned(4, 0.25, heads=0.7, context=3)(DIMS[name], F64), context
    )


KERNELS = {
    "leapfrog": plain,
    "learned": stirred,
    "jittered": jittered,
    "mixture": mixture,
    "conditional": conditional,
}
KERNELS |= {
    "rotation": other(rotation(2, 0.7)),
    "gradient-free": other(lambda dim, dtype: CrankNicolson(jnp.asarray(0.7, dtype))),
    "squashed": other(learned(4, 0.25, heads=0.7, squashed=True)),
    "two sizes": other(learned(4, (0.3, 0.2), heads=0.7)),
    "surrogate": other(surrogate(3)),
    "mode jump": other(jump(1.5)),
}
PAIRS = [(kernel, name) for kernel in ("leapfrog", "learned") for name in TARGETS]
PAIRS += [
    ("mixture", "mog-asym"),
    ("mode jump", "mog-asym"),
    *((k, "banana") for k in KERNELS if k not in ("leapfrog", "learned", "mixture")),
]


@pytest.mark.parametrize(("kernel", "name"), PAIRS)
def test_invariance(kernel, name):
    check_invariance(KERNELS[kernel](name), TARGETS[name])


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_kernel_for_another_target_is_found_out(name):
    """The control: the same kernel for 1.1 times the log density must fail."""
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(plain(name, 1 / 1.1), TARGETS[name], steps=8)


JUMP_BUGS = ("none", "unreturned", "unstretched")


class Forgetful(ModeJump):
    """A jump with one bug, which is data: all share a program.

    Unreturned: an image in another mode than it should be in has no way back, which is forgotten.
    Unstretched: that modes differ in volume is forgotten.
    """

    bug: jax.Array = None

    def __call__(self, logdensity, phase, forward, context=None):
        end, log_det = super().__call__(logdensity, phase, forward, context)
        lost = jnp.isneginf(log_det)
        unreturned, unstretched = jnp.where(lost, 0.0, log_det), jnp.where(lost, log_det, 0.0)
        return end, jnp.stack([log_det, unreturned, unstretched])[self.bug]


def forgetful(bug):
    made = KERNELS["mode jump"]("mog-asym").dynamics
    index = jnp.asarray(JUMP_BUGS.index(bug))
    dynamics = Forgetful(made.centre, made.factor, made.log_share, made.angle, bug=index)
    return Transition(TARGETS["mog-asym"], dynamics)


def test_a_jump_that_forgets_nothing_passes():
    check_invariance(forgetful("none"), TARGETS["mog-asym"])


@pytest.mark.parametrize("bug", JUMP_BUGS[1:])
def test_a_jump_that_forgets_is_found_out(bug):
    """The modes of the jump overlap, and are not those of the target: both matter."""
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(forgetful(bug), TARGETS["mog-asym"])


def test_a_jump_without_a_way_back_is_rejected_and_is_no_trouble():
    kernel = KERNELS["mode jump"]("mog-asym")
    position = jnp.asarray(TARGETS["mog-asym"].draw(np.random.default_rng(0), 4000))
    state = kernel.init(position)
    after, info = kernel.move(jax.random.key(0), state)
    lost = np.isneginf(info.log_det)
    assert 0.05 < lost.mean() < 0.9
    assert not np.asarray(info.is_accepted)[lost].any()
    assert not np.asarray(info.is_divergent)[lost].any()
    assert not np.asarray(record_of(after, info, position).nonfinite).any()
    np.testing.assert_array_equal(
        np.asarray(after.position)[:, lost], np.asarray(position)[:, lost]
    )


@pytest.mark.parametrize("name", ["banana", "mog-asym"])
def test_flow_is_symmetric(name):
    check_symmetry(stirred(name), TARGETS[name])


@cache
def trained(name, objective):
    """A hundred iterations from random networks: far from HMC and far from converged."""
    start = Transition(
        TARGETS[name],
        learned_leapfrog(jax.random.key(0), dim=2, num_leapfrogs=4, step_size=0.3, width=8),
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
