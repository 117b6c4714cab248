"""Synthetic cells of the peers bench with known figures, for the tests of standings, goals, tables
and page.
"""

from capriole_lab.peers._settings import BENCH_TARGETS, DEFAULT_SAMPLERS


def cell(
    target,
    sampler,
    rate,
    seed=0,
    *,
    problems=(),
    truth=True,
    mean=0.0,
    before=0,
    seconds=1.0,
    ess=10_000.0,
):
    """``rate`` is the ESS per gradient, a thousandth of that per second; ``truth`` may be None."""
    settings = {"chosen": "small network"} if sampler == "capriole" else {"metric": "diagonal"}
    kind = "none" if truth is None else "exact moments"
    return {
        "target": target,
        "sampler": sampler,
        "seed": seed,
        "preset": "laptop",
        "dim": 2,
        "dtype": "float32",
        "device": "cpu cpu (2 cores)",
        "versions": {"capriole": "0.1.0"},
        "num_chains": 16,
        "num_draws": 1000,
        "steps_per_chain": 1000,
        "acceptance_rate": 0.9,
        "rhat_max": 1.001,
        "bulk_ess": ess,
        "bulk_ess_sq": ess,
        "bulk_ess_per_gradient": rate,
        "bulk_ess_sq_per_gradient": rate,
        "ess_per_gradient": rate,
        "ess_per_second": 1000 * rate,
        "num_gradients": 1000,
        "seconds": 0.1,
        "preparation": {"num_gradients": before, "seconds": seconds},
        "compile_seconds": 2.0,
        "settings": settings,
        "truth": {"kind": kind, "max_abs_z": None if truth is None else 1.0, "passed": truth},
        "moments": {
            "mean": [mean, 0.0],
            "mean_error": [0.01] * 2,
            "variance": [1.0] * 2,
            "variance_error": [0.02] * 2,
        },
        "modes": None,
        "one_mode": None,
        "problems": list(problems),
        "cell_seconds": 10.0,
        "cell_cpu_seconds": 10.0,
    }


def all_cells(seeds=1):
    """Every target by every default sampler: capriole four times as good as the best peer, which is
    the first.
    """
    rates = {sampler: 0.8 / 4**i for i, sampler in enumerate(DEFAULT_SAMPLERS)}
    return {
        target: [
            cell(target, sampler, rate, seed)
            for sampler, rate in rates.items()
            for seed in range(seeds)
        ]
        for target in BENCH_TARGETS
    }
