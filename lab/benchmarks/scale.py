"""Draws and training updates per second on one device and on several, in alternating rounds of one
run.

    python lab/benchmarks/scale.py [--devices 2] [--seconds 20] [--rounds 3] [--out FILE]

On a machine without accelerators the devices are made of its cores
(``xla_force_host_platform_device_count``). The kernel is a learned leapfrog (M = 10, width 10) on
the strongly correlated Gaussian with 200 chains, and one of width 100 in 50 dimensions with 64
chains. Only ratios within the run mean anything on a machine that others share.
"""

import os
import statistics
import time

from _bench import options, store


def main() -> None:
    args = options(__doc__, "results/runs/scale.json", devices=2, seconds=20.0, rounds=3)
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={args.devices}")
    import jax

    devices = jax.devices()[: args.devices]
    result = {name: measure(name, devices, args) for name in ("small", "large")}
    facts = {"devices": len(devices), "device": devices[0].device_kind, "dtype": "float32"}
    facts |= {"load": os.getloadavg(), "seconds": args.seconds, "rounds": args.rounds}
    store(result | facts, args.out)


def measure(name: str, devices, args) -> dict:
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
        speed = alternate(action, unit, {"one": None, "all": devices}, args)
        row[what] = {place: statistics.median(values) for place, values in speed.items()} | {
            "rounds": speed
        }
        row[what]["ratio"] = statistics.median(
            b / a for a, b in zip(speed["one"], speed["all"], strict=True)
        )
    return row


def alternate(action, unit: int, places: dict, args) -> dict[str, list[float]]:
    """Units of work per second in each round, one place after the other."""
    for where in places.values():
        action(unit, where)  # compiles
    start = time.perf_counter()
    action(unit, None)
    share = args.seconds / args.rounds / len(places)
    num = unit * max(1, int(share / (time.perf_counter() - start)))
    speed: dict[str, list[float]] = {place: [] for place in places}
    for _ in range(args.rounds):
        for place, where in places.items():
            start = time.perf_counter()
            action(num, where)
            speed[place].append(num / (time.perf_counter() - start))
    return speed


if __name__ == "__main__":
    main()
