"""Every (dynamics, target) of the table through the algebraic invariants; no statistics but for the
direction bits.
"""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import checks
from capriole import PerChain
from capriole.coordinates import Whitened, Whitening
from capriole.kernels import Jittered, Leapfrog, Mixture, Transition, affine, hmc
from densities import Banana, Mixture2, cliff
from kernels import CASES, leapfrog, learned

NAMES = [case.name for case in CASES]
MILD = [case.name for case in CASES if case.mild]
BY_NAME = dict(zip(NAMES, CASES, strict=True))
LEARNED = "learned-2-mog"


@cache
def evidence(name, dtype="float64"):
    case = BY_NAME[name]
    return checks.diagnose_logdensity(
        case.transition(dtype), checks.phase_points(case.dim, dtype=dtype)
    )


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    checks.check_round_trip(evidence(name), atol=1e-10 if BY_NAME[name].mild else None)


@pytest.mark.parametrize("name", NAMES)
def test_log_det_is_autodiffs_in_both_directions(name):
    checks.check_log_det(evidence(name), atol=1e-10 if BY_NAME[name].mild else None)


@pytest.mark.parametrize("name", MILD)
def test_log_ratio_is_the_oracles_and_antisymmetric(name):
    checks.check_log_ratio(evidence(name))
    checks.check_antisymmetry(evidence(name))
    checks.check_end_state(evidence(name))


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("learned")])
def test_networks_are_far_from_hmc(name):
    log_det = evidence(name).there.log_det
    assert np.abs(log_det).max() > 0.2
    assert log_det.std() > 0.02


@pytest.mark.parametrize("name", ["leapfrog-2-banana", "learned-3-funnel", "learned-1"])
def test_float32_keeps_its_dtype_and_the_invariants_to_its_rounding(name):
    case = BY_NAME[name]
    transition, points = case.transition("float32"), checks.phase_points(case.dim, dtype="float32")
    proposal = eqx.filter_jit(checks.propose_from)(transition, *points)
    assert {leaf.dtype for leaf in jax.tree.leaves(proposal)} == {
        jnp.dtype("float32"),
        jnp.dtype(bool),
    }
    found = evidence(name, "float32")
    checks.check_round_trip(found)
    checks.check_log_det(found)
    checks.check_log_ratio(found, atol=1e-3)


def _masked(transition, fill):
    return eqx.tree_at(
        lambda t: t.dynamics.masks, transition, jnp.full_like(transition.dynamics.masks, fill)
    )


@pytest.mark.parametrize("fill", [True, False])
def test_masks_that_are_all_true_or_all_false(fill):
    found = checks.diagnose_logdensity(
        _masked(BY_NAME[LEARNED].transition(), fill), checks.phase_points(2)
    )
    checks.check_round_trip(found, atol=1e-10)
    checks.check_log_det(found, atol=1e-10)
    checks.check_log_ratio(found)
    assert not np.allclose(found.there.end.position, evidence(LEARNED).there.end.position)


def _assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), found, expected
    )


def _columns(tree, columns):
    return jax.tree.map(lambda a: np.asarray(a)[..., columns], tree)


@pytest.mark.parametrize(
    "name", ["leapfrog-2-banana", "learned-1", "learned-3-funnel", "learned-context"]
)
def test_a_batch_is_its_single_chains_and_a_batch_of_one(name):
    case = BY_NAME[name]
    transition, (x, v, forward) = case.transition(), checks.phase_points(case.dim)
    whole = eqx.filter_jit(checks.propose_from)(transition, x, v, forward)
    single, one = eqx.filter_jit(checks.propose_from), slice(5, 6)
    for chain in (0, 1):
        alone = transition
        if transition.context is not None:
            alone = eqx.tree_at(lambda t: t.context, transition, transition.context[:, chain])
        found = single(alone, x[:, chain], v[:, chain], forward[chain])
        _assert_close(found, _columns(whole, chain))
    alone = transition
    if transition.context is not None:
        alone = eqx.tree_at(lambda t: t.context, transition, transition.context[:, one])
    found = single(alone, x[:, one], v[:, one], forward[one])
    _assert_close(found, _columns(whole, one))


def test_context_changes_the_map():
    transition, points = BY_NAME["learned-context"].transition(), checks.phase_points(2)
    other = eqx.tree_at(lambda t: t.context, transition, -transition.context)
    ends = [
        eqx.filter_jit(checks.propose_from)(t, *points).end.position for t in (transition, other)
    ]
    assert np.abs(ends[0] - ends[1]).max() > 0.01


def exact_positions(target, chains=400):
    return jnp.asarray(target.draw(np.random.default_rng(1), chains))


@pytest.mark.parametrize(
    ("target", "factory"), [(Mixture2(), learned(5)), (Banana(), leapfrog(3, 0.8))]
)
def test_decisions_use_the_ratio_and_an_independent_uniform(target, factory):
    transition = Transition(target, factory(2, jnp.dtype("float64")))
    for seed in range(3):
        checks.check_decision(transition, exact_positions(target), seed)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_hopeless_proposal_is_rejected_whatever_the_uniform(monkeypatch, dtype):
    """It is 0 once in 2^23 times in single precision; the log of 0 is below any finite ratio."""
    flat = PerChain(lambda x: -jnp.sum(x**2) / 2)
    transition = Transition(flat, Leapfrog(jnp.asarray(0.1, dtype), 1))
    state = transition.init(jnp.zeros((1, 3), dtype))
    proposal = transition.propose(jax.random.key(0), state)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.zeros(shape, dtype))
    ratio = jnp.asarray([-500.0, -1.0, 0.0], dtype)
    _, info = transition.decide(jax.random.key(1), state, proposal._replace(log_ratio=ratio))
    np.testing.assert_array_equal(info.is_accepted, [False, True, True])


def test_parts_of_a_mixture_share_target_and_coordinates():
    flat = PerChain(lambda x: -jnp.sum(x**2) / 2)
    white = Whitened(
        flat, Whitening(jnp.zeros(2), jnp.array([2.0, 0.5]), jnp.zeros((2, 0)), jnp.zeros(0))
    )
    inside, outside = (hmc(target, step_size=0.1, num_leapfrogs=2) for target in (white, flat))
    with pytest.raises(
        ValueError,
        match=r"parts \[1\] of the mixture are for another target, or in other coordinates",
    ):
        Mixture((inside, outside), (0.5, 0.5))
    again = Whitened(
        flat, Whitening(jnp.zeros(2), jnp.array([2.0, 0.5]), jnp.zeros((2, 0)), jnp.zeros(0))
    )
    Mixture((inside, hmc(again, step_size=0.2, num_leapfrogs=1)), (0.5, 0.5))
    other = Whitened(
        flat, Whitening(jnp.zeros(2), jnp.array([2.0, 0.6]), jnp.zeros((2, 0)), jnp.zeros(0))
    )
    with pytest.raises(ValueError, match="parts"):
        Mixture((inside, hmc(other, step_size=0.2, num_leapfrogs=1)), (0.5, 0.5))


def test_directions_are_independent_fair_coins():
    transition = BY_NAME[LEARNED].transition()
    checks.check_directions(transition, exact_positions(Mixture2()))


@pytest.mark.parametrize("factory", [leapfrog(3, 0.5), learned(3, 0.5)])
def test_proposals_that_are_not_finite_are_rejected(factory):
    transition = Transition(PerChain(cliff), factory(2, jnp.dtype("float64")))
    checks.check_finite(transition, jnp.zeros((2, 40)))


def test_affine_is_inverted_by_its_direction_and_zero_log_scale_is_a_shift():
    y, s, t = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 6)))
    forward = jnp.asarray([True, False] * 3)
    out, log_det = affine(y, s, t, forward)
    expected = np.where(forward, y * jnp.exp(s) + t, (y - t) / jnp.exp(s))
    np.testing.assert_allclose(out, expected, rtol=1e-14)
    np.testing.assert_allclose(
        log_det, np.where(forward, 1.0, -1.0) * np.sum(np.asarray(s), axis=0), rtol=1e-14
    )
    again, back = affine(out, s, t, ~forward)
    np.testing.assert_allclose(again, y, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(back, -log_det)


def test_zero_networks_are_plain_hmc():
    case = BY_NAME["learned-3-funnel"]
    transition = case.transition()

    def heads(t):
        nets = (t.dynamics.momentum_network, t.dynamics.position_network)
        return [leaf for net in nets for leaf in (net.heads, net.heads_bias)]

    zeroed = eqx.tree_at(heads, transition, replace_fn=jnp.zeros_like)
    plain = Transition(
        transition.logdensity, Leapfrog(jnp.exp(transition.dynamics.log_step_size), 5)
    )
    points = checks.phase_points(3)
    a, b = (eqx.filter_jit(checks.propose_from)(t, *points) for t in (zeroed, plain))
    _assert_close(a, b)


def test_masks_mark_half_of_an_odd_dimension():
    masks = np.asarray(learned(10)(3, jnp.dtype("float64")).masks)
    assert masks.shape == (10, 3)
    assert np.all(masks.sum(axis=1) == 1)
    assert len({tuple(row) for row in masks}) > 1


def test_jitter_and_lengths_are_checked():
    with pytest.raises(ValueError, match=r"strictly between 0 and 1, got 1\.5"):
        hmc(Banana(), step_size=0.1, num_leapfrogs=3, jitter=1.5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        hmc(Banana(), step_size=0.1, num_leapfrogs=0)
    assert isinstance(hmc(Banana(), step_size=0.1, num_leapfrogs=3, jitter=0.5), Jittered)
