"""Small runs whose digits are stored: fits on seven densities, a training, its draws, and a run
that is resumed.
"""

import hashlib
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import capriole
from capriole.runs import CheckpointedFit, RunFolder

SMALL = {"seed": 1, "num_chains": 4, "num_draws": 200, "num_warmup_chains": 32}


def gaussian(x):
    """Five correlated dimensions, scales from 0.02 to 30."""
    z = x / jnp.array([1.0, 30.0, 0.02, 3.0, 0.5])
    return -jnp.sum(z**2) / 2 - jnp.sum((z[1:] - 0.9 * z[:-1]) ** 2) / 0.38


def funnel(x):
    """Neal's funnel, four children."""
    return -(x[0] ** 2) / 18 - jnp.sum(x[1:] ** 2) * jnp.exp(-x[0]) / 2 - 2 * x[0]


def two_modes(x):
    """Two Gaussians of different widths in the plane."""
    wide = -jnp.sum((x + 3) ** 2) / 2 + math.log(0.3)
    narrow = -jnp.sum((x - 3) ** 2) / (2 * 0.25) - 2 * math.log(0.5) + math.log(0.7)
    return jnp.logaddexp(wide, narrow)


def heavy_tails(x):
    """Independent Student t with five degrees of freedom."""
    return -3 * jnp.sum(jnp.log1p(x**2 / 5))


def banana(x):
    """A bent Gaussian."""
    return -(x[0] ** 2) / 8 - jnp.sum((x[1:] + 0.3 * (x[0] ** 2 - 4)) ** 2) / 2


def eight_schools(p):
    """Rubin's eight schools, centred, as a pytree."""
    y = jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    sigma = jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    tau = jnp.exp(p["log_tau"])
    prior = -(p["mu"] ** 2) / 50 - jnp.log1p((tau / 5) ** 2) + p["log_tau"]
    children = -jnp.sum(((p["theta"] - p["mu"]) / tau) ** 2) / 2 - 8 * p["log_tau"]
    return prior + children - jnp.sum(((y - p["theta"]) / sigma) ** 2) / 2


def logistic(x):
    """A small logistic regression with made-up data."""
    rng = np.random.default_rng(0)
    design = jnp.asarray(rng.normal(size=(60, 4)))
    labels = jnp.asarray(rng.random(60) < 0.5)
    logits = design @ x
    return jnp.sum(jnp.where(labels, logits, 0.0) - jax.nn.softplus(logits)) - jnp.sum(x**2) / 8


SCHOOLS = {"mu": 0.0, "log_tau": 0.0, "theta": np.zeros(8)}


def digest(tree: Any) -> dict[str, Any]:
    """What must not change: a checksum of every array of the draws, and some of them to read."""
    found = {}
    for group in ("posterior", "sample_stats"):
        if group in tree.children:
            for name, array in sorted(tree[group].data_vars.items()):
                values = np.ascontiguousarray(array.values)
                found[f"{group}/{name}"] = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    first = next(iter(tree["posterior"].data_vars.values())).values
    found["mean"], found["last"] = float(first.mean()), float(first.reshape(-1)[-1])
    return found


def fitted(found: Any) -> dict[str, Any]:
    """Draws, what the candidates were measured to do, and what the search took."""
    verdict = found.verdict
    figures = ("num_leapfrogs", "ess_per_gradient", "ess_sq_per_gradient", "acceptance_rate")
    rows = [[getattr(row, name) for name in figures] for row in verdict.rows]
    spent = verdict.settings["preparation"]["num_gradients"]
    problems = len(verdict.problems)
    figures = {"rows": rows, "failed": verdict.failed, "num_problems": problems, "spent": spent}
    return digest(found.tree) | figures


def fit(logdensity: Callable, init: Any, **options: Any) -> dict[str, Any]:
    """One fit."""
    return fitted(capriole.fit(logdensity, init, **SMALL | options))


def train_and_sample() -> dict[str, Any]:
    """A short training, draws of its kernel, and draws of the kernel written and read back."""
    options = {"num_leapfrogs": 3, "num_steps": 60, "num_chains": 32, "num_candidates": 2}
    trained = capriole.train(banana, np.zeros(3), seed=2, **options)
    draws = capriole.sample(trained.transition, np.zeros(3), seed=3, num_draws=100)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.safetensors"
        capriole.save(path, trained.transition)
        again = capriole.load(path, banana, np.zeros(3))
        thinned = capriole.sample(again, np.zeros(3), seed=4, num_draws=50, thin=2)
    loss = np.asarray(trained.history["loss"])
    return {
        "loss": [float(loss[0]), float(loss[-1])],
        "draws": digest(draws),
        "thinned": digest(thinned),
    }


def resumed() -> dict[str, Any]:
    """A fit in a folder, stopped in its draws, gone on with, and extended."""
    options: dict[str, Any] = SMALL | {"train_steps": 0, "compare": False, "num_draws": 300}

    def stop(event: Any) -> None:
        if event.phase.startswith("sample"):
            raise KeyboardInterrupt

    def run(folder: Path, progress: Any = None, more: int = 0) -> Any:
        place = RunFolder(folder, new=False)
        try:
            keeper = CheckpointedFit(place, seconds=0, more=more)
            found = capriole.fit(gaussian, np.zeros(5), progress=progress, resume=keeper, **options)
            return digest(found.tree)
        finally:
            place.close()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        try:
            run(folder, stop)
        except KeyboardInterrupt:
            pass
        else:
            raise RuntimeError("the run was not stopped")
        first = run(folder)
        return {"resumed": first, "extended": run(folder, more=100)}


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "gaussian": lambda: fit(gaussian, np.zeros(5)),
    "funnel": lambda: fit(funnel, np.zeros(5), train_steps=0, compare=False),
    "two-modes": lambda: fit(two_modes, np.zeros(2), train_steps=0, spread=4.0),
    "heavy-tails": lambda: fit(heavy_tails, np.zeros(3), train_steps=0, compare=False),
    "banana": lambda: fit(banana, np.zeros(3), train_steps=40),
    "eight-schools": lambda: fit(eight_schools, SCHOOLS, train_steps=0),
    "logistic": lambda: fit(logistic, np.zeros(4), num_draws=400),
    "train-and-sample": train_and_sample,
    "resumed": resumed,
}


def main(path: str, names: list[str]) -> None:
    """Write what the cases give to ``path``."""
    jax.config.update("jax_enable_x64", True)
    target = Path(path)
    stored = json.loads(target.read_text()) if target.exists() else {}
    for name in names or CASES:
        stored[name] = CASES[name]()
        target.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
        sys.stderr.write(f"{name} done\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
