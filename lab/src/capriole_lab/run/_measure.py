"""From draws to the figures of ``results.json``, the same for every sampler."""

from typing import Any

import numpy as np

from capriole import diagnostics
from capriole.sampling import CountedDraws, Draws, tally_arguments

from ..targets import AbstractExactTarget
from ._tuning import centre_of


def measure(
    draws: Draws,
    target: Any,
    *,
    num_leapfrogs: int,
    step_size: float,
    keep_from: int = 0,
    counted: diagnostics.Tally | None = None,
) -> dict[str, Any]:
    """The row of one sampler: efficiency, convergence, bias against exact moments, modes, cost.

    ``keep_from`` discards that many first draws of each chain (runs that did not start from exact
    draws). ``counted`` is the tally of all steps for the warnings, if ``draws`` are only the last
    of them.
    """
    record = draws.record
    position = record.position[:, keep_from:]
    share = position.shape[1] / record.position.shape[1]
    row: dict[str, Any] = {
        "num_leapfrogs": num_leapfrogs,
        "step_size": step_size,
        "acceptance_rate": float(record.acceptance_rate[:, keep_from:].mean()),
        "divergences": int(record.diverging[:, keep_from:].sum()),
        "compile_seconds": draws.compile_seconds,
    }
    gradients = int(record.n_steps[:, keep_from:].sum())
    row |= figures(position, target, num_gradients=gradients, seconds=draws.seconds * share)
    if counted is None:
        counted = diagnostics.tally(
            *tally_arguments(record, keep_from),
            thin=draws.thin,
            logdensity=record.lp[:, keep_from:],
        )
    return row | {"warnings": _health(counted, row)}


def measure_peer(draws: CountedDraws, target: Any) -> dict[str, Any]:
    """The row of a peer: the same figures, and what its own warm-up cost and found."""
    row = {
        "acceptance_rate": draws.acceptance_rate,
        "divergences": draws.divergences,
        "compile_seconds": draws.compile_seconds,
        "warmup_seconds": draws.warmup_seconds,
        "warmup_gradients": draws.warmup_gradients,
        "settings": draws.settings,
    }
    return row | figures(
        draws.position, target, num_gradients=draws.num_gradients, seconds=draws.seconds
    )


def figures(
    position: np.ndarray, target: Any, *, num_gradients: float, seconds: float
) -> dict[str, Any]:
    """What positions (chains, draws, dim) that cost so much say about a sampler."""
    chains, steps, _ = position.shape
    mean, variance = _moments(target)
    anchor = centre_of(target, position)
    bulk, bulk_sq = diagnostics.bulk_ess(position), diagnostics.bulk_ess_sq(position, anchor)
    worst, worst_sq = float(np.min(bulk)), float(np.min(bulk_sq))
    row: dict[str, Any] = {
        "num_chains": chains,
        "num_steps": steps,
        "paper_ess_per_step": float(diagnostics.paper_ess(position, anchor)),
        "bulk_ess_per_gradient": worst / num_gradients,
        "bulk_ess_sq_per_gradient": worst_sq / num_gradients,
        "ess_per_second": min(worst, worst_sq) / max(seconds, 1e-9),
        "rhat_max": float(np.max(diagnostics.rhat(position))),
        "max_abs_z_mean": None,
        "max_abs_z_var": None,
        "num_gradients": int(num_gradients),
        "sampling_seconds": seconds,
        "mode_weights": None,
        "mode_switches_per_1000_gradients": None,
        "first_coordinate": {
            "mean": float(position[..., 0].mean()),
            "sd": float(position[..., 0].std()),
            "bulk_ess_per_gradient": float(bulk[0]) / num_gradients,
            "bulk_ess_sq_per_gradient": float(bulk_sq[0]) / num_gradients,
        },
    }
    if mean is not None and variance is not None and chains >= 4:
        z_mean, z_var = diagnostics.z_scores(position, mean, variance)
        row["max_abs_z_mean"] = float(np.nanmax(np.abs(z_mean)))
        row["max_abs_z_var"] = float(np.nanmax(np.abs(z_var)))
    if hasattr(target, "mode"):
        row |= _modes(position, target, num_gradients / (chains * steps))
    return row


def _moments(target: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not isinstance(target, AbstractExactTarget):
        return None, None
    return np.asarray(target.mean, np.float64), np.asarray(target.variance, np.float64)


def _modes(position: np.ndarray, target: Any, gradients_per_step: float) -> dict[str, Any]:
    labels = np.asarray(target.mode(position.reshape(-1, position.shape[-1]).T)).reshape(
        position.shape[:2]
    )
    summary = diagnostics.mode_occupation(labels, len(target.mode_weights))
    return {
        "mode_weights": summary.weights,
        "mode_weights_se": summary.errors,
        "mode_weights_exact": np.asarray(target.mode_weights, np.float64),
        "mode_switches_per_step": float(summary.switches_per_step),
        "mode_switches_per_1000_gradients": 1000
        * float(summary.switches_per_step)
        / gradients_per_step,
        "mode_rhat": float(diagnostics.mode_rhat(labels, len(target.mode_weights))),
    }


def _health(counted: diagnostics.Tally, row: dict[str, Any]) -> list[str]:
    problems = diagnostics.health_of_tally(
        counted,
        rhat_max=row["rhat_max"],
        mode_weights=row["mode_weights"],
        mode_rhat=row.get("mode_rhat"),
        mode_switches=row.get("mode_switches_per_step"),
    )
    return [str(problem) for problem in problems]
