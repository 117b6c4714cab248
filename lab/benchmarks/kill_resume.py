"""Kill -9 at random moments of a tiny run, resume it, and compare every draw and the kernel bit for
bit.

    python benchmarks/kill_resume.py [--kills 30] [--seed 0] [--out results/runs/kill_resume.json]

Every run is killed once while training, resumed, killed once while sampling, and resumed to its
end; ``--kills`` runs got both. Moments are uniform over the length that a stage had in an
undisturbed run, from its first checkpoint on; a process that was done before its kill does not
count.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
os.environ.setdefault("CAPRIOLE_TEST_CACHE", str(ROOT / ".cache" / "jax"))
sys.path.insert(0, str(ROOT / "tests" / "runs"))

import kills  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "runs" / "kill_resume.json")
    options = parser.parse_args()
    rng, begin = np.random.default_rng(options.seed), time.monotonic()
    counts = {
        "killed_training": 0,
        "killed_sampling": 0,
        "too_late": 0,
        "runs_finished": 0,
        "runs_identical": 0,
    }
    with tempfile.TemporaryDirectory() as place:
        kills.finish(Path(place) / "warm")  # fills the compilation cache
        length = kills.durations(Path(place) / "whole")
        whole = kills.made(Path(place) / "whole")
        while min(counts["killed_training"], counts["killed_sampling"]) < options.kills:
            folder = Path(place) / f"run-{counts['runs_finished']}"
            for stage, name in (("train", "killed_training"), ("sample", "killed_sampling")):
                in_time = kills.kill(folder, stage, float(rng.uniform(0, length[stage])))
                counts[name if in_time else "too_late"] += 1
            counts["runs_identical"] += kills.finish(folder) == whole
            counts["runs_finished"] += 1
            print(counts, flush=True)
    facts = {
        "num_train": kills.NUM_TRAIN,
        "num_draws": kills.NUM_DRAWS,
        "seed": options.seed,
        "seconds_of": length,
    }
    facts |= {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": time.monotonic() - begin,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(counts | facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
