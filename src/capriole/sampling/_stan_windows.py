"""Stan's window adaptation in steps: BlackJAX's own is one program, which hears no stop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..kernels import AbstractLogDensity, Key


class Adapting(NamedTuple):
    """A chain of NUTS while it adapts.

    Attributes:
        state: BlackJAX's state of the chain.
        averaging: state of the step size's dual averaging.
        metric: state of the metric's estimate.
        step_size: step size in force.
        inverse_mass_matrix: metric in force.
        num_gradients: leapfrog steps so far.
    """

    state: Any
    averaging: Any
    metric: Any
    step_size: Array
    inverse_mass_matrix: Array
    num_gradients: Array


class StanWindows:
    """The adaptation of a chain of NUTS in Stan's windows; its digits are BlackJAX's.

    Args:
        logdensity: the log density.
        kernel: BlackJAX's kernel of NUTS, or one with other energies.
        num_steps: steps of the adaptation.
        dense: whether the metric is dense or diagonal.
        target_acceptance: mean acceptance rate that the step size is adapted to.

    References:
        Stan Development Team, Reference Manual, HMC algorithm parameters.
    """

    def __init__(
        self,
        logdensity: AbstractLogDensity,
        kernel: Callable,
        *,
        num_steps: int,
        dense: bool,
        target_acceptance: float,
    ):
        import blackjax
        from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
        from blackjax.adaptation.step_size import dual_averaging_adaptation
        from blackjax.adaptation.window_adaptation import build_schedule

        self.logdensity, self.num_steps = logdensity, num_steps
        self.nuts, self.kernel = blackjax.nuts, kernel
        self.metric: tuple[Callable, ...] = mass_matrix_adaptation(not dense)
        self.averaging: tuple[Callable, ...] = dual_averaging_adaptation(target_acceptance)
        self.schedule = build_schedule(num_steps)

    def keys(self, key: Key) -> Key:
        """The keys of a chain's steps, shape (steps,)."""
        return jax.random.split(key, self.num_steps)

    def init(self, position: Array) -> Adapting:
        """A chain before its first step, at a position of shape (dim,)."""
        state = self.nuts.init(position, self.logdensity)
        metric = self.metric[0](position.size)
        averaging = self.averaging[0](1.0)
        step_size = jnp.ones((), jnp.exp(averaging.log_step_size).dtype)
        count = jnp.zeros((), jnp.int32)
        return Adapting(state, averaging, metric, step_size, metric.inverse_mass_matrix, count)

    def step(self, key: Key, chain: Adapting, t: Array) -> Adapting:
        """A chain after step ``t``: a transition of NUTS, and what is learnt from it."""
        state, info = self.kernel(
            key, chain.state, self.logdensity, chain.step_size, chain.inverse_mass_matrix
        )
        is_slow, ends = self.schedule[t]
        averaging = self.averaging[1](chain.averaging, info.acceptance_rate)
        learnt = jax.lax.cond(
            is_slow == 1,
            lambda: self.metric[1](chain.metric, state.position),
            lambda: chain.metric,
        )
        count = chain.num_gradients + info.num_integration_steps.astype(jnp.int32)
        moved = Adapting(
            state,
            averaging,
            learnt,
            jnp.exp(averaging.log_step_size),
            chain.inverse_mass_matrix,
            count,
        )
        return jax.lax.cond(ends.astype(bool), self._next_window, lambda chain: chain, moved)

    def _next_window(self, chain: Adapting) -> Adapting:
        """The metric of the window that has ended, in force; all else begins anew."""
        metric = self.metric[2](chain.metric)
        averaging = self.averaging[0](self.averaging[2](chain.averaging))
        step_size = jnp.exp(averaging.log_step_size)
        return chain._replace(
            averaging=averaging,
            metric=metric,
            step_size=step_size,
            inverse_mass_matrix=metric.inverse_mass_matrix,
        )

    def final(self, chain: Adapting) -> tuple[Any, Array, Array]:
        """State, step size and metric that the draws have."""
        step_size = jnp.exp(chain.averaging.log_step_size_avg)
        return chain.state, step_size, chain.metric.inverse_mass_matrix
