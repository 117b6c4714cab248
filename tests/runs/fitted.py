"""A tiny `capriole.fit` in a folder: to stop, to kill, to spoil."""

import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import capriole
from capriole.coordinates import Whitened, Whitening
from capriole.fitting import Found, Spent
from capriole.kernels import Rotation, Transition
from capriole.runs import CheckpointedFit, RunFolder
from capriole.runs._store import DrawStore
from capriole.runtime._container import digest
from kills import SERVER

INIT = {"a": 0.0, "b": np.zeros(2)}
OPTIONS = {
    "seed": 3,
    "num_chains": 4,
    "num_draws": 700,
    "num_pilot_chains": 16,
    "train_steps": 0,
    "compare": False,
}
CONFIG = {"seed": 3, "num_chains": 4, "num_draws": 400}
MOMENTS = {
    "mean": [0.0] * 3,
    "mean_error": "no",
    "variance": [1.0] * 3,
    "variance_error": [1.0] * 3,
}
HOSTILE = [
    ("chosen", "__import__('os')", r"chose .__import__\('os'\)., which is none of its candidates"),
    ("chosen", None, "chose 'None', which is none of its candidates"),
    ("own", "NUTS, or so", "chose 'NUTS, or so', which is none of its candidates"),
    ("rows", [[]] * 10**4, "has no list of rows"),
    ("rows", [{"name": "rotation", "num_leapfrogs": 10**30}], "holds no row of a verdict"),
    (
        "rows",
        [{"name": "rotation", "num_leapfrogs": 1, "fixed_gradients": 0, "measured_gradients": -1}],
        "the row 'rotation' has measured_gradients = '-1', expected a count",
    ),
    ("notes", {"a": 1}, "has notes that are not a list of texts"),
    (
        "spent",
        {"num_gradients": 1e400, "seconds": 0, "compile_seconds": 0},
        "says it took .*'num_gradients': inf",
    ),
    ("compared", 7, "says it took '7'"),
    ("pilot", [], "does not say what its pilot was"),
    (
        "pilot",
        {"marginals": [{"dimension": 10**9, "quantiles": []}]},
        "no marginal of one of 3 dimensions",
    ),
    (
        "pilot",
        {"modes": [{"centre": [0.0] * 3, "scale": [1.0, 1.0, -1.0], "share": 0.5}]},
        "no mode in 3 dimensions",
    ),
    (
        "pilot",
        {"modes": [{"centre": [0.0] * 3, "scale": [1.0] * 10**5, "share": 0.5}]},
        "no mode in 3 dimensions",
    ),
    ("pilot", {"moments": MOMENTS}, "no moments of 3 dimensions"),
    ("decided", "yes", "does not say what its pilot was"),
    ("starts", np.zeros((3, 5)), "has 5 starts, the run 4 chains"),
    ("starts", np.full((3, 4), np.nan), "has starts that are not finite"),
    ("crowd", np.zeros((2, 8)), "has no crowd of 3 coordinates and float64"),
    ("fingerprint/values", np.zeros(3, np.int8), "is not the one this run began with"),
    ("fingerprint/values", np.zeros(0), "has no fingerprint of its log density"),
    ("fingerprint/points", np.zeros((3, 3), np.int8), "has no fingerprint of its log density"),
]


def logdensity(p):
    x = jnp.concatenate([p["a"][None], p["b"]])
    return -jnp.sum((x / jnp.array([1.0, 30.0, 0.02])) ** 2) / 2 - x[0] * x[1] / 60


def tiny_fit(folder: Path, *, logdensity=logdensity, more=0, progress=None, **options):
    """Fit, or go on with what is in the folder; the folder is let go of in any case."""
    place = RunFolder(folder, new=False)
    try:
        keeper = CheckpointedFit(place, seconds=0, more=more)
        return capriole.fit(logdensity, INIT, progress=progress, resume=keeper, **OPTIONS | options)
    finally:
        place.close()


def in_a_process(folder: Path) -> None:
    """The tiny run as the tests of this process do it."""
    jax.config.update("jax_enable_x64", True)
    if cache := os.environ.get("CAPRIOLE_TEST_CACHE"):
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    tiny_fit(folder)


def start(folder: Path):
    """The tiny run in a process of its own."""
    process = SERVER.Process(target=in_a_process, args=(folder,))
    process.start()
    return process


def stop_at(phase, step):
    """A progress callback that stops a run once ``phase`` has come to ``step``."""

    def progress(event, *_):
        if event.phase == phase and event.step >= step:
            raise KeyboardInterrupt

    return progress


def never(phase):
    """A progress callback that fails if ``phase`` is run."""

    def progress(event, *_):
        assert event.phase != phase

    return progress


def drawn(folder: Path) -> dict[str, np.ndarray]:
    """Every array of draws."""
    store = DrawStore.open(folder / "draws.zarr")
    return {name.removeprefix("posterior/"): store.read(name) for name in store.layout.arrays}


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))


def rewrite(folder: Path, field: str, value: object) -> None:
    """Another search with a checksum that is right: what a stranger who knows the format would
    write.
    """
    from safetensors import safe_open
    from safetensors.numpy import save

    path = next((folder / "checkpoints").glob("search.*"))
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if field in arrays:
        arrays[field] = value
    else:
        header["facts"] = json.dumps(json.loads(header["facts"]) | {field: value})
    header["sha256"] = digest(header, arrays)
    path.write_bytes(save(arrays, header))


def by_hand() -> Found:
    """What a search might find."""
    whitening = Whitening(jnp.zeros(2), jnp.array([2.0, 0.5]), jnp.zeros((2, 0)), jnp.zeros(0))
    flat = capriole.PerChain(lambda x: -jnp.sum(x**4) / 2)
    kernel = Transition(Whitened(flat, whitening), Rotation(jnp.asarray(1.0), jnp.asarray(1)))
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4)))
    return Found(
        "rotation", "rotation", kernel, (), starts, starts, (), Spent(0, 0.0, 0.0), None, False, {}
    )


class Watched(CheckpointedFit):
    """Knows which pass is under way."""

    index = 0

    def draws(self, point, *args, **options):
        self.index = point.round
        return super().draws(point, *args, **options)
