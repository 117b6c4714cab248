"""Planted bugs: copies of the library's learned leapfrog and transition with one line wrong, chosen by ``bug``.

``bug=""`` is the library's own behaviour, bit for bit; a test says so, which ties these copies to the original.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from capriole import LearnedLeapfrog, Phase, State, Transition, affine
from capriole._dynamics import _clock
from capriole._logdensity import value_and_grad
from capriole._networks import column
from capriole._transition import Proposal

DYNAMICS_BUGS = (
    "no log-det",
    "log-det sign",
    "0.9 log-det",
    "half kick without log-det",
    "mask order not swapped",
    "time not reversed",
    "shift before scale in the inverse",
    "shift sign in the inverse",
    "drift sees what it changes",
    "step size from the state",
    "stale gradient",
)
TRANSITION_BUGS = (
    "no kinetic energy",
    "inverted ratio",
    "always accept",
    "always forward",
    "one coin for all chains",
    "direction from the state",
    "fresh momentum in the ratio",
    "NaN accepted",
    "direction and acceptance share a key",
    "stale log density",
    "gradient not updated",
)


class MutantLeapfrog(LearnedLeapfrog):
    """A copy of the learned leapfrog's map with one bug."""

    bug: str = eqx.field(static=True, default="")

    def _affine(self, y, log_scale, shift, forward):
        out, log_det = affine(y, log_scale, shift, forward)
        if self.bug == "shift before scale in the inverse":
            out = jnp.where(forward, out, y * jnp.exp(-log_scale) - shift)
        if self.bug == "shift sign in the inverse":
            out = jnp.where(forward, out, (y + shift) * jnp.exp(-log_scale))
        return out, log_det

    def __call__(self, logdensity, phase, forward, context=None):
        bug = self.bug
        eps = jnp.broadcast_to(jnp.exp(self.log_step_size), phase.position.shape)
        if bug == "step size from the state":
            eps = eps * (1 + 0.5 * jnp.tanh(phase.position[:1]))

        def kick(v, x, grad, time):
            s, q, t = self.momentum_network(x, grad, time)
            return self._affine(v, eps / 2 * s, eps / 2 * (grad * jnp.exp(eps * q) + t), forward)

        def drift(x, v, moving, time):
            seen = x if bug == "drift sees what it changes" else jnp.where(moving, 0, x)
            s, q, t = self.position_network(v, seen, time)
            shift = eps * (v * jnp.exp(eps * q) + t)
            return self._affine(x, jnp.where(moving, eps * s, 0), jnp.where(moving, shift, 0), forward)

        def step(carry, rows):
            (x, v, _, grad), log_det = carry
            mask, time = (jnp.where(forward, column(a, x), column(b, x)) for a, b in zip(*rows, strict=True))
            if bug == "time not reversed":
                time = column(rows[0][1], x)
            moving = jnp.broadcast_to(~mask, x.shape) if bug == "mask order not swapped" else mask != forward
            v, first_kick = kick(v, x, grad, time)
            x, first_drift = drift(x, v, moving, time)
            x, second_drift = drift(x, v, ~moving, time)
            value, new_grad = value_and_grad(logdensity, x)
            if bug != "stale gradient":
                grad = new_grad
            v, second_kick = kick(v, x, grad, time)
            if bug == "half kick without log-det":
                second_kick = 0 * second_kick
            return (Phase(x, v, value, grad), log_det + first_kick + first_drift + second_drift + second_kick), None

        tables = (self.masks, _clock(self.num_gradients, phase.position.dtype))
        start = (phase, jnp.zeros_like(phase.logdensity))
        (end, log_det), _ = jax.lax.scan(step, start, (tables, tuple(table[::-1] for table in tables)))
        factor = {"no log-det": 0.0, "log-det sign": -1.0, "0.9 log-det": 0.9}.get(bug, 1.0)
        return end, factor * log_det


class MutantTransition(Transition):
    """A copy of Metropolis-Hastings with one bug."""

    bug: str = eqx.field(static=True, default="")

    def propose(self, rng_key, state):
        bug = self.bug
        momentum_key, direction_key = jax.random.split(rng_key)
        shape = state.position.shape[::-1]
        momentum = jax.random.normal(momentum_key, shape, state.position.dtype).T
        forward = jax.random.bernoulli(direction_key, 0.5, state.logdensity.shape)
        if bug == "always forward":
            forward = jnp.ones_like(forward)
        if bug == "one coin for all chains":
            forward = jnp.broadcast_to(forward[:1], forward.shape)
        if bug == "direction from the state":
            forward = jnp.where(state.position[0] > 1, True, forward)
        start = Phase(state.position, momentum, state.logdensity, state.logdensity_grad)
        end, log_det = self.dynamics(self.logdensity, start, forward, self.context)
        if bug == "stale log density":
            end = end._replace(logdensity=state.logdensity)
        if bug == "gradient not updated":
            end = end._replace(logdensity_grad=state.logdensity_grad)
        after = end.momentum
        if bug == "fresh momentum in the ratio":
            after = jnp.roll(momentum, 1, axis=-1)
        kinetic = jnp.sum(after**2, axis=0) / 2 - jnp.sum(momentum**2, axis=0) / 2
        if bug == "no kinetic energy":
            kinetic = jnp.zeros_like(kinetic)
        log_ratio = end.logdensity - state.logdensity - kinetic + log_det
        if bug == "inverted ratio":
            log_ratio = -log_ratio
        finite = jnp.isfinite(log_ratio) & jnp.all(jnp.isfinite(end.position), axis=0)
        rejected = 0.0 if bug == "NaN accepted" else -jnp.inf
        return Proposal(start, end, forward, log_det, jnp.where(finite, log_ratio, rejected))

    def decide(self, rng_key, state, proposal):
        chosen, info = super().decide(rng_key, state, proposal)
        if self.bug == "always accept":
            end = proposal.end
            chosen = State(end.position, end.logdensity, end.logdensity_grad)
            info = info._replace(is_accepted=jnp.ones_like(info.is_accepted))
        return chosen, info

    def step(self, rng_key, state):
        if self.bug == "direction and acceptance share a key":
            # fold_in(key, 1) is split(key)[1], from which `propose` draws the direction.
            return self.decide(jax.random.fold_in(rng_key, 1), state, self.propose(rng_key, state))
        return super().step(rng_key, state)


def mutate(transition, bug):
    """The transition with one bug; ``bug=""`` is a faithful copy."""
    known = bug in DYNAMICS_BUGS or bug in TRANSITION_BUGS or not bug
    assert known, f"unknown bug {bug!r}"
    d = transition.dynamics
    dynamics = MutantLeapfrog(
        d.momentum_network, d.position_network, d.log_step_size, d.masks, bug if bug in DYNAMICS_BUGS else ""
    )
    return MutantTransition(transition.logdensity, dynamics, transition.context, bug if bug in TRANSITION_BUGS else "")
