"""The experiment: gradients and seconds to so many effective draws, from a cold start."""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capriole import diagnostics
from capriole.fitting import Fit, fit
from capriole.models import versions
from capriole.runtime import precision_context, to_plain, write_atomically

from ..peers._settings import BENCH_TARGETS
from ..targets import make_target

TARGETS = tuple(BENCH_TARGETS)
"""The targets of the bench of peers."""
NUTS = ("nuts", "nuts-dense", "numpyro-nuts", "nutpie")
"""The rivals: NUTS of three libraries, one of them with two metrics."""
USERS_CHAINS = 4
"""Chains that users of NUTS warm up."""
Z_LIMIT = 5.0
"""Standard errors from the reference above which moments are wrong: the largest of up to 400."""


def run_answer(
    names: Iterable[str],
    *,
    num_effective: int,
    seeds: int,
    peers: Path,
    out: Path,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Every target at seeds 0, 1, ...; what is stored already is not run again.

    Args:
        names: Targets; those of the bench of peers if there are none.
        num_effective: Effective draws that are asked for, in the worst dimension.
        seeds: Seeds of each target.
        peers: Stored cells of the bench of peers, for NUTS and for reference moments.
        out: Folder of the stored files.
        report: Told a line after each run.

    Returns:
        The table, see `summarise`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in list(names) or list(TARGETS):
        path = out / f"{num_effective}-{name.replace('/', '--')}.json"
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        runs = stored.get("runs", [])
        for seed in range(seeds):
            if seed in {run["seed"] for run in runs}:
                continue
            runs = [*runs, _run(name, seed, num_effective, peers)]
            record = _title(name, num_effective) | {"nuts": rivals(name, num_effective, peers)}
            text = json.dumps(to_plain(record | {"runs": runs}), indent=1) + "\n"
            write_atomically(path, text.encode())
            report(f"{name}, seed {seed}: {runs[-1]['num_gradients']:,} gradients")
    return summarise(out)


def rivals(name: str, num_effective: int, peers: Path) -> list[dict[str, Any]]:
    """What NUTS takes, by the stored cells that pass, the cheapest first.

    Gradients are those of four chains' warm-up and of the draws::

        gradients = warm-up of all chains * 4 / chains + num_effective / (ESS per gradient)

    Args:
        name: The target.
        num_effective: Effective draws in the worst dimension, of x or of x^2.
        peers: Stored cells of the bench of peers.

    Returns:
        One record for each rival and seed.
    """
    found = []
    for path in sorted(peers.glob(f"{name.replace('/', '.')}-*/cell.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell["target"] != name or cell["sampler"] not in NUTS:
            continue
        if cell["problems"] or not cell["ess_per_gradient"]:
            continue
        warmup = cell["preparation"]["num_gradients"] * USERS_CHAINS / cell["num_chains"]
        total = warmup + num_effective / cell["ess_per_gradient"]
        found.append(
            {
                "sampler": cell["sampler"],
                "seed": cell["seed"],
                "warmup_gradients": round(warmup),
                "num_gradients": round(total),
            }
        )
    return sorted(found, key=lambda record: record["num_gradients"])


def _run(name: str, seed: int, num_effective: int, peers: Path) -> dict[str, Any]:
    jax.clear_caches()
    with precision_context("float64"):
        target, begin = make_target(name, dtype=np.float64), time.perf_counter()
    found = fit(target, num_effective=num_effective, seed=seed, on_failure="ignore", progress=False)
    seconds = time.perf_counter() - begin
    stages = to_plain(found.verdict.stages)
    drawn = int(found.tree["posterior"].attrs["num_gradients"])
    spent = found.verdict.settings
    before = sum(spent[part]["num_gradients"] for part in ("preparation", "final_warmup"))
    worst = _worst_z(found, name, peers)
    return {
        "seed": seed,
        "num_gradients": before + drawn,
        "preparation_gradients": before,
        "seconds": seconds,
        "effective_draws": found.verdict.effective_draws,
        "chosen": found.verdict.chosen,
        "failed": found.verdict.failed,
        "problems": [problem.kind.value for problem in found.verdict.problems],
        "notes": [note.text for note in found.verdict.notes],
        "worst_z": worst,
        "silently_wrong": not found.verdict.failed and worst is not None and worst > Z_LIMIT,
        "stages": stages,
    }


def _worst_z(found: Fit, name: str, peers: Path) -> float | None:
    """The largest distance of a mean from the reference, in standard errors of both."""
    path = peers / f"{name.replace('/', '.')}-capriole-0" / "cell.json"
    if not path.exists():
        return None
    moments = json.loads(path.read_text(encoding="utf-8"))["moments"]
    draws = np.asarray(found.tree["posterior"]["x"].values, np.float64)
    errors = np.hypot(diagnostics.mean_error(draws), moments["mean_error"])
    return float(np.max(np.abs(draws.mean(axis=(0, 1)) - moments["mean"]) / errors))


def _title(name: str, num_effective: int) -> dict[str, Any]:
    return {
        "target": name,
        "num_effective": num_effective,
        "configuration": "fit(target, num_effective=...), all else by default; no compiled program "
        "is kept from one run to the next",
        "versions": versions() | {"python": platform.python_version()},
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }


def summarise(out: Path) -> dict[str, Any]:
    """Ratios to the best NUTS of every stored target, written to ``answer.json``.

    Args:
        out: Folder of the stored files.

    Returns:
        For each file the median gradients, those of the best NUTS (the median of its seeds) and
        their ratio; and the median of all ratios.
    """
    table: dict[str, Any] = {}
    for path in sorted(out.glob("*-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        runs, ours = record["runs"], [run["num_gradients"] for run in record["runs"]]
        by_sampler: dict[str, list[int]] = {}
        for rival in record["nuts"]:
            by_sampler.setdefault(rival["sampler"], []).append(rival["num_gradients"])
        medians = {name: float(np.median(all_)) for name, all_ in by_sampler.items()}
        best = min(medians, key=lambda name: medians[name]) if medians else None
        table[path.stem] = {
            "seeds": len(runs),
            "num_gradients": float(np.median(ours)),
            "range": [min(ours), max(ours)],
            "seconds": float(np.median([run["seconds"] for run in runs])),
            "best_nuts": best,
            "nuts_gradients": None if best is None else medians[best],
            "ratio": None if best is None else float(np.median(ours)) / medians[best],
            "failed": sum(run["failed"] for run in runs),
            "silently_wrong": sum(run["silently_wrong"] for run in runs),
        }
    ratios = [row["ratio"] for row in table.values() if row["ratio"] is not None]
    found = {
        "targets": table,
        "median_ratio": float(np.median(ratios)) if ratios else None,
        "largest_ratio": max(ratios, default=None),
    }
    write_atomically(out / "answer.json", (json.dumps(found, indent=1) + "\n").encode())
    return found
