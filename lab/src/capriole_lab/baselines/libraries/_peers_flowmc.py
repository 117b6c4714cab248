"""flowMC: local Langevin steps and global proposals from a flow that is trained on the chains."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import AbstractLogDensity, Key
from capriole.runtime import CompileClock
from capriole.sampling import CountedDraws, plain

LOCAL_STEPS = GLOBAL_STEPS = EPOCHS = 10
"""flowMC's quick start: a loop is 10 Langevin steps, 10 epochs of training (in the warm-up) and 10
flow proposals.
"""


def flowmc(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
    draw_from: Float[Array, "dim chains"] | None = None,
) -> CountedDraws:
    """The bundle of flowMC with MALA and a rational-quadratic spline flow, default settings, loops
    of 20 draws.

    Gradients: two per Langevin step, as many as flowMC computes (it does not keep the one from the
    step before). Flow proposals need none, only a log density:
    ``settings["num_density_evaluations"]`` counts those of the kept draws. ``draw_from`` is where
    chains are put once the flow is trained; by default they go on from where training left them.
    The acceptance rate is the mean over both kinds of draws. Its strategies are run here instead of
    by ``flowMC.Sampler``, which changes JAX's compilation cache. Source: Gabrie, Rotskoff and
    Vanden-Eijnden 2022.
    """
    loop = LOCAL_STEPS + GLOBAL_STEPS
    chains, training = starts.shape[1], -(-num_warmup // loop)
    bundle_key, warmup_key, sample_key = jax.random.split(key, 3)
    with CompileClock() as warmup:
        bundle = _bundle(bundle_key, logdensity, starts, training, -(-num_draws // loop))
        split = bundle.strategy_order.index("reset_steppers")
        position = _run(bundle, warmup_key, bundle.strategy_order[:split], starts.T)
    with CompileClock() as sampling:
        first = position if draw_from is None else draw_from.T
        _run(bundle, sample_key, bundle.strategy_order[split:], first)
    is_local = np.arange(num_draws) % loop < LOCAL_STEPS
    rates = [
        _buffer(bundle, f"{kind}_accs_production")[:, :num_draws] for kind in ("local", "global")
    ]
    num_gradients = 2 * chains * int(is_local.sum())
    return CountedDraws(
        position=_buffer(bundle, "positions_production")[:, :num_draws],
        num_gradients=num_gradients,
        warmup_gradients=2 * chains * training * LOCAL_STEPS,
        seconds=sampling.seconds,
        warmup_seconds=warmup.seconds,
        compile_seconds=warmup.compile_seconds + sampling.compile_seconds,
        acceptance_rate=float(np.mean(np.where(is_local, *rates), dtype=np.float64)),
        divergences=0,
        settings={
            "step_size": plain(bundle.resources["local_sampler"].step_size),
            "local_acceptance": float(np.mean(rates[0][:, is_local], dtype=np.float64)),
            "global_acceptance": float(np.mean(rates[1][:, ~is_local], dtype=np.float64)),
            "num_density_evaluations": chains * int(np.sum(~is_local)),
            "training_loops": training,
            "gradients_per_draw": num_gradients / (chains * num_draws),
        },
    )


def _bundle(
    key: Key, logdensity: AbstractLogDensity, starts: Array, training: int, production: int
) -> Any:
    from flowMC.resource_strategy_bundle.RQSpline_MALA import RQSpline_MALA_Bundle

    return RQSpline_MALA_Bundle(
        key,
        starts.shape[1],
        starts.shape[0],
        lambda position, data: logdensity(position),
        n_local_steps=LOCAL_STEPS,
        n_global_steps=GLOBAL_STEPS,
        n_training_loops=training,
        n_production_loops=production,
        n_epochs=EPOCHS,
    )


def _run(bundle: Any, key: Key, strategies: list[str], position: Array) -> Array:
    """Positions after ``strategies`` in turn, which change the bundle's resources."""
    for name in strategies:
        key, bundle.resources, position = bundle.strategies[name](
            key, bundle.resources, position, {}
        )
    return jax.block_until_ready(position)


def _buffer(bundle: Any, name: str) -> np.ndarray:
    return np.asarray(bundle.resources[name].data)
