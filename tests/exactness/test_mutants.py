"""The proof of the proof: every planted bug is caught by the check that is named for it, which the
original passes.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import checks
from capriole import PerChain
from capriole.kernels import Transition
from densities import Mixture2, cliff
from invariance import check_invariance, check_symmetry
from kernels import learned
from mutants import DYNAMICS_BUGS, TRANSITION_BUGS, mutate

F64 = jnp.dtype("float64")
TARGET = Mixture2()


def kernel(target=TARGET):
    return Transition(target, learned(4, 0.25, heads=0.7)(2, F64))


@cache
def evidence(bug):
    subject = kernel() if bug is None else mutate(kernel(), bug)
    return checks.diagnose_logdensity(subject, checks.phase_points(2))


def positions(chains=400):
    return jnp.asarray(TARGET.draw(np.random.default_rng(1), chains))


def on_evidence(check):
    return lambda bug: check(evidence(bug))


def on_kernel(check, *args, target=TARGET, **options):
    return lambda bug: check(
        kernel(target) if bug is None else mutate(kernel(target), bug), *args, **options
    )


CHECKS = {
    "round trip": on_evidence(checks.check_round_trip),
    "log-det": on_evidence(checks.check_log_det),
    "oracle": on_evidence(checks.check_log_ratio),
    "antisymmetry": on_evidence(checks.check_antisymmetry),
    "end state": on_evidence(checks.check_end_state),
    "decision": on_kernel(checks.check_decision, positions()),
    "directions": on_kernel(checks.check_directions, positions()),
    "finite": on_kernel(checks.check_finite, jnp.zeros((2, 40)), target=PerChain(cliff)),
    "invariance": on_kernel(check_invariance, TARGET),
    "symmetry": on_kernel(check_symmetry, TARGET),
}

WORDS = {
    "round trip": "round trip is off",
    "log-det": "log-det is off",
    "oracle": "log ratio is off",
    "antisymmetry": "log ratios of a move and its reversal sum to",
    "end state": "Not equal to tolerance",
    # One bare assert, that what is accepted is what should be, and arrays.
    "decision": "^$|Arrays are not equal",
    "directions": "directions are not independent fair coins",
    "finite": "accepted a proposal that is not finite",
    "invariance": "not invariant: p-values",
    "symmetry": "flow is not symmetric",
}
"""What each check says where its property is missing, and not where it lacks power (chains that
hardly move).
"""

CAUGHT = [
    ("no log-det", "log-det"),
    ("no log-det", "oracle"),
    ("no log-det", "invariance"),
    ("log-det sign", "log-det"),
    ("log-det sign", "oracle"),
    ("log-det sign", "invariance"),
    ("0.9 log-det", "log-det"),
    ("0.9 log-det", "oracle"),
    ("half kick without log-det", "log-det"),
    ("half kick without log-det", "oracle"),
    ("mask order not swapped", "round trip"),
    ("mask order not swapped", "antisymmetry"),
    ("time not reversed", "round trip"),
    ("time not reversed", "antisymmetry"),
    ("shift before scale in the inverse", "round trip"),
    ("shift sign in the inverse", "round trip"),
    ("shift sign in the inverse", "invariance"),
    ("drift sees what it changes", "round trip"),
    ("drift sees what it changes", "log-det"),
    ("step size from the state", "round trip"),
    ("stale gradient", "round trip"),
    ("no kinetic energy", "oracle"),
    ("no kinetic energy", "invariance"),
    ("inverted ratio", "oracle"),
    ("inverted ratio", "invariance"),
    ("always accept", "decision"),
    ("always accept", "invariance"),
    ("always forward", "directions"),
    ("always forward", "invariance"),
    ("always forward", "symmetry"),
    ("one coin for all chains", "directions"),
    ("direction from the state", "directions"),
    ("fresh momentum in the ratio", "oracle"),
    ("NaN accepted", "finite"),
    ("direction and acceptance share a number", "invariance"),
    ("direction and acceptance share a number", "decision"),
    ("stale log density", "oracle"),
    ("stale log density", "end state"),
    ("gradient not updated", "end state"),
]


@pytest.mark.parametrize("name", list(CHECKS))
def test_the_original_passes(name):
    CHECKS[name](None)


@pytest.mark.parametrize(("bug", "name"), CAUGHT)
def test_the_mutant_is_caught(bug, name):
    with pytest.raises(AssertionError, match=WORDS[name]):
        CHECKS[name](bug)


def test_every_bug_and_every_check_is_in_the_table():
    assert {bug for bug, _ in CAUGHT} == {*DYNAMICS_BUGS, *TRANSITION_BUGS}
    assert {name for _, name in CAUGHT} == set(CHECKS) == set(WORDS)
    assert len({*DYNAMICS_BUGS, *TRANSITION_BUGS}) >= 20


def test_the_copy_without_a_bug_is_the_library():
    original = kernel()
    copy = mutate(original, "")
    state = original.init(positions(64))

    @eqx.filter_jit
    def step(transition, key):
        return transition.move(key, state)

    for seed in range(3):
        a, b = step(original, jax.random.key(seed)), step(copy, jax.random.key(seed))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12), a, b)


def test_no_single_check_sees_everything():
    """Why both kinds are needed: algebra is blind to the shared key, statistics to a tenth of the
    log-det.
    """
    shared = "direction and acceptance share a number"
    for name in ("round trip", "log-det", "oracle", "antisymmetry", "end state", "directions"):
        CHECKS[name](shared)
    CHECKS["invariance"]("0.9 log-det")
    CHECKS["round trip"]("no log-det")
