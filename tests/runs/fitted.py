"""A tiny `capriole.fit` in a folder: to stop, to kill, to spoil.

What the search would find is stored, so that these tests are of what is kept, not of the search.
"""

import json
import os
import shutil
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import capriole
from capriole.fitting import SearchResult, _api
from capriole.runs import CheckpointedFit, DrawStore, RunFolder
from capriole.runtime import Progress, to_plain
from capriole.runtime._container import digest
from kills import SERVER
from stored import row, stored_found, warmup_facts

INIT = {"a": 0.0, "b": np.zeros(2)}
OPTIONS = {
    "seed": 3,
    "num_chains": 4,
    "num_draws": 700,
    "num_warmup_chains": 16,
    "train_steps": 0,
    "compare": False,
    "on_failure": "ignore",
}
CONFIG = {"seed": 3, "num_chains": 4, "num_draws": 400}
WARMUP = to_plain(warmup_facts())
MOMENTS = {
    "mean": [0.0] * 3,
    "mean_error": "no",
    "variance": [1.0] * 3,
    "variance_error": [1.0] * 3,
}
ROW = to_plain(row())
HOSTILE = [
    ("chosen", "__import__('os')", r"__import__\('os'\).* as chosen, which is none of its cand"),
    ("chosen", None, r"search.chosen is 'None', expected a text"),
    ("best_candidate", "NUTS, or so", "'NUTS, or so' as chosen, which is none of its candidates"),
    ("rows", [[]] * 10**4, r"rows\[0\] is .*, expected the fields of SamplerReport"),
    ("rows", [ROW] * 10**4, "more than 100 samplers, notes or stages"),
    ("rows", [ROW | {"num_leapfrogs": 10**30}], r"num_leapfrogs is 'a number of 100 bits'"),
    ("rows", [ROW | {"kind": "__import__('os')"}], r"rows\[0\].kind is .*, expected one of"),
    ("rows", [ROW | {"measured_gradients": -1}], "has a count, time or share that cannot be"),
    ("chosen", "Crank-Nicolson", "as chosen"),
    ("notes", {"a": 1}, "search.notes is .*, expected a list"),
    ("notes", ["a text"], r"notes\[0\] is 'a text', expected the fields of Note"),
    (
        "spent",
        {"num_gradients": 1e400, "seconds": 0, "compile_seconds": 0},
        "spent.num_gradients is 'inf', expected a whole number",
    ),
    ("spent", {"num_gradients": -1, "seconds": 0, "compile_seconds": 0}, "a cost that cannot be"),
    ("compared", 7, "search.compared is '7', expected the fields of Cost"),
    ("warmup", [], "search.warmup is .*, expected the fields of WarmupFacts"),
    ("warmup", {}, "search.warmup has no windows"),
    (
        "warmup",
        WARMUP | {"marginals": [{"dimension": 10**9, "quantiles": []}]},
        "no marginal of one of 3 dimensions",
    ),
    (
        "warmup",
        WARMUP | {"modes": [{"centre": [0.0] * 3, "scale": [1.0, 1.0, -1.0], "share": 0.5}]},
        "no mode in 3 dimensions",
    ),
    (
        "warmup",
        WARMUP | {"modes": [{"centre": [0.0] * 3, "scale": [1.0] * 10**5, "share": 0.5}]},
        "no mode in 3 dimensions",
    ),
    ("warmup", WARMUP | {"moments": MOMENTS}, "moments.mean_error is 'no', expected a list"),
    (
        "warmup",
        WARMUP | {"moments": MOMENTS | {"mean_error": [1.0] * 2}},
        "no moments of 3 dimensions",
    ),
    ("decided", "yes", "search.decided is 'yes', expected true or false"),
    ("starts", np.zeros((3, 5)), "has 5 starts, the run 4 chains"),
    ("starts", np.full((3, 4), np.nan), "has starts that are not finite"),
    ("dispersed_starts", np.zeros((2, 8)), "has no dispersed_starts of 3 coordinates"),
    ("fingerprint/values", np.zeros(3, np.int8), "is not the one this run began with"),
    ("fingerprint/values", np.zeros(0), "has no fingerprint of its log density"),
    ("fingerprint/points", np.zeros((3, 3), np.int8), "has no fingerprint of its log density"),
]


def logdensity(p):
    x = jnp.concatenate([p["a"][None], p["b"]])
    return -jnp.sum((x / jnp.array([1.0, 30.0, 0.02])) ** 2) / 2


def search(keys, target, position, settings, progress, **options):
    """What stands for the search of `capriole.fit`; it takes 0.3 seconds in a run to be killed."""
    for step in range(3):
        progress(Progress("warmup", step + 1, 3, 0.1, {"rhat": 1.0}))
        time.sleep(float(os.environ.get("CAPRIOLE_TEST_PAUSE", "0")))
    return stored_found(target, num_chains=settings.num_chains)


def tiny_fit(folder: Path, *, logdensity=logdensity, more=0, progress=None, **options):
    """Fit, or go on with what is in the folder; the folder is let go of in any case."""
    place = RunFolder(folder, new=False)
    real, _api.search = _api.search, options.pop("search", search)
    try:
        keeper = CheckpointedFit(place, seconds=0, more=more)
        return capriole.fit(logdensity, INIT, progress=progress, resume=keeper, **OPTIONS | options)
    finally:
        _api.search = real
        place.close()


def in_memory(**options):
    """The same run, of which nothing is kept."""
    real, _api.search = _api.search, search
    try:
        return capriole.fit(logdensity, INIT, progress=lambda event: None, **OPTIONS | options)
    finally:
        _api.search = real


def in_a_process(folder: Path) -> None:
    """The tiny run as the tests of this process do it, slow enough to be killed in its search."""
    jax.config.update("jax_enable_x64", True)
    os.environ["CAPRIOLE_TEST_PAUSE"] = "0.1"
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


def by_hand() -> SearchResult:
    """What a search might find on a density whose chains need a few steps to mix."""
    flat = capriole.PerChain(lambda x: -jnp.sum(x**4) / 2)
    return stored_found(flat, [2.0, 0.5], num_chains=4)


class Watched(CheckpointedFit):
    """Knows which pass is under way."""

    index = 0

    def draws(self, point, *args, **options):
        self.index = point.round
        return super().draws(point, *args, **options)
