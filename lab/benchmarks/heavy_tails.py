"""How often `capriole.fit` visits tails that fall like a power, over how often it should.

    python lab/benchmarks/heavy_tails.py [--seeds 6] [--out results/fit/heavy-tails.json]

Student's t with 2, 2.5, 3, 5 and 10 degrees of freedom, alone and five of them at once, 16 chains
of 2,000 draws, no training, no comparison. For every seed: the share of all numbers beyond the
central 99, 99.9 and 99.99 %, over 0.01, 0.001 and 0.0001. A share of independent draws would have
the relative standard error that ``error`` has.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from _bench import options, store
from scipy import stats

import capriole

SHARES = (1e-2, 1e-3, 1e-4)
DEGREES = (2.0, 2.5, 3.0, 5.0, 10.0)
DIMS = (1, 5)
CHAINS = 16


def visits(degrees, dim, seed, draws):
    """Kernel, verdict and ratios of one fit."""
    found = capriole.fit(
        lambda x: -(degrees + 1) / 2 * jnp.sum(jnp.log1p(x**2 / degrees)),
        np.zeros(dim),
        seed=seed,
        num_chains=CHAINS,
        num_draws=draws,
        train_steps=0,
        compare=False,
        on_failure="ignore",
    )
    far = np.abs(found.tree.posterior["x"].values).ravel()
    ratios = [float(np.mean(far > stats.t.isf(share / 2, degrees)) / share) for share in SHARES]
    verdict = found.verdict
    worst = verdict.row(verdict.chosen).worst
    about = {"seed": seed, "chosen": verdict.chosen, "failed": verdict.failed}
    return about | {"worst": worst, "ratios": ratios}


def main():
    """Measure, print and store."""
    jax.config.update("jax_enable_x64", True)
    args = options(__doc__, seeds=6, draws=2000, cases=len(DEGREES) * len(DIMS))
    cases = []
    for degrees, dim in list(itertools.product(DEGREES, DIMS))[: args.cases]:
        error = [((1 - share) / share / (CHAINS * args.draws * dim)) ** 0.5 for share in SHARES]
        fits = [visits(degrees, dim, seed, args.draws) for seed in range(args.seeds)]
        case = {"degrees": degrees, "dim": dim, "shares": SHARES, "error": error, "fits": fits}
        cases.append(case)
    store({"cases": cases}, args.out)


if __name__ == "__main__":
    main()
