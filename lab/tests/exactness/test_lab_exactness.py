"""The laboratory's dynamics and targets through the algebraic invariants of the library's tests."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import checks
from capriole.kernels import Leapfrog, Transition
from capriole_lab.targets import TARGETS, make_target
from lab_kernels import CASES

NAMES = [case.name for case in CASES]
BY_NAME = dict(zip(NAMES, CASES, strict=True))


@cache
def evidence(name):
    case = BY_NAME[name]
    return checks.diagnose_logdensity(case.transition(), checks.phase_points(case.dim))


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    checks.check_round_trip(evidence(name), atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_log_det_is_autodiffs_in_both_directions(name):
    checks.check_log_det(evidence(name), atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_log_ratio_is_the_oracles_and_antisymmetric(name):
    checks.check_log_ratio(evidence(name))
    checks.check_antisymmetry(evidence(name))
    checks.check_end_state(evidence(name))


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("learned")])
def test_networks_are_far_from_hmc(name):
    log_det = evidence(name).there.log_det
    assert np.abs(log_det).max() > 0.2
    assert log_det.std() > 0.02


@pytest.mark.parametrize("name", list(TARGETS))
def test_hmc_on_every_target_of_the_library(name):
    target = make_target(name, dtype=jnp.dtype("float64"))
    transition = Transition(target, Leapfrog(jnp.asarray(1e-3), 3))
    x = target.start(jax.random.key(0), 6)
    _, v, forward = checks.phase_points(target.dim, 6)

    @eqx.filter_jit
    def both(transition, x, v):
        there = checks.propose_from(transition, x, v, forward)
        return there, checks.propose_from(
            transition, there.end.position, there.end.momentum, ~forward
        )

    there, back = both(transition, x, v)
    assert x.dtype == there.end.logdensity.dtype == jnp.float64
    scale = 1 + np.abs(x).max() + np.abs(v).max() + np.abs(there.start.logdensity_grad).max()
    np.testing.assert_allclose(back.end.position, x, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(back.end.momentum, v, rtol=0, atol=1e-9 * scale)
