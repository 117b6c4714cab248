"""What surviving costs: checkpoints and streaming as shares of a run's time, and the memory of a
very long one.

    python lab/benchmarks/run_overheads.py [--seconds 60] [--draws 1000000] [--out FILE]

1. training (SCG, M = 10, width 10, 200 chains): seconds inside checkpoint writes over all seconds,
   without compilation;
2. sampling with that kernel, 200 chains, and with an expensive one (M = 25, width 100, 16 chains in
   50 dimensions): ``waiting`` is the share of the time that drawing waits for the writing thread;
   ``extra`` is how much longer the same draws take streamed than drawn and thrown away, medians of
   alternating rounds, which counts what the thread takes of the processor as well;
   ``extra_processor_time`` is the same of processor seconds, which other jobs hardly change;
3. the worst case, a kernel of one leapfrog: the same, and ``--draws`` draws of 8 chains in 50
   dimensions streamed to disk, with the largest memory of the process before and after.

Checkpoints come every 10 seconds, the default. Everything is a ratio within one run, so a busy
machine hurts alike.
"""

import os
import resource
import shutil
import statistics
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

import jax
import jax.numpy as jnp
from _bench import options, store

from capriole.kernels import Transition, hmc, learned_leapfrog
from capriole.runs import CheckpointedTrainer, Checkpoints, draw_chains_to_disk
from capriole.runtime import Stop
from capriole.sampling import draw_chunks
from capriole.training import LogJump, Recipe, adam
from capriole_lab.targets import make_target


class Stopwatch:
    """Seconds spent inside the method it wraps."""

    def __init__(self, owner: type, name: str):
        self.seconds, method = 0.0, getattr(owner, name)

        def timed(*args, **options):
            start = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)

    def share(self, action) -> dict[str, float]:
        """Seconds inside, all seconds without compilation, and their ratio, of ``action()``."""
        self.seconds, start = 0.0, time.perf_counter()
        result = action()
        everything = time.perf_counter() - start - result.compile_seconds
        return {"inside": self.seconds, "seconds": everything, "share": self.seconds / everything}


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def streaming(
    waiting: Stopwatch, kernel, state, folder: Path, *, rounds: int, seconds: float
) -> dict:
    """Alternating rounds of about ``seconds``: draws thrown away, and the same streamed."""
    key = jax.random.key(1)

    def plain(num_draws: int) -> float:
        start = time.perf_counter()
        for _ in draw_chunks(key, kernel, state, num_draws=num_draws):
            pass
        return time.perf_counter() - start

    plain(200)  # compiles
    num_draws = int(200 * max(1, round(seconds / plain(2000) * 10)))
    times, waits, cpu = {"plain": [], "streamed": []}, 0.0, {"plain": 0.0, "streamed": 0.0}
    for i in range(rounds):
        place = folder / f"round-{i}"
        place.mkdir()
        before = time.process_time()
        times["plain"].append(plain(num_draws))
        cpu["plain"] += time.process_time() - before
        before, waiting.seconds, start = time.process_time(), 0.0, time.perf_counter()
        draw_chains_to_disk(
            key,
            kernel,
            state,
            place / "draws.zarr",
            Checkpoints(place / "c", "x"),
            num_draws=num_draws,
        )
        times["streamed"].append(time.perf_counter() - start)
        cpu["streamed"] += time.process_time() - before
        waits += waiting.seconds
        num_bytes = sum(path.stat().st_size for path in place.rglob("*"))
        shutil.rmtree(place)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "draws": num_draws,
        "chains": state.position.shape[1],
        "megabytes_per_second": num_bytes / medians["plain"] / 1e6,
        "waiting": waits / sum(times["streamed"]),
        "extra": medians["streamed"] / medians["plain"] - 1,
        "extra_processor_time": cpu["streamed"] / cpu["plain"] - 1,
        "rounds": times,
    }


def main() -> None:
    out = "results/runs/run_overheads.json"
    args = options(__doc__, out, seconds=60.0, rounds=3, draws=1_000_000)
    writing, waiting = Stopwatch(Checkpoints, "write"), Stopwatch(Future, "result")
    scg, icg, key, result = make_target("scg"), make_target("icg"), jax.random.key(0), {}
    small = Transition(scg, learned_leapfrog(key, dim=2, num_leapfrogs=10, step_size=0.1, width=10))
    large = Transition(
        icg, learned_leapfrog(key, dim=50, num_leapfrogs=25, step_size=0.1, width=100)
    )
    cheap = hmc(icg, step_size=jnp.asarray(0.1), num_leapfrogs=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent) as place:
        folder = Path(place)
        checkpoints = Checkpoints(folder / "checkpoints", "overheads")

        def train():
            with Stop(time_budget=args.seconds) as stop:
                run = CheckpointedTrainer(checkpoints)
                position, recipe = scg.sample(key, 200), Recipe(LogJump(), adam(1e-3))
                progress = stop.after(lambda _: None)
                return run(
                    "train", key, small, position, recipe, num_steps=10**6, progress=progress
                )

        result["training"] = writing.share(train)
        kernels = {"small": (small, scg.sample(key, 200)), "large": (large, icg.sample(key, 16))}
        kernels["cheap"] = (cheap, icg.sample(key, 8))
        for name, (kernel, position) in kernels.items():
            parts = {"rounds": args.rounds, "seconds": args.seconds / args.rounds}
            result[name] = streaming(waiting, kernel, kernel.init(position), folder, **parts)
        before = memory()

        def stream():
            state, path = cheap.init(icg.sample(key, 8)), folder / "long.zarr"
            return draw_chains_to_disk(
                key, cheap, state, path, checkpoints, num_draws=args.draws, stage="long"
            )

        result["long"] = waiting.share(stream) | {"draws": args.draws, "chains": 8, "dim": 50}
        result["long"] |= {"memory_before_mb": before, "memory_mb": memory()}
        result["long"]["bytes"] = sum(
            path.stat().st_size for path in (folder / "long.zarr").rglob("*")
        )
    result |= {"seconds": args.seconds, "rounds": args.rounds, "dtype": "float32"}
    store(result | {"load": os.getloadavg()}, args.out)


if __name__ == "__main__":
    main()
