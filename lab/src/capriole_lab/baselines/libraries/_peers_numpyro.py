"""NumPyro's NUTS with NumPyro's own adaptation."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import AbstractLogDensity, Key
from capriole.sampling import CountedDraws, CountedRecord, chain_keys, collect, plain, timed, total


def numpyro_nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> CountedDraws:
    """NUTS with window adaptation of step size (target 0.8) and a diagonal metric, chains
    vectorised by NumPyro, each waiting for the longest tree of a draw.

    The kernel is scanned here instead of by ``numpyro.infer.MCMC``, which would keep no leapfrog
    counts of the warm-up; states and keys are the same as there. Gradients: ``num_steps``, one per
    leapfrog step of the chain's own tree; the gradient at each start counts as warm-up. Source:
    Phan, Pradhan and Jankowiak 2019.
    """
    from numpyro.infer import NUTS

    kernel = NUTS(potential_fn=lambda position: -logdensity(position))

    def scan(state: Any, length: int) -> tuple[Any, CountedRecord]:
        def body(state: Any, _: None) -> tuple[Any, CountedRecord]:
            state = kernel.sample(state, (), {})
            return state, CountedRecord(
                state.z, state.num_steps, state.accept_prob, state.diverging
            )

        return jax.lax.scan(body, state, None, length=length)

    def adapt(keys: Key, positions: Array) -> tuple[Any, Array]:
        state = kernel.init(keys, num_warmup, positions)
        state, record = scan(state, num_warmup)
        return state, record.num_gradients

    first = timed(adapt, chain_keys(key, starts.shape[1]), starts.T)
    state, steps = first.result
    second = timed(lambda state: scan(state, num_draws)[1], state)
    settings = {
        "step_size": plain(state.adapt_state.step_size),
        "metric": "diagonal",
        "target_acceptance": 0.8,
    }
    return collect(first, second, total(np.asarray(steps)) + starts.shape[1], settings)
