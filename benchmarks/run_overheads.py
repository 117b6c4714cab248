"""What surviving costs: checkpoints and streaming as shares of a run's time, and the memory of a very long one.

    python benchmarks/run_overheads.py [--seconds 60] [--draws 1000000] [--out results/runs/run_overheads.json]

1. training (SCG, M = 10, width 10, 200 chains): seconds inside checkpoint writes over all seconds, without compilation;
2. sampling with that kernel, 200 chains: seconds inside writes of draws and checkpoints over all seconds;
3. the worst case, a kernel of one leapfrog: ``--draws`` draws of 8 chains in 50 dimensions streamed to disk, the share
   of writing and the largest memory of the process before and after.

Checkpoints come every 10 seconds, the default. Nothing is measured against another run, so a busy machine hurts alike.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from capriole import LogJump, Recipe, Transition, adam, hmc, learned_leapfrog
from capriole.runs import CheckpointedTrainer, Checkpoints, DrawStore, Stop, stream_chains
from capriole.targets import make_target

ROOT = Path(__file__).parent.parent


class Stopwatch:
    """Seconds spent inside the methods it wraps."""

    def __init__(self):
        self.seconds = 0.0

    def wrap(self, owner: type, name: str) -> None:
        method = getattr(owner, name)

        def timed(*args, **options):
            start = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)

    def share(self, action) -> dict[str, float]:
        """Seconds of writing, all seconds without compilation, and their ratio, of ``action()``."""
        self.seconds, start = 0.0, time.perf_counter()
        result = action()
        everything = time.perf_counter() - start - result.compile_seconds
        return {"writing": self.seconds, "seconds": everything, "share": self.seconds / everything}


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--draws", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "runs" / "run_overheads.json")
    options = parser.parse_args()
    watch = Stopwatch()
    watch.wrap(Checkpoints, "write")
    watch.wrap(DrawStore, "append")
    scg, key, result = make_target("scg"), jax.random.key(0), {}
    kernel = Transition(scg, learned_leapfrog(key, dim=2, num_leapfrogs=10, step_size=0.1, width=10))
    with tempfile.TemporaryDirectory(dir=options.out.parent) as place:
        folder = Path(place)
        checkpoints = Checkpoints(folder / "checkpoints", "overheads")

        def train():
            with Stop(time_budget=options.seconds) as stop:
                run = CheckpointedTrainer(checkpoints)
                position, recipe = scg.sample(key, 200), Recipe(LogJump(), adam(1e-3))
                progress = stop.after(lambda _: None)
                return run("train", key, kernel, position, recipe, num_steps=10**6, progress=progress)

        def sample():
            with Stop(time_budget=options.seconds) as stop:
                state, path = kernel.init(scg.sample(key, 200)), folder / "draws.zarr"
                progress = stop.after(lambda *_: None)
                return stream_chains(key, kernel, state, path, checkpoints, num_draws=10**7, progress=progress)

        result["training"] = watch.share(train)
        result["sampling"] = watch.share(sample)
        icg = make_target("icg")
        cheap = hmc(icg, step_size=jnp.asarray(0.1), num_leapfrogs=1)
        before = memory()

        def stream():
            state, path = cheap.init(icg.sample(key, 8)), folder / "long.zarr"
            return stream_chains(key, cheap, state, path, checkpoints, num_draws=options.draws, stage="long")

        result["long"] = watch.share(stream) | {"draws": options.draws, "chains": 8, "dim": 50}
        result["long"] |= {"memory_before_mb": before, "memory_mb": memory()}
        result["long"]["bytes"] = sum(path.stat().st_size for path in (folder / "long.zarr").rglob("*"))
    result |= {"cores": os.cpu_count(), "jax": jax.__version__, "load": os.getloadavg()}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
