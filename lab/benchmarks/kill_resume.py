"""Kill -9 at random moments of a tiny run, resume it, and compare every draw and the kernel bit for
bit.

    python lab/benchmarks/kill_resume.py [--kills 30] [--seed 0] [--out FILE]

Every run is killed once while training, resumed, killed once while sampling, and resumed to its
end; ``--kills`` runs got both. Moments are uniform over the length that a stage had in an
undisturbed run, from its first checkpoint on; a process that was done before its kill does not
count.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from _bench import ROOT, from_tests, options, store

os.environ.setdefault("CAPRIOLE_TEST_CACHE", str(ROOT / ".cache" / "jax"))
kills = from_tests("kills")


def main() -> None:
    args = options(__doc__, "results/runs/kill_resume.json", kills=30, seed=0)
    rng, begin = np.random.default_rng(args.seed), time.monotonic()
    names = ("killed_training", "killed_sampling", "too_late", "runs_finished", "runs_identical")
    counts = dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory() as place:
        kills.finish(Path(place) / "warm")  # fills the compilation cache
        length = kills.durations(Path(place) / "whole")
        whole = kills.made(Path(place) / "whole")
        while min(counts["killed_training"], counts["killed_sampling"]) < args.kills:
            folder = Path(place) / f"run-{counts['runs_finished']}"
            for stage, name in (("train", "killed_training"), ("sample", "killed_sampling")):
                in_time = kills.kill(folder, stage, float(rng.uniform(0, length[stage])))
                counts[name if in_time else "too_late"] += 1
            counts["runs_identical"] += kills.finish(folder) == whole
            counts["runs_finished"] += 1
    facts = {"num_train": kills.NUM_TRAIN, "num_draws": kills.NUM_DRAWS, "seed": args.seed}
    facts |= {"seconds_of": length, "seconds": time.monotonic() - begin}
    store(counts | facts, args.out)


if __name__ == "__main__":
    main()
