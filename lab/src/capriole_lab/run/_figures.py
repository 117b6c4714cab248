"""The figures of a run folder."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from capriole import diagnostics
from capriole.runs import RunFolder

from ..report import autocorrelation_figure, chains_over_density, trace_figure, training_curve
from ._tuning import centre_of

_MAX_LAG_GRADIENTS = 4000


def write_figures(
    folder: RunFolder,
    target: Any,
    history: dict[str, np.ndarray],
    draws: dict[str, np.ndarray],
    gradients_per_step: dict[str, float],
) -> None:
    """``training.png``, ``autocorrelation.png``, and ``chains.png`` (2-d) or ``trace.png``."""
    folder.write_figure("training", training_curve(history))
    main: dict[str, np.ndarray] = {name: draws[name] for name in ("l2hmc", "hmc") if name in draws}
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, position in main.items():
        rho = diagnostics.autocorrelation(position, centre_of(target, position))
        cost = gradients_per_step[name]
        lags = np.arange(min(len(rho), 1 + int(_MAX_LAG_GRADIENTS / cost)))
        curves[name] = (lags * cost, rho[lags])
    folder.write_figure("autocorrelation", autocorrelation_figure(curves))
    # From one mode, where there are modes: whether a sampler leaves it is what the picture should
    # show.
    shown: dict[str, np.ndarray] = {
        name: draws.get(f"{name}_one_mode", position) for name, position in main.items()
    }
    if target.dim == 2:
        bounds = density_bounds(np.concatenate([p.reshape(-1, 2)[::7] for p in main.values()]))
        paths: dict[str, np.ndarray] = {name: position[0, :200] for name, position in shown.items()}
        density = chains_over_density(
            lambda x: np.asarray(target(jnp.asarray(x, jnp.zeros(()).dtype))), paths, bounds
        )
        folder.write_figure("chains", density)
        return
    worst = int(np.argmin(diagnostics.bulk_ess(main["hmc" if "hmc" in main else "l2hmc"])))
    traces: dict[str, np.ndarray] = {
        name: position[0, :500, worst] for name, position in shown.items()
    }
    folder.write_figure("trace", trace_figure(traces, f"$x_{{{worst}}}$"))


def density_bounds(points: np.ndarray) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of a view of points (num, 2) without the outermost thousandth."""
    low, high = np.quantile(points, [0.0005, 0.9995], axis=0)
    margin = 0.15 * (high - low)
    return (
        float(low[0] - margin[0]),
        float(high[0] + margin[0]),
        float(low[1] - margin[1]),
        float(high[1] + margin[1]),
    )
