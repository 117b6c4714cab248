"""One (target, sampler, seed) of the peers bench: run, measure, hold against the truth."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capriole import diagnostics
from capriole.diagnostics import RHAT_LIMIT
from capriole.models import versions
from capriole.runs import RunFolder
from capriole.runtime import OnProgress

from ..cells import CELL, describe
from ..run._tuning import centre_of
from ..targets import make_target
from ._runs import BenchRun, run_one_mode, run_sampler
from ._settings import PeersSettings, peers_settings
from ._truth import modes, moments, truth

FIGURES = (
    "num_draws", "steps_per_chain", "acceptance_rate", "rhat_max", "bulk_ess", "bulk_ess_sq",
    "bulk_ess_per_gradient", "bulk_ess_sq_per_gradient", "ess_per_gradient", "ess_per_second",
    "num_gradients", "seconds", "compile_seconds",
)  # fmt: skip
"""What a cell without draws does not have."""


def run_cell(
    name: str, sampler: str, seed: int, preset: str, path: Path, progress: OnProgress = None
) -> dict[str, Any]:
    """Everything of one cell, stored in ``path``. A float64 target needs JAX's x64 mode."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    settings = peers_settings(name, preset)
    target: Any = make_target(name, dtype=settings.dtype)
    run, fitted = run_sampler(sampler, target, seed, settings, progress)
    record = {
        **_title(name, sampler, seed, preset, target.dim),
        **measure(run, target, settings),
        "truth": truth(name, target, run.position, settings.coordinates),
        "moments": moments(run.position[..., : settings.coordinates]),
        "modes": None,
        "one_mode": None,
    }
    if hasattr(target, "mode"):
        record["modes"] = modes(target, run.position)
        record["one_mode"] = modes(
            target, run_one_mode(sampler, target, seed, settings, run, fitted)
        )
    record["problems"] = problems(record)
    record["cell_seconds"] = time.perf_counter() - begin
    record["cell_cpu_seconds"] = time.process_time() - begin_cpu
    RunFolder(path).write_json(CELL, record)
    return record


def give_up(
    name: str,
    sampler: str,
    seed: int,
    preset: str,
    path: Path,
    minutes: float,
    *,
    at_seed: int | None = None,
) -> dict[str, Any]:
    """Store the cell of a sampler that was not done after so many ``minutes``: no draws, no
    figures, and why.

    ``at_seed`` is the earlier seed at which that was seen; at ``seed`` it is not tried then.
    """
    tried = at_seed is None
    why = (
        f"not within {minutes:g} minutes"
        if tried
        else f"not tried: not within {minutes:g} minutes at seed {at_seed}"
    )
    settings = peers_settings(name, preset)
    with jax.enable_x64(settings.dtype == "float64"):
        dim = make_target(name, dtype=settings.dtype).dim
    record = {
        **_title(name, sampler, seed, preset, dim),
        "num_chains": settings.chains(sampler),
        **dict.fromkeys(FIGURES),
        "preparation": {"num_gradients": None, "seconds": None},
        "settings": {},
        "truth": {"kind": "no draws", "max_abs_z": None, "passed": False},
        "moments": None,
        "modes": None,
        "one_mode": None,
        "problems": [why],
        "cell_seconds": 60 * minutes if tried else 0.0,
        "cell_cpu_seconds": None,
    }
    RunFolder(path).write_json(CELL, record)
    return record


def _title(name: str, sampler: str, seed: int, preset: str, dim: int) -> dict[str, Any]:
    """What a cell is, and on what it ran."""
    return {
        "target": name,
        "sampler": sampler,
        "seed": seed,
        "preset": preset,
        "dim": dim,
        "dtype": peers_settings(name, preset).dtype,
        "device": describe(None),
        "versions": versions(),
    }


def measure(run: BenchRun, target: Any, settings: PeersSettings) -> dict[str, Any]:
    """Efficiency in the worst judged coordinate, R-hat and cost of a run."""
    position = run.position[..., : settings.coordinates]
    centre = centre_of(target, run.position)[: settings.coordinates]
    bulk = float(np.min(diagnostics.bulk_ess(position)))
    bulk_sq = float(np.min(diagnostics.bulk_ess_sq(position, centre)))
    worst = min(bulk, bulk_sq)
    return {
        "num_chains": len(run.position),
        "num_draws": run.position.shape[1],
        "steps_per_chain": run.steps,
        "acceptance_rate": run.acceptance_rate,
        "rhat_max": float(np.max(diagnostics.rhat(position))),
        "bulk_ess": bulk,
        "bulk_ess_sq": bulk_sq,
        "bulk_ess_per_gradient": bulk / run.num_gradients,
        "bulk_ess_sq_per_gradient": bulk_sq / run.num_gradients,
        "ess_per_gradient": worst / run.num_gradients,
        "ess_per_second": worst / max(run.seconds, 1e-9),
        "num_gradients": run.num_gradients,
        "seconds": run.seconds,
        "preparation": {"num_gradients": run.prepared_gradients, "seconds": run.prepared_seconds},
        "compile_seconds": run.compile_seconds,
        "settings": run.settings,
    }


def problems(record: dict[str, Any]) -> list[str]:
    """Why a cell's draws must not be trusted; empty if they may."""
    found = []
    if record["settings"].get("failed"):
        found.append("capriole.fit says failed")
    if not record["rhat_max"] < RHAT_LIMIT:
        found.append(
            f"R-hat {record['rhat_max']:.3f} after {record['steps_per_chain']} steps per chain"
        )
    if record["truth"]["passed"] is False:
        away = record["truth"]["max_abs_z"]
        distance = record["truth"].get("max_ks_over_limit", 0.0)
        words = f", distance {distance:.2g} times its limit" if distance > 1 else ""
        found.append(f"misses the {record['truth']['kind']}: |z| {away:.3g}{words}")
    for start, words in (
        ("modes", "mode weights"),
        ("one_mode", "mode weights, all chains started in one mode"),
    ):
        if record[start] is not None and not record[start]["passed"]:
            weights = ", ".join(f"{weight:.3f}" for weight in record[start]["weights"])
            found.append(f"{words}: {weights}, R-hat {record[start]['rhat']:.3f}")
    return found
