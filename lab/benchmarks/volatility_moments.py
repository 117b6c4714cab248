"""Means and variances of the parameters of `volatility`, its innovations and level integrated out:
no chain is asked.

    python lab/benchmarks/volatility_moments.py [--keys 16] [--out results/volatility-moments.json]

phi and sigma are laid on a grid; given both, importance sampling around Laplace's approximation has
the integral over the other 201 dimensions, and their moments
(`capriole.adaptation.profile`). A short run of ChEES says where the grid begins and how
wide its steps are, nothing else. Every key does all of it anew; the scatter over keys is the error.
Ten minutes.
"""

import time

import jax
import numpy as np
from _bench import options, store

from capriole.adaptation import Profile, profile
from capriole_lab.baselines import run_peer
from capriole_lab.targets import make_target

PARAMETERS = 3  # mu, logit((phi + 1) / 2), log sigma: the last coordinates


def moments(found: Profile) -> np.ndarray:
    """Means and variances (2, parameters) by the marginal's mass and the draws given it."""
    points = found.points[:, :, -PARAMETERS:].astype(float)
    mean = found.mass @ points.mean(axis=1)
    # A step's width is no part of the marginal: mass is that at the step's middle.
    variance = found.mass @ ((points - mean) ** 2).mean(axis=1)
    return np.stack([mean, variance])


def main():
    """Integrate, print and store."""
    args = options(__doc__, target="volatility", keys=16, draws=500)
    jax.config.update("jax_enable_x64", True)
    target = make_target(args.target, dtype="float64")
    start = target.start(jax.random.key(0), 64)
    draws = np.asarray(start)  # with ``--draws 0`` the grid begins at the starts
    if args.draws:
        numbers = {"num_draws": args.draws, "num_warmup": args.draws}
        found = run_peer("chees", jax.random.key(1), target, start, **numbers)
        draws = np.asarray(found.position).reshape(-1, target.dim).T
    parents, began, each = (len(draws) - 2, len(draws) - 1), time.perf_counter(), []
    for key in range(args.keys):
        found, _ = profile(jax.random.key(100 + key), target, draws, parents)
        if found is None:
            raise SystemExit(f"key {key}: the others could not be integrated out")
        each.append(moments(found))
        print(f"key {key}: {len(found.mass)} values, {each[-1].round(4).tolist()}", flush=True)
    mean, error = np.mean(each, axis=0), np.std(each, axis=0, ddof=1) / np.sqrt(args.keys)
    result = {
        "target": args.target,
        "parameters": ["mu", "logit((phi + 1) / 2)", "log sigma"],
        "mean": mean[0].tolist(),
        "variance": mean[1].tolist(),
        "mean_error": error[0].tolist(),
        "variance_error": error[1].tolist(),
        "keys": args.keys,
        "seconds": time.perf_counter() - began,
    }
    store(result, args.out)


if __name__ == "__main__":
    main()
