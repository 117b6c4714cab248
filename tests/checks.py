"""The structural checks of a kernel: each raises AssertionError on the bug it looks for
(`test_mutants.py` proves it).

They go through `Transition.propose` and `Transition.decide`, the functions the sampler calls, with
momentum and direction put in the place of the drawn ones, so that anything the kernel computes from
its state is included.
"""

from typing import NamedTuple
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def propose_from(transition, position, momentum, forward):
    """``transition.propose`` with this momentum and direction instead of random ones: one draw
    holds both.
    """
    sign = jnp.where(forward, 1.0, -1.0).astype(momentum.dtype)
    drawn = jnp.concatenate([momentum, jnp.broadcast_to(sign, momentum.shape[1:])[None]])
    with mock.patch.object(jax.random, "normal", return_value=drawn.T):
        return transition.propose(jax.random.key(0), transition.init(position))


class Evidence(NamedTuple):
    """What one batch of proposals shows, as float64 NumPy arrays; `back` is the reverse move from
    where it ended.
    """

    there: object
    back: object
    jacobian: np.ndarray
    logdensity: np.ndarray
    end_logdensity: np.ndarray
    eps: float
    num_steps: int


@eqx.filter_jit
def _move(transition, position, momentum, forward):
    def flow(x, v):
        proposal = propose_from(transition, x, v, forward)
        return (proposal.end.position, proposal.end.momentum), proposal

    _, pullback, proposal = jax.vjp(flow, position, momentum, has_aux=True)
    dim = position.shape[0]
    unit = jnp.broadcast_to(
        jnp.eye(2 * dim, dtype=position.dtype)[:, :, None], (2 * dim, 2 * dim, position.shape[1])
    )
    rows = jax.vmap(pullback)((unit[:, :dim], unit[:, dim:]))
    return (
        proposal,
        jnp.moveaxis(jnp.concatenate(rows, axis=1), -1, 0),
        transition.logdensity(position),
    )


def phase_points(dim, chains=32, seed=0, dtype="float64"):
    """Positions, momenta and directions, half of them forward."""
    rng = np.random.default_rng(seed)
    position, momentum = rng.normal(size=(2, dim, chains)).astype(dtype)
    return jnp.asarray(position), jnp.asarray(momentum), jnp.asarray(np.arange(chains) % 2 == 0)


def diagnose_logdensity(transition, points) -> Evidence:
    """Proposals from ``points = (position, momentum, forward)``, their reversals and Jacobians."""
    there, jacobian, logdensity = _move(transition, *points)
    back, _, end_logdensity = _move(transition, there.end.position, there.end.momentum, ~points[2])
    eps = float(jnp.finfo(logdensity.dtype).eps)
    found = jax.tree.map(np.asarray, (there, back, jacobian, logdensity, end_logdensity))
    found = jax.tree.map(lambda a: a if a.dtype == bool else a.astype(float), found)
    return Evidence(*found, eps=eps, num_steps=transition.dynamics.num_gradients)


def _z(phase):
    return np.concatenate([phase.position, phase.momentum])


def check_round_trip(found: Evidence, *, atol=None):
    """The move back ends where the move began, to rounding times conditioning; log-dets cancel
    (TESTING 2.1).
    """
    error = np.linalg.norm(_z(found.back.end) - _z(found.there.start), axis=0)
    stretch = np.linalg.norm(np.linalg.inv(found.jacobian), 2, axis=(1, 2))
    bound = (
        4
        * found.eps
        * found.num_steps
        * stretch
        * (1 + np.linalg.norm(_z(found.there.end), axis=0))
    )
    assert np.array_equal(found.back.forward, ~found.there.forward)
    assert np.all(error <= bound), (
        f"round trip is off by {np.max(error / bound):.3g} times the bound"
    )
    # A log-det is a sum of at most 4 M dim terms whose sensitivity to the state is bounded by the
    # conditioning.
    slack = bound * np.linalg.cond(found.jacobian) + 1e2 * found.eps
    total = np.abs(found.there.log_det + found.back.log_det)
    assert np.all(total <= slack), (
        f"log-dets of a move and its reversal differ by {total.max():.3g}"
    )
    if atol is not None:
        assert error.max() <= atol
        assert total.max() <= atol


def check_log_det(found: Evidence, *, atol=None):
    """The reported log-determinant is that of the map, by autodiff, in both directions (TESTING
    2.2).
    """
    sign, expected = np.linalg.slogdet(found.jacobian)
    error = np.abs(found.there.log_det - expected)
    bound = 10 * found.eps * len(found.jacobian[0]) * np.linalg.cond(found.jacobian)
    assert np.all(sign > 0)
    assert np.all(error <= bound), f"log-det is off by {error.max():.3g}"
    if atol is not None:
        assert error.max() <= atol


def oracle_log_ratio(found: Evidence):
    """The log Metropolis-Hastings ratio from density, map and autodiff volume (TESTING 2.3)."""
    start, end = found.there.start, found.there.end
    kinetic = (np.sum(end.momentum**2, axis=0) - np.sum(start.momentum**2, axis=0)) / 2
    _, volume = np.linalg.slogdet(found.jacobian)
    return found.end_logdensity - found.logdensity - kinetic + volume


def check_log_ratio(found: Evidence, *, atol=1e-9):
    """The reported log ratio is the oracle's."""
    error = np.abs(found.there.log_ratio - oracle_log_ratio(found))
    assert error.max() <= atol, f"log ratio is off by {error.max():.3g}"


def check_end_state(found: Evidence, *, rtol=1e-9):
    """Log density and gradient that come with a proposal are those of its end point, not of an
    earlier one.
    """
    np.testing.assert_allclose(
        found.there.end.logdensity, found.end_logdensity, rtol=rtol, atol=rtol
    )
    np.testing.assert_allclose(
        found.there.end.logdensity_grad, found.back.start.logdensity_grad, rtol=rtol, atol=rtol
    )


def check_antisymmetry(found: Evidence, *, atol=1e-9):
    """The log ratio of the reverse move is minus that of the move (TESTING 2.4)."""
    total = np.abs(found.there.log_ratio + found.back.log_ratio)
    assert total.max() <= atol, f"log ratios of a move and its reversal sum to {total.max():.3g}"


@eqx.filter_jit
def _decide(transition, position, key):
    state = transition.init(position)
    propose_key, decide_key = jax.random.split(key)
    proposal = transition.propose(propose_key, state)
    uniform = jax.random.uniform(decide_key, proposal.log_ratio.shape, proposal.log_ratio.dtype)
    return state, proposal, uniform, transition.move(key, state)


def check_decision(transition, position, seed=0):
    """``step`` accepts exactly where log u < log ratio, with the keys it documents, and moves those
    chains whole.
    """
    found = jax.tree.map(np.asarray, _decide(transition, position, jax.random.key(seed)))
    before, proposal, uniform, (after, info) = found
    accepted = np.log(uniform) < proposal.log_ratio
    assert np.array_equal(info.is_accepted, accepted)
    assert 0.05 < accepted.mean() < 0.98, "needs both outcomes to mean anything"
    end = proposal.end
    for new, old, there in zip(
        after, before, (end.position, end.logdensity, end.logdensity_grad), strict=True
    ):
        np.testing.assert_array_equal(new, np.where(accepted, there, old))
    np.testing.assert_allclose(
        info.acceptance_rate, np.minimum(1, np.exp(proposal.log_ratio)), rtol=1e-12
    )
    np.testing.assert_array_equal(info.log_ratio, proposal.log_ratio)


def check_finite(transition, position, steps=20):
    """Where proposals are not finite (a cliff of NaN or +inf), chains stay put and states stay
    finite.
    """
    step = eqx.filter_jit(type(transition).move)
    state, rejected = transition.init(position), 0
    for t in range(steps):
        before = state
        state, info = step(transition, jax.random.fold_in(jax.random.key(3), t), state)
        proposed = jax.tree.map(np.asarray, info.proposal)
        broken = ~np.isfinite(proposed.logdensity) | ~np.isfinite(proposed.position).all(axis=0)
        rejected += broken.sum()
        assert not np.asarray(info.is_accepted)[broken].any(), (
            "accepted a proposal that is not finite"
        )
        assert np.all(np.asarray(info.acceptance_rate)[broken] == 0)
        np.testing.assert_array_equal(
            np.asarray(state.position)[:, broken], np.asarray(before.position)[:, broken]
        )
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in state)
    assert rejected > 10, "the test never met a proposal that is not finite"


@eqx.filter_jit
def _directions(transition, state, keys):
    return jax.lax.map(lambda key: transition.propose(key, state).forward, keys)


def check_directions(transition, position, steps=400, seed=0):
    """Direction bits are fair, independent over chains and over steps, and independent of the state
    (|z| < 5).
    """
    state = transition.init(position)
    keys = jax.vmap(lambda t: jax.random.fold_in(jax.random.key(seed), t))(jnp.arange(steps))
    sign = np.where(np.asarray(_directions(transition, state, keys)), 1.0, -1.0)
    chains, x = sign.shape[1], np.asarray(position[0])
    x = (x - x.mean()) / x.std()
    fair = sign.sum() / np.sqrt(sign.size)
    # Under independence each step's sum over chains, squared, has mean `chains` and variance about
    # 2 chains^2.
    shared = (np.mean(sign.sum(axis=1) ** 2) / chains - 1) * np.sqrt(steps / 2)
    sticky = (np.mean(sign.sum(axis=0) ** 2) / steps - 1) * np.sqrt(chains / 2)
    serial = np.sum(sign[1:] * sign[:-1]) / np.sqrt(sign[1:].size)
    state_bound = np.sum(sign * x) / np.sqrt(steps * chains)
    scores = {
        "fair": fair,
        "shared": shared,
        "sticky": sticky,
        "serial": serial,
        "state": state_bound,
    }
    assert all(abs(z) < 5 for z in scores.values()), (
        f"directions are not independent fair coins: {scores}"
    )
