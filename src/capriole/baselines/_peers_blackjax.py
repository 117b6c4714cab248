"""BlackJAX's NUTS and ChEES-HMC, each with BlackJAX's own adaptation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._logdensity import AbstractLogDensity
from .._types import Key
from ._peers_base import (
    PeerDraws,
    Record,
    chain_keys,
    collect,
    draws_first,
    over_chains,
    plain,
    scan,
    timed,
    total,
    worth_vectorising,
)


class _Cost(NamedTuple):
    """What is kept of a warm-up step: leapfrog steps, per chain."""

    num_integration_steps: Array


def _cost_only(state: Any, info: Any, adaptation_state: Any) -> _Cost:
    return _Cost(info.num_integration_steps)


def _hmc_record(state: Any, info: Any) -> tuple[Any, Record]:
    return state, Record(state.position, info.num_integration_steps, info.acceptance_rate, info.is_divergent)


def nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
    dense: bool = False,
) -> PeerDraws:
    """NUTS with Stan's window adaptation of step size (target 0.8) and metric, every chain on its own.

    Gradients: ``num_integration_steps``, one per leapfrog step of the chain's own tree, the start's gradient reused.
    The gradient at each start counts as warm-up. Chains run side by side under ``vmap``, where each waits for the
    longest tree of a draw, or one after another, as `worth_vectorising` advises: seconds differ, gradients do not.
    Source: Hoffman and Gelman 2014; Phan et al. 2019.
    """
    import blackjax

    warmup = blackjax.window_adaptation(
        blackjax.nuts,
        logdensity,
        is_mass_matrix_diagonal=not dense,
        target_acceptance_rate=0.8,
        adaptation_info_fn=_cost_only,
    )

    kernel = blackjax.nuts.build_kernel()

    def adapt(key: Key, position: Array) -> tuple[Any, Array, Array, Array]:
        (state, found), info = warmup.run(key, position, num_warmup)
        return state, found["step_size"], found["inverse_mass_matrix"], info.num_integration_steps

    def sample(key: Key, state: Any, step_size: Array, metric: Array) -> Record:
        def step(state: Any, t: Array) -> tuple[Any, Record]:
            return _hmc_record(*kernel(jax.random.fold_in(key, t), state, logdensity, step_size, metric))

        return jax.lax.scan(step, state, jnp.arange(num_draws))[1]

    chains, vectorised = starts.shape[1], worth_vectorising(logdensity, starts[:, 0])
    warmup_key, sample_key = jax.random.split(key)
    first = timed(over_chains(adapt, vectorised), chain_keys(warmup_key, chains), starts.T)
    states, step_size, metric, steps = first.result
    second = timed(over_chains(sample, vectorised), chain_keys(sample_key, chains), states, step_size, metric)
    second = second._replace(result=draws_first(second.result))
    settings = {
        "step_size": plain(step_size),
        "metric": "dense" if dense else "diagonal",
        "target_acceptance": 0.8,
        "vectorised": vectorised,
    }
    return collect(first, second, total(steps) + chains, settings)


def nuts_dense(
    key: Key, logdensity: AbstractLogDensity, starts: Float[Array, "dim chains"], *, num_draws: int, num_warmup: int
) -> PeerDraws:
    """`nuts` with a dense metric."""
    return nuts(key, logdensity, starts, num_draws=num_draws, num_warmup=num_warmup, dense=True)


def chees(
    key: Key, logdensity: AbstractLogDensity, starts: Float[Array, "dim chains"], *, num_draws: int, num_warmup: int
) -> PeerDraws:
    """ChEES-HMC: one step size, one jittered trajectory length and one diagonal metric, adapted over all chains.

    The options are BlackJAX's (target 0.651, Halton jitter, at most 1,000 leapfrogs), the metric its opt-in
    ``"diagonal"``, the optimizer Adam(0.025) of the original implementation. It learns from the crowd: give it 64
    chains or more. Gradients: leapfrog steps actually run, ``ceil(jitter * length / step size)``, the same for all
    chains; the gradient at each start counts as warm-up. Source: Hoffman, Radul and Sountsov 2021.
    """
    import blackjax
    import optax
    from blackjax.mcmc import dynamic_hmc

    chains = starts.shape[1]
    warmup = blackjax.chees_adaptation(
        logdensity, chains, mass_matrix_estimation="diagonal", adaptation_info_fn=_cost_only
    )

    def adapt(key: Key, positions: Array) -> tuple[Any, Array, Array, Array, Array]:
        run = warmup.run(key, positions, 0.1, optax.adam(0.025), num_warmup, max_sampling_steps=num_draws)
        (states, found), info = run
        (length,) = found["integration_steps_params"]
        return states, found["step_size"], found["inverse_mass_matrix"], length, info.num_integration_steps

    bits = int(np.ceil(np.log2(num_warmup + num_draws)))

    def num_leapfrogs(index: Array, length: Array) -> Array:
        """``length`` jittered by the same Halton sequence as in the warm-up, whose index goes on."""
        return jnp.ceil(dynamic_hmc.halton_sequence(index, bits) * length).astype(int)

    kernel = dynamic_hmc.build_kernel(next_random_arg_fn=lambda index: index + 1, integration_steps_fn=num_leapfrogs)

    def sample(key: Key, states: Any, step_size: Array, metric: Array, length: Array) -> Record:
        def step(keys: Key, states: Any) -> tuple[Any, Record]:
            def one(key: Key, state: Any) -> tuple[Any, Any]:
                return kernel(key, state, logdensity, step_size, metric, (length,))

            return _hmc_record(*jax.vmap(one)(keys, states))

        return scan(step, key, states, num_draws)

    warmup_key, sample_key = jax.random.split(key)
    first = timed(adapt, warmup_key, starts.T)
    states, step_size, metric, length, steps = first.result
    second = timed(sample, sample_key, states, step_size, metric, length)
    settings = {"step_size": float(step_size), "longest_trajectory": float(length * step_size), "metric": "diagonal"}
    return collect(first, second, total(steps) + starts.shape[1], settings)
