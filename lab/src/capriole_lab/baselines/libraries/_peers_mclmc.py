"""BlackJAX's microcanonical Langevin sampler with BlackJAX's own tuner."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capriole.kernels import AbstractLogDensity, Key
from capriole.sampling import CountedDraws, CountedRecord, chain_keys, collect, plain, scan, timed


def mclmc(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> CountedDraws:
    """Unadjusted microcanonical Langevin dynamics: **biased**, by an energy error that its tuner
    keeps small.

    Every chain tunes step size, decoherence length and diagonal metric by itself, in ``num_warmup``
    steps (rounded down to tens): BlackJAX's tuner takes fixed fractions, 1/3 together, of the run
    it is told to prepare. Gradients: two per step (the McLachlan integrator), the gradient at each
    start counts as warm-up. Divergences are steps that were not finite. Raises ValueError in one
    dimension. Source: Robnik, De Luca, Silverstein and Seljak 2023.
    """
    import blackjax
    from blackjax.mcmc import mclmc as algorithm

    if starts.shape[0] < 2:
        raise ValueError(
            f"MCLMC needs at least 2 dimensions, got {starts.shape[0]}; choose another peer"
        )
    kernel = algorithm.build_kernel()
    tens = num_warmup // 10

    def adapt(keys: Key, positions: Array) -> tuple[Any, Any]:
        def one(key: Key, position: Array) -> tuple[Any, Any]:
            start_key, tune_key = jax.random.split(key)
            state = algorithm.init(position, logdensity, start_key)
            return blackjax.mclmc_find_L_and_step_size(
                kernel, 30 * tens, state, tune_key, logdensity
            )[:2]

        return jax.vmap(one)(keys, positions)

    def sample(key: Key, states: Any, found: Any) -> CountedRecord:
        def one(key: Key, state: Any, found: Any) -> tuple[Any, CountedRecord]:
            state, info = kernel(
                key, state, logdensity, found.inverse_mass_matrix, found.L, found.step_size
            )
            return state, CountedRecord(
                state.position, jnp.array(2), jnp.array(jnp.nan), ~info.nonans
            )

        return scan(lambda keys, states: jax.vmap(one)(keys, states, found), key, states, num_draws)

    warmup_key, sample_key = jax.random.split(key)
    first = timed(adapt, chain_keys(warmup_key, starts.shape[1]), starts.T)
    second = timed(sample, sample_key, *first.result)
    found = first.result[1]
    settings = {
        "step_size": plain(found.step_size),
        "decoherence_length": plain(found.L),
        "metric": "diagonal",
    }
    return collect(first, second, starts.shape[1] * (2 * 10 * tens + 1), settings)
