"""BlackJAX's NUTS with Stan's window adaptation, gradients counted."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import AbstractLogDensity, Key
from ..runtime import precision_context
from ._counted import (
    CountedDraws,
    CountedRecord,
    chain_keys,
    check_batch_starts,
    collect,
    draws_first,
    hmc_record,
    leapfrogs_only,
    over_chains,
    plain,
    timed,
    total,
    worth_vectorising,
)

TARGET_ACCEPTANCE = 0.8
"""Mean acceptance rate that the step size is adapted to: Stan's default."""
_DIVERGENT = 1000.0
"""Energy difference of a divergence: no rounding makes a kinetic energy as negative as that."""


def nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
    dense: bool = False,
    target_acceptance: float = TARGET_ACCEPTANCE,
) -> CountedDraws:
    """Draw with NUTS; every chain adapts its own step size and metric in Stan's windows.

    One gradient is counted per leapfrog step of the chain's own tree; the gradient at the tree's
    start is reused. The gradient at each start of a chain counts as warm-up. Chains run side by
    side or one after another, as `worth_vectorising` advises: seconds differ, gradients do not.

    Args:
        key: random key.
        logdensity: the log density.
        starts: positions, shape (dim, chains).
        num_draws: draws per chain to keep.
        num_warmup: steps of adaptation per chain, not kept.
        dense: whether the metric is dense or diagonal.
        target_acceptance: mean acceptance rate that step sizes are adapted to.

    Returns:
        The draws with their costs.

    References:
        Hoffman and Gelman 2014, The No-U-Turn Sampler, algorithm 6.
        Phan, Pradhan and Jankowiak 2019, arXiv:1912.11554: the iterative tree.
    """
    import blackjax

    warmup = blackjax.window_adaptation(
        SimpleNamespace(init=blackjax.nuts.init, build_kernel=_build_kernel),
        logdensity,
        is_mass_matrix_diagonal=not dense,
        target_acceptance_rate=target_acceptance,
        adaptation_info_fn=leapfrogs_only,
    )

    kernel = _build_kernel()

    def adapt(key: Key, position: Array) -> tuple[Any, Array, Array, Array]:
        (state, found), info = warmup.run(key, position, num_warmup)
        return state, found["step_size"], found["inverse_mass_matrix"], info.num_integration_steps

    def sample(key: Key, state: Any, step_size: Array, metric: Array) -> CountedRecord:
        def step(state: Any, t: Array) -> tuple[Any, CountedRecord]:
            return hmc_record(
                *kernel(jax.random.fold_in(key, t), state, logdensity, step_size, metric)
            )

        return jax.lax.scan(step, state, jnp.arange(num_draws))[1]

    chains, vectorised = starts.shape[1], worth_vectorising(logdensity, starts[:, 0])
    warmup_key, sample_key = jax.random.split(key)
    first = timed(over_chains(adapt, vectorised), chain_keys(warmup_key, chains), starts.T)
    states, step_size, metric, steps = first.result
    second = timed(
        over_chains(sample, vectorised), chain_keys(sample_key, chains), states, step_size, metric
    )
    second = second._replace(result=draws_first(second.result))
    settings = {
        "step_size": plain(step_size),
        "metric": "dense" if dense else "diagonal",
        "target_acceptance": target_acceptance,
        "vectorised": vectorised,
    }
    return collect(first, second, total(steps) + chains, settings)


def _build_kernel(*arguments: Any) -> Callable:
    """BlackJAX's NUTS kernel with the kinetic energy of `_without_overflow`."""
    import blackjax

    kernel = blackjax.nuts.build_kernel(*arguments)

    def safe(
        key: Key, state: Any, logdensity: AbstractLogDensity, step_size: Array, metric: Array
    ) -> tuple[Any, Any]:
        return kernel(key, state, logdensity, step_size, _without_overflow(metric))

    return safe


def _without_overflow(inverse_mass_matrix: Array) -> Any:
    """BlackJAX's metric, with kinetic energies that overflow upwards only.

    Far out, where a step that was too large leads, the products of ``p' M^-1 p`` overflow one by
    one. With a dense metric the first of them may be minus infinity. NUTS then goes for certain to
    a place without mass, and its step size is adapted there. In float32 one of 250 chains did so
    on a regression with an unknown scale.
    """
    from blackjax.mcmc.metrics import default_metric

    metric = default_metric(inverse_mass_matrix)

    def kinetic_energy(momentum: Array, position: Array | None = None) -> Array:
        value = metric.kinetic_energy(momentum, position)
        return jnp.where(value > -_DIVERGENT, value, jnp.inf)

    return metric._replace(kinetic_energy=kinetic_energy)


def nuts_dense(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> CountedDraws:
    """`nuts` with a dense metric.

    Args:
        key: random key.
        logdensity: the log density.
        starts: positions, shape (dim, chains).
        num_draws: draws per chain to keep.
        num_warmup: steps of adaptation per chain, not kept.

    Returns:
        The draws with their costs.
    """
    return nuts(key, logdensity, starts, num_draws=num_draws, num_warmup=num_warmup, dense=True)


def run_nuts(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int = 1000,
    dense: bool = False,
    target_acceptance: float = TARGET_ACCEPTANCE,
) -> CountedDraws:
    """`nuts` from checked starts, in their precision; JAX's global settings stay as they are.

    Args:
        key: random key.
        logdensity: the log density.
        starts: positions, shape (dim, chains), float32 or float64.
        num_draws: draws per chain to keep.
        num_warmup: steps of adaptation per chain, not kept.
        dense: whether the metric is dense or diagonal.
        target_acceptance: mean acceptance rate that step sizes are adapted to.

    Returns:
        The draws with their costs.

    Raises:
        ValueError: a chain cannot start there; see `check_batch_starts`.
    """
    starts = jnp.asarray(starts)
    with jax.numpy_dtype_promotion("standard"):
        check_batch_starts(logdensity, starts)
        with precision_context(starts.dtype):
            return nuts(
                key,
                logdensity,
                starts,
                num_draws=num_draws,
                num_warmup=num_warmup,
                dense=dense,
                target_acceptance=target_acceptance,
            )
