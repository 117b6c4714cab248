"""How fast chains that start far away arrive, with and without the burn-in term of the loss."""

from typing import Any

import jax
import numpy as np

from capriole.kernels import AbstractTransition, Key, Vector
from capriole.runs import RunFolder
from capriole.sampling import draw_chains

from ..run._run import Run
from ._state import CellState

_COVERAGE = 0.99
_EXACT_DRAWS = 20_000


def burn_in(cell: CellState, kernel: AbstractTransition, hmc: AbstractTransition) -> dict[str, Any]:
    """Gradients until arrival from the target's own over-dispersed starts, for three kernels on the
    same starts.

    ``l2hmc`` was trained at the target alone, ``l2hmc_burn_in`` also on such starts, ``hmc`` is
    tuned at the paper's M.
    """
    run = Run(
        cell.name,
        cell.target,
        cell.settings,
        RunFolder(cell.path / "burn-in"),
        preset=cell.preset,
        seed=cell.seed,
        burn_in_weight=cell.toy.burn_in_weight,
        progress=cell.run.progress,
    )
    run.train()
    run.folder.tidy(keep=())
    run.folder.close()
    kernels = {"l2hmc": kernel, "l2hmc_burn_in": run.kernel, "hmc": hmc}
    starts, interval = cell.starts("dispersed", cell.toy.baseline_chains), stationary_interval(cell)
    found: dict[str, Any] = {
        "interval": list(interval),
        "weight": cell.toy.burn_in_weight,
        "samplers": {},
    }
    for name, each in kernels.items():
        cost = arrival(cell.next_key(), each, starts, interval, num_steps=cell.toy.burn_in_steps)
        arrived = cost[np.isfinite(cost)]
        found["samplers"][name] = {
            "median_gradients": float(np.median(cost)),
            "quartiles": [float(q) for q in np.quantile(cost, [0.25, 0.75], method="nearest")],
            "share_arrived": len(arrived) / len(cost),
        }
    return found


def stationary_interval(cell: CellState) -> tuple[float, float]:
    """The central 99 % of the log density under exact draws."""
    exact = np.asarray(cell.target(cell.starts("exact", _EXACT_DRAWS)), np.float64)
    low, high = np.quantile(exact, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2])
    return float(low), float(high)


def arrival(
    key: Key,
    kernel: AbstractTransition,
    starts: Vector,
    interval: tuple[float, float],
    *,
    num_steps: int,
) -> np.ndarray:
    """Gradients until a chain's log density lies in the interval; inf if never."""
    state = kernel.init(starts, jax.random.fold_in(key, 0))
    draws = draw_chains(jax.random.fold_in(key, 1), kernel, state, num_draws=num_steps)
    if not draws.completed:
        raise KeyboardInterrupt
    lp = np.concatenate([np.asarray(state.logdensity)[:, None], draws.record.lp], axis=1)
    inside = (lp >= interval[0]) & (lp <= interval[1])
    spent = np.concatenate(
        [np.zeros((len(lp), 1)), np.cumsum(draws.record.n_steps, axis=1)], axis=1
    )
    first = np.argmax(inside, axis=1)
    return np.where(inside.any(axis=1), spent[np.arange(len(lp)), first], np.inf)
