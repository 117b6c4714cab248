"""One unseen target at one seed: fit, judge, measure, store."""

import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capriole import diagnostics
from capriole.fitting import Fit, fit
from capriole.models import versions
from capriole.runtime import write_atomically

from ._judge import judge_draws
from ._table import UNSEEN, make_unseen

CELL = "cell.json"
"""Written last into a cell's folder: its presence says that the cell is complete."""

NUM_CHAINS, NUM_DRAWS = 16, 1000
"""Chains and draws of each, those that `capriole.fit` has by default."""


def run_cell(name: str, seed: int, train_steps: int, path: Path) -> dict[str, Any]:
    """Runs `capriole.fit` on a target, judges its draws, and stores the cell.

    Args:
        name: A key of `UNSEEN`.
        seed: Seed of the fit.
        train_steps: Training iterations of a network; 0 for none.
        path: Folder of the cell.

    Returns:
        What was stored.
    """
    jax.config.update("jax_enable_x64", True)
    target = make_unseen(name)
    record = title(name, seed, train_steps)
    begin = time.perf_counter()
    try:
        result = fit(
            target,
            seed=seed,
            num_chains=NUM_CHAINS,
            num_draws=NUM_DRAWS,
            train_steps=train_steps,
            on_failure="ignore",
        )
    except Exception as error:  # a refusal is a result, too
        record |= {"verdict": "error", "problems": [f"{type(error).__name__}: {error}"[:500]]}
    else:
        seconds = time.perf_counter() - begin
        exact_key = jax.random.fold_in(jax.random.key(seed), 77)
        record |= measure(result, np.asarray(target.mean))
        position = np.asarray(result.tree["posterior"]["x"].values)
        truth = judge_draws(target, position, exact_key)
        record |= {
            "judged": "right" if truth.right else "wrong",
            "silently_wrong": not result.verdict.failed and not truth.right,
            "failures": truth.failures,
            "truth": truth._asdict() | {"groups": [test._asdict() for test in truth.groups]},
            "fit_seconds": seconds,
        }
    record["seconds"] = time.perf_counter() - begin
    record["cpu_seconds"] = time.process_time()
    store(path, record)
    return record


def give_up(
    name: str, seed: int, train_steps: int, path: Path, *, minutes: float, cpu_seconds: float
) -> dict[str, Any]:
    """Stores the cell of a fit that was not done after so many minutes.

    Its processor seconds tell a slow fit from a busy machine.

    Args:
        name: A key of `UNSEEN`.
        seed: Seed of the fit.
        train_steps: Training iterations of a network.
        path: Folder of the cell.
        minutes: The limit.
        cpu_seconds: Processor seconds that its process had.

    Returns:
        What was stored.
    """
    record = title(name, seed, train_steps)
    record |= {
        "verdict": "too late",
        "problems": [f"not within {minutes:g} minutes ({cpu_seconds:.0f} s of the processor)"],
        "seconds": 60 * minutes,
        "cpu_seconds": cpu_seconds,
    }
    store(path, record)
    return record


def title(name: str, seed: int, train_steps: int) -> dict[str, Any]:
    """What a cell is, on what it ran, and no figures yet."""
    entry = UNSEEN[name]
    with jax.enable_x64(True):
        target = entry.make()
    figures = ("judged", "silently_wrong", "chosen", "ess", "ess_per_gradient", "rhat_max", "thin")
    gradients = ("num_gradients", "preparation_gradients")
    return {
        "target": name,
        "kind": entry.kind.value,
        "summary": entry.summary,
        "dim": target.dim,
        "spread": target.spread,
        "seed": seed,
        "configuration": {
            "num_chains": NUM_CHAINS,
            "num_draws": NUM_DRAWS,
            "train_steps": train_steps,
            "dtype": "float64",
        },
        "versions": versions() | {"python": platform.python_version()},
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "verdict": None,
        **dict.fromkeys(figures + gradients),
        "failures": [],
        "problems": [],
    }


def measure(result: Fit, mean: np.ndarray) -> dict[str, Any]:
    """Verdict, choice, efficiency in the worst dimension, and costs of a fit.

    Args:
        result: What `capriole.fit` returned.
        mean: Exact means, NaN where they are not known.

    Returns:
        Figures of a cell.
    """
    tree, verdict = result.tree["posterior"], result.verdict
    position = np.asarray(tree["x"].values)
    centre = np.where(np.isfinite(mean), mean, position.mean(axis=(0, 1)))
    of_squares = diagnostics.bulk_ess_sq(position, centre)
    ess = float(np.min(np.stack([diagnostics.bulk_ess(position), of_squares])))
    num_gradients = int(tree.attrs["num_gradients"])
    spent = verdict.settings
    compared = spent["comparison"]["num_gradients"] if spent["comparison"]["decided"] else 0
    before = (
        spent["preparation"]["num_gradients"] + spent["final_warmup"]["num_gradients"] + compared
    )
    return {
        "verdict": "failed" if verdict.failed else "passed",
        "chosen": verdict.chosen,
        "ess": ess,
        "ess_per_gradient": ess / num_gradients,
        "rhat_max": float(np.max(diagnostics.rhat(position))),
        "thin": int(spent.get("thin", 1)),
        "num_gradients": num_gradients,
        "preparation_gradients": int(before),
        "problems": [str(problem) for problem in verdict.problems],
        "recommendation": verdict.recommendation,
    }


def store(path: Path, record: dict[str, Any]) -> None:
    """Writes ``record`` into the folder ``path``, whole or not at all."""
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / CELL, as_json(record))


def as_json(value: Any) -> bytes:
    """A value as JSON that others read: NaN and infinities become null."""
    import json

    return (json.dumps(_plain(value), indent=1) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | jnp.ndarray):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
