"""Planted bugs: copies of the library's learned leapfrog and transition with one line wrong, chosen
by ``bug``.

The bug is data (an index), so that all mutants of a check share one compilation.

``bug=""`` is the library's own behaviour, to rounding; a test says so, which ties these copies to
the original.
"""

import jax
import jax.numpy as jnp

from capriole.kernels import (
    LearnedLeapfrog,
    Phase,
    Proposal,
    State,
    Transition,
    affine,
    column,
    value_and_grad,
)

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
    "direction and acceptance share a number",
    "stale log density",
    "gradient not updated",
)


BUGS = ("", *DYNAMICS_BUGS, *TRANSITION_BUGS)


def _clock(num_leapfrogs, dtype):
    angle = 2 * jnp.pi * jnp.arange(num_leapfrogs, dtype=dtype) / num_leapfrogs
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)


class MutantLeapfrog(LearnedLeapfrog):
    """A copy of the learned leapfrog's map with one bug."""

    bug: jax.Array

    def _if(self, name, wrong, right):
        return jnp.where(self.bug == BUGS.index(name), wrong, right)

    def _affine(self, y, log_scale, shift, forward):
        out, log_det = affine(y, log_scale, shift, forward)
        early = jnp.where(forward, out, y * jnp.exp(-log_scale) - shift)
        out = self._if("shift before scale in the inverse", early, out)
        sign = jnp.where(forward, out, (y + shift) * jnp.exp(-log_scale))
        return self._if("shift sign in the inverse", sign, out), log_det

    def __call__(self, logdensity, phase, forward, context=None):
        eps = jnp.broadcast_to(jnp.exp(self.log_step_size), phase.position.shape)
        eps = self._if(
            "step size from the state", eps * (1 + 0.5 * jnp.tanh(phase.position[:1])), eps
        )

        def kick(v, x, grad, time):
            s, q, t = self.momentum_network(x, grad, time)
            return self._affine(v, eps / 2 * s, eps / 2 * (grad * jnp.exp(eps * q) + t), forward)

        def drift(x, v, moving, time):
            seen = self._if("drift sees what it changes", x, jnp.where(moving, 0, x))
            s, q, t = self.position_network(v, seen, time)
            shift = eps * (v * jnp.exp(eps * q) + t)
            return self._affine(
                x, jnp.where(moving, eps * s, 0), jnp.where(moving, shift, 0), forward
            )

        def step(carry, rows):
            (x, v, _, grad), log_det = carry
            mask, time = (
                jnp.where(forward, column(a, x), column(b, x)) for a, b in zip(*rows, strict=True)
            )
            time = self._if("time not reversed", column(rows[0][1], x), time)
            moving = self._if("mask order not swapped", ~mask, mask != forward)
            v, first_kick = kick(v, x, grad, time)
            x, first_drift = drift(x, v, moving, time)
            x, second_drift = drift(x, v, ~moving, time)
            value, new_grad = value_and_grad(logdensity, x)
            grad = self._if("stale gradient", grad, new_grad)
            v, second_kick = kick(v, x, grad, time)
            second_kick = self._if("half kick without log-det", 0 * second_kick, second_kick)
            return (
                Phase(x, v, value, grad),
                log_det + first_kick + first_drift + second_drift + second_kick,
            ), None

        tables = (self.masks, _clock(self.num_gradients, phase.position.dtype))
        start = (phase, jnp.zeros_like(phase.logdensity))
        (end, log_det), _ = jax.lax.scan(
            step, start, (tables, tuple(table[::-1] for table in tables))
        )
        log_det = self._if("no log-det", 0 * log_det, log_det)
        log_det = self._if("log-det sign", -log_det, log_det)
        return end, self._if("0.9 log-det", 0.9 * log_det, log_det)


class MutantTransition(Transition):
    """A copy of Metropolis-Hastings with one bug."""

    bug: jax.Array = None

    def _if(self, name, wrong, right):
        return jnp.where(self.bug == BUGS.index(name), wrong, right)

    def propose(self, rng_key, state):
        dim, *columns = state.position.shape
        normal = jax.random.normal(rng_key, (*columns[::-1], dim + 1), state.position.dtype).T
        momentum, forward = normal[:-1], normal[-1] > 0
        forward = self._if("always forward", True, forward)
        forward = self._if("one coin for all chains", forward[:1], forward)
        forward = self._if("direction from the state", forward | (state.position[0] > 1), forward)
        start = Phase(state.position, momentum, state.logdensity, state.logdensity_grad)
        end, log_det = self.dynamics(self.logdensity, start, forward, self.context)
        end = end._replace(
            logdensity=self._if("stale log density", state.logdensity, end.logdensity),
            logdensity_grad=self._if(
                "gradient not updated", state.logdensity_grad, end.logdensity_grad
            ),
        )
        after = self._if(
            "fresh momentum in the ratio", jnp.roll(momentum, 1, axis=-1), end.momentum
        )
        kinetic = jnp.sum(after**2, axis=0) / 2 - jnp.sum(momentum**2, axis=0) / 2
        kinetic = self._if("no kinetic energy", 0.0, kinetic)
        log_ratio = end.logdensity - state.logdensity - kinetic + log_det
        log_ratio = self._if("inverted ratio", -log_ratio, log_ratio)
        finite = jnp.isfinite(log_ratio) & jnp.all(jnp.isfinite(end.position), axis=0)
        rejected = self._if("NaN accepted", 0.0, -jnp.inf)
        return Proposal(start, end, forward, log_det, jnp.where(finite, log_ratio, rejected))

    def decide(self, rng_key, state, proposal):
        sure = self._if("always accept", jnp.inf, proposal.log_ratio)
        chosen, info = super().decide(rng_key, state, proposal._replace(log_ratio=sure))
        return chosen, info._replace(
            acceptance_rate=proposal.acceptance, log_ratio=proposal.log_ratio
        )

    def move(self, rng_key, state):
        propose_key, decide_key = jax.random.split(rng_key)
        proposal = self.propose(propose_key, state)
        new, info = self.decide(decide_key, state, proposal)
        # The bug: the number whose sign is the direction decides on acceptance as well.
        dim, *columns = state.position.shape
        number = jax.random.normal(propose_key, (*columns[::-1], dim + 1), state.position.dtype).T[
            -1
        ]
        accepted = jnp.log(jax.scipy.stats.norm.cdf(number)) < proposal.log_ratio
        end = State(proposal.end.position, proposal.end.logdensity, proposal.end.logdensity_grad)
        wrong = State(
            *(jnp.where(accepted, there, here) for there, here in zip(end, state, strict=True))
        )
        name = "direction and acceptance share a number"
        return State(*(self._if(name, w, right) for w, right in zip(wrong, new, strict=True))), info


def mutate(transition, bug):
    """The transition with one bug; ``bug=""`` is a faithful copy."""
    d, index = transition.dynamics, jnp.asarray(BUGS.index(bug))
    dynamics = MutantLeapfrog(
        d.momentum_network, d.position_network, d.log_step_size, d.masks, index
    )
    return MutantTransition(transition.logdensity, dynamics, transition.context, index)
