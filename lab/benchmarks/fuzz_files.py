"""Ten thousand spoiled kernels, checkpoints, configurations and draw stores, and what became of
reading them.

    python lab/benchmarks/fuzz_files.py [--cases 10000] [--seed 0] [--out FILE]

Each case changes one file of a sound run folder in one way (see hostile.py of the tests) and reads
it. Counted: refused with one of capriole's errors, loaded all the same, any other exception; the
longest read, the growth of the process's largest memory, and whether any payload was executed.
"""

import collections
import os
import resource
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from _bench import ROOT, from_tests, options, store

jax.config.update("jax_enable_x64", True)
hostile = from_tests("hostile")


def main() -> None:
    args = options(__doc__, "results/runs/fuzz_files.json", cases=10_000, seed=0)
    counts = {kind: collections.Counter() for kind in hostile.KINDS}
    failures: list[str] = []
    longest, begin = 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        sound, folder = hostile.make(Path(place) / "sound"), Path(place) / "spoiled"
        for kind in hostile.KINDS:
            hostile.read(sound, kind)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for case in range(args.cases):
            kind = hostile.KINDS[case % len(hostile.KINDS)]
            hostile.copy(sound, folder, kind)
            how = hostile.spoil(folder, kind, np.random.default_rng([args.seed, case]))
            start = time.monotonic()
            try:
                outcome = hostile.read(folder, kind)
            except Exception as error:
                outcome = "other error"
                failures.append(f"case {case}, {kind}, {how}: {type(error).__name__} {error}"[:300])
                print(failures[-1], flush=True)
            longest = max(longest, time.monotonic() - start)
            counts[kind][outcome] += 1
        executed = Path("executed").exists()
        os.chdir(ROOT)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    result = {"cases": args.cases, "seed": args.seed, "outcomes": counts, "failures": failures}
    result |= {"executed": executed, "longest_read_seconds": longest, "memory_growth_mb": grown}
    store(result | {"seconds": time.monotonic() - begin}, args.out)


if __name__ == "__main__":
    main()
