"""A tiny run to kill, and the killing of it.

Processes are forked from a server that has imported capriole but never used JAX: a kill costs no
imports.
"""

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

NUM_TRAIN, NUM_DRAWS = 1500, 3000
TRIGGERS = {"train": "train.*.safetensors", "sample": "sample-l2hmc.*.safetensors"}
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["capriole.fitting", "capriole.runs", "capriole.training", "zarr", __name__]
)


def tiny_run(folder: Path) -> None:
    """Train and sample, checkpointing after every chunk; in a folder with part of it, go on."""
    import jax

    import capriole
    from capriole.kernels import Transition, learned_leapfrog
    from capriole.runs import CheckpointedTrainer, RunFolder, draw_chains_to_disk
    from capriole.training import LogJump, Recipe, adam
    from densities import Correlated

    if cache := os.environ.get("CAPRIOLE_TEST_CACHE"):
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    place = RunFolder.open(folder) if (folder / "config.json").exists() else RunFolder(folder)
    place.claim({"seed": 0})
    dynamics = learned_leapfrog(jax.random.key(0), dim=2, num_leapfrogs=2, step_size=0.1, width=10)
    position = jax.random.normal(jax.random.key(1), (2, 4))
    trained = CheckpointedTrainer(place.checkpoints, seconds=0, chunk_size=100)(
        "train",
        jax.random.key(2),
        Transition(Correlated.of(), dynamics),
        position,
        Recipe(LogJump(), adam(1e-3)),
        num_steps=NUM_TRAIN,
    )
    kernel = trained.transition
    capriole.save(folder / "kernel.safetensors", kernel)
    draw_chains_to_disk(
        jax.random.key(3),
        kernel,
        kernel.init(position),
        place.draws_path("l2hmc", main=True),
        place.checkpoints,
        stage="sample-l2hmc",
        num_draws=NUM_DRAWS,
        seconds=0,
    )


def start(folder: Path):
    """The tiny run in a process of its own."""
    process = SERVER.Process(target=tiny_run, args=(folder,))
    process.start()
    return process


def finish(folder: Path) -> dict[str, str]:
    """Let the run in ``folder`` end by itself, and return what it made (see `made`)."""
    process = start(folder)
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the run in {folder} failed with status {process.exitcode}")
    return made(folder)


def kill(folder: Path, stage: str, delay: float) -> bool:
    """Start, wait until ``stage`` has written a checkpoint, wait ``delay`` more, kill -9; whether
    it was in time.
    """
    process = start(folder)
    while not any((folder / "checkpoints").glob(TRIGGERS[stage])) and process.is_alive():
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def durations(folder: Path) -> dict[str, float]:
    """Seconds from the first checkpoint of each stage to the end of the stage, in an undisturbed
    run.
    """
    seen: dict[str, float] = {}
    process = start(folder)
    while process.is_alive():
        for stage, pattern in TRIGGERS.items():
            if stage not in seen and any((folder / "checkpoints").glob(pattern)):
                seen[stage] = time.monotonic()
        time.sleep(0.002)
    return {"train": seen["sample"] - seen["train"], "sample": time.monotonic() - seen["sample"]}


def made(folder: Path) -> dict[str, str]:
    """SHA-256 of every array of draws and of the kernel."""
    from safetensors import safe_open

    from capriole.runs import DrawStore

    store = DrawStore.open(folder / "draws.zarr")
    arrays = {name: store.read(name) for name in store.layout.arrays}
    with safe_open(folder / "kernel.safetensors", framework="numpy") as file:
        arrays |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    digests = {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in arrays.items()}
    return digests | {"draws": str(store.committed)}
