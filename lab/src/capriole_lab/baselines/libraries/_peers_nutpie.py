"""nutpie's NUTS (in Rust) with its own adaptation, on a log density that JAX compiles."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import AbstractLogDensity, Key, value_and_grad
from capriole.sampling import CountedDraws, total


def nutpie(
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int,
) -> CountedDraws:
    """NUTS with nutpie's default adaptation: a diagonal metric from draws and gradients, target
    acceptance 0.8.

    Every gradient is a call from Rust through Python to a compiled JAX function, and chains run one
    after another from their own starts: ``seconds`` are those of small calls, not of vectorised
    ones. nutpie times no phases, so the time is split in proportion to gradients. Gradients:
    ``n_steps``, one per leapfrog step, and in the warm-up what the log density was called for
    besides: initial point and first step size. Source: nutpie; Seyboldt et al. 2025.
    """
    calls = [0]
    begin = time.perf_counter()
    program = (
        jax.jit(lambda position: value_and_grad(logdensity, position)).lower(starts[:, 0]).compile()
    )
    compiled = time.perf_counter()
    seeds = np.asarray(jax.random.bits(key, (starts.shape[1],), np.uint32))
    positions = np.asarray(starts)
    traces = []
    for start, seed in zip(positions.T, seeds, strict=True):
        traces.append(_run(_model(program, start, calls), int(seed), num_draws, num_warmup))
    elapsed = time.perf_counter() - compiled
    stats = [trace["sample_stats"].dataset for trace in traces]
    kept = total([stat["n_steps"] for stat in stats])
    share = kept / calls[0]
    return CountedDraws(
        position=np.concatenate([trace["posterior"]["x"].values for trace in traces]).astype(
            positions.dtype
        ),
        num_gradients=kept,
        warmup_gradients=calls[0] - kept,
        seconds=elapsed * share,
        warmup_seconds=elapsed * (1 - share),
        compile_seconds=compiled - begin,
        acceptance_rate=float(np.mean([stat["mean_tree_accept"] for stat in stats])),
        divergences=total([stat["diverging"] for stat in stats]),
        settings={
            "step_size": [float(stat["step_size_bar"].values[0, -1]) for stat in stats],
            "metric": "diagonal",
            "target_acceptance": 0.8,
            "gradients_per_draw": kept / (len(traces) * num_draws),
        },
    )


def _model(program: Callable, start: np.ndarray, calls: list[int]) -> Any:
    """The model of one chain; ``calls`` counts the gradients."""
    from nutpie.compiled_pyfunc import from_pyfunc

    def logp(position: np.ndarray) -> tuple[float, np.ndarray]:
        calls[0] += 1
        value, grad = program(position.astype(start.dtype))
        return float(value), np.asarray(grad, np.float64)

    return from_pyfunc(
        ndim=start.size,
        make_logp_fn=lambda: logp,
        make_expand_fn=lambda seed1, seed2, chain: lambda position: {"x": position},
        expanded_dtypes=[np.dtype(np.float64)],
        expanded_shapes=[(start.size,)],
        expanded_names=["x"],
        make_initial_point_fn=lambda seed: np.array(start, np.float64),
    )


def _run(model: Any, seed: int, num_draws: int, num_warmup: int) -> Any:
    import nutpie

    return nutpie.sample(
        model,
        draws=num_draws,
        tune=num_warmup,
        chains=1,
        cores=1,
        seed=seed,
        progress_bar=False,
        save_warmup=True,
    )
