"""How often `capriole.fit` visits tails that fall like a power, over how often it should.

    python benchmarks/heavy_tails.py [--seeds 6] [--out results/fit/heavy-tails.json]

Student's t with 2, 2.5, 3, 5 and 10 degrees of freedom, alone and five of them at once, 16 chains
of 2,000 draws, no training, no comparison. For every seed: the share of all numbers beyond the
central 99, 99.9 and 99.99 %, over 0.01, 0.001 and 0.0001. A share of independent draws would have
the relative standard error that ``error`` has.
"""

import argparse
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import capriole
from capriole.models import versions

SHARES = (1e-2, 1e-3, 1e-4)
DEGREES = (2.0, 2.5, 3.0, 5.0, 10.0)
DIMS = (1, 5)
CHAINS, DRAWS = 16, 2000


def visits(degrees, dim, seed):
    """Kernel, verdict and ratios of one fit."""
    found = capriole.fit(
        lambda x: -(degrees + 1) / 2 * jnp.sum(jnp.log1p(x**2 / degrees)),
        np.zeros(dim),
        seed=seed,
        num_chains=CHAINS,
        num_draws=DRAWS,
        train_steps=0,
        compare=False,
    )
    far = np.abs(found.tree.posterior["x"].values).ravel()
    ratios = [float(np.mean(far > stats.t.isf(share / 2, degrees)) / share) for share in SHARES]
    verdict = found.verdict
    worst = verdict.row(verdict.chosen).worst
    return {
        "seed": seed,
        "chosen": verdict.chosen,
        "failed": verdict.failed,
        "worst": worst,
        "ratios": ratios,
    }


def main():
    """Measure, print and store."""
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cases = []
    for degrees in DEGREES:
        for dim in DIMS:
            error = [((1 - share) / share / (CHAINS * DRAWS * dim)) ** 0.5 for share in SHARES]
            fits = [visits(degrees, dim, seed) for seed in range(options.seeds)]
            cases.append(
                {"degrees": degrees, "dim": dim, "shares": SHARES, "error": error, "fits": fits}
            )
            for each in fits:
                print(degrees, dim, json.dumps(each), flush=True)
    text = json.dumps({"cases": cases, "versions": versions(), "cores": os.cpu_count()}, indent=1)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
