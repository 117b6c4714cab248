"""Draws and training updates per second on one device and on several, in alternating rounds of one
run.

    python benchmarks/scale.py [--devices 2] [--seconds 20] [--rounds 3] [--out results/runs/scale.json]

On a machine without accelerators the devices are made of its cores
(``xla_force_host_platform_device_count``). The kernel is a learned leapfrog (M = 10, width 10) on
the strongly correlated Gaussian with 200 chains, and one of width 100 in 50 dimensions with 64
chains. Only ratios within the run mean anything on a machine that others share.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "runs" / "scale.json")
    options = parser.parse_args()
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={options.devices}")
    import jax

    from capriole.models import versions

    devices = jax.devices()[: options.devices]
    result = {name: measure(name, devices, options) for name in ("small", "large")}
    facts = {
        "devices": len(devices),
        "device": devices[0].device_kind,
        "cores": os.cpu_count(),
        "dtype": "float32",
    }
    facts |= {
        "load": os.getloadavg(),
        "versions": versions(),
        "seconds": options.seconds,
        "rounds": options.rounds,
    }
    options.out.write_text(json.dumps(result | facts, indent=2) + "\n")


def measure(name: str, devices, options) -> dict:
    """Draws of all chains per second, and updates per second, on one device and on all."""
    import jax

    from capriole.kernels import Transition, learned_leapfrog
    from capriole.sampling import draw_chunks
    from capriole.training import LogJump, Recipe, adam, train_kernel
    from capriole_lab.targets import make_target

    key = jax.random.key(0)
    target = make_target("scg" if name == "small" else "icg")
    width, chains = (10, 200) if name == "small" else (100, 64)
    kernel = Transition(
        target, learned_leapfrog(key, dim=target.dim, num_leapfrogs=10, step_size=0.1, width=width)
    )
    position, recipe = target.sample(key, chains), Recipe(LogJump(), adam(1e-3))
    state = kernel.init(position)

    def draw(num: int, where) -> None:
        for _ in draw_chunks(key, kernel, state, num_draws=num, chunk_size=50, devices=where):
            pass

    def train(num: int, where) -> None:
        train_kernel(
            key,
            kernel,
            position,
            recipe,
            num_steps=num,
            chunk_size=20,
            min_acceptance=0.0,
            devices=where,
        )

    row = {"chains": chains, "dim": target.dim}
    for what, action, unit in (("draws", draw, 50), ("updates", train, 20)):
        speed = alternate(action, unit, {"one": None, "all": devices}, options)
        row[what] = {place: statistics.median(values) for place, values in speed.items()} | {
            "rounds": speed
        }
        row[what]["ratio"] = statistics.median(
            b / a for a, b in zip(speed["one"], speed["all"], strict=True)
        )
    print(name, json.dumps(row), flush=True)
    return row


def alternate(action, unit: int, places: dict, options) -> dict[str, list[float]]:
    """Units of work per second in each round, one place after the other; as many as fill its share
    of the seconds.
    """
    for where in places.values():
        action(unit, where)  # compiles
    start = time.perf_counter()
    action(unit, None)
    share = options.seconds / options.rounds / len(places)
    num = unit * max(1, int(share / (time.perf_counter() - start)))
    speed: dict[str, list[float]] = {place: [] for place in places}
    for _ in range(options.rounds):
        for place, where in places.items():
            start = time.perf_counter()
            action(num, where)
            speed[place].append(num / (time.perf_counter() - start))
    return speed


if __name__ == "__main__":
    main()
