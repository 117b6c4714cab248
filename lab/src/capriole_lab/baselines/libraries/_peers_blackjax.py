"""BlackJAX's NUTS and ChEES-HMC, each with BlackJAX's own adaptation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import AbstractLogDensity, Key
from capriole.sampling import (
    CountedDraws,
    CountedRecord,
    collect,
    hmc_record,
    leapfrogs_only,
    scan,
    timed,
    total,
)


def chees(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> CountedDraws:
    """ChEES-HMC: one step size, one jittered trajectory length and one diagonal metric, adapted
    over all chains.

    The options are BlackJAX's (target 0.651, Halton jitter, at most 1,000 leapfrogs), the metric
    its opt-in ``"diagonal"``, the optimizer Adam(0.025) of the original implementation. It learns
    from the crowd: give it 64 chains or more. Gradients: leapfrog steps actually run, ``ceil(jitter
    * length / step size)``, the same for all chains; the gradient at each start counts as warm-up.
    Source: Hoffman, Radul and Sountsov 2021.
    """
    import blackjax
    import optax
    from blackjax.mcmc import dynamic_hmc

    chains = starts.shape[1]
    warmup = blackjax.chees_adaptation(
        logdensity, chains, mass_matrix_estimation="diagonal", adaptation_info_fn=leapfrogs_only
    )

    def adapt(key: Key, positions: Array) -> tuple[Any, Array, Array, Array, Array]:
        run = warmup.run(
            key, positions, 0.1, optax.adam(0.025), num_warmup, max_sampling_steps=num_draws
        )
        (states, found), info = run
        (length,) = found["integration_steps_params"]
        return (
            states,
            found["step_size"],
            found["inverse_mass_matrix"],
            length,
            info.num_integration_steps,
        )

    bits = int(np.ceil(np.log2(num_warmup + num_draws)))

    def num_leapfrogs(index: Array, length: Array) -> Array:
        """``length`` jittered by the Halton sequence of the warm-up, whose index goes on."""
        return jnp.ceil(dynamic_hmc.halton_sequence(index, bits) * length).astype(int)

    kernel = dynamic_hmc.build_kernel(
        next_random_arg_fn=lambda index: index + 1, integration_steps_fn=num_leapfrogs
    )

    def sample(
        key: Key, states: Any, step_size: Array, metric: Array, length: Array
    ) -> CountedRecord:
        def step(keys: Key, states: Any) -> tuple[Any, CountedRecord]:
            def one(key: Key, state: Any) -> tuple[Any, Any]:
                return kernel(key, state, logdensity, step_size, metric, (length,))

            return hmc_record(*jax.vmap(one)(keys, states))

        return scan(step, key, states, num_draws)

    warmup_key, sample_key = jax.random.split(key)
    first = timed(adapt, warmup_key, starts.T)
    states, step_size, metric, length, steps = first.result
    second = timed(sample, sample_key, states, step_size, metric, length)
    settings = {
        "step_size": float(step_size),
        "longest_trajectory": float(length * step_size),
        "metric": "diagonal",
    }
    return collect(first, second, total(steps) + starts.shape[1], settings)
