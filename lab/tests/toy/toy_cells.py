"""Synthetic cells of section 5.1 with known figures, for the tests of goals, tables and page."""

from capriole_lab.toy._settings import TOY_TARGETS


def row(ess=0.1, *, rhat=1.0, weights=None, sd=3.0, paper=0.5, z=1.0):
    """One sampler's row; ``ess`` is its bulk ESS per gradient, of x and of x^2."""
    return {
        "num_leapfrogs": 10,
        "step_size": 0.1,
        "num_chains": 4,
        "num_steps": 100,
        "num_gradients": 4000,
        "acceptance_rate": 0.9,
        "paper_ess_per_step": paper,
        "bulk_ess_per_gradient": ess,
        "bulk_ess_sq_per_gradient": 2 * ess,
        "ess_per_second": 1e4,
        "rhat_max": rhat,
        "max_abs_z_mean": z,
        "max_abs_z_var": z,
        "mode_weights": weights,
        "mode_weights_se": None if weights is None else [0.001, 0.001],
        "mode_weights_exact": None if weights is None else [0.5, 0.5],
        "mode_switches_per_step": 0.1,
        "mode_rhat": 1.0,
        "first_coordinate": {
            "mean": 0.0,
            "sd": sd,
            "bulk_ess_per_gradient": ess,
            "bulk_ess_sq_per_gradient": 2 * ess,
        },
    }


def cell(target, seed=0, *, rhat=1.001, **changes):
    """A cell in which L2HMC is 100 times as good as everything else."""
    samplers = {
        "l2hmc": row(0.2, paper=0.9),
        "l2hmc dispersed": row(0.2),
        "hmc": row(0.002, rhat=1.02),
        "hmc_paper": row(0.002, paper=0.005),
        "hmc_best": row(0.001),
        "nuts": row(0.002),
        "lookahead": row(0.001),
    }
    if target.startswith("mog"):
        for start, stuck in (("mode 0", [1.0, 0.0]), ("mode 1", [0.0, 1.0])):
            samplers[f"l2hmc {start}"] = row(weights=[0.505, 0.495])
            samplers[f"hmc {start}"] = row(weights=stuck)
            if target in ("mog-asym", "mog2"):
                samplers[f"nice {start}"] = row(
                    weights=stuck if target == "mog-asym" else [0.51, 0.49]
                )
    curve = {"gradients": [0.0, 10.0, 20.0], "values": [1.0, 0.5, 0.0]}
    return {
        "target": target,
        "preset": "laptop",
        "seed": seed,
        "versions": {"capriole": "0.1.0"},
        "device": "cpu cpu (2 cores)",
        "dtype": "float32",
        "settings": {"width": 10},
        "samplers": samplers | changes,
        "curves": dict.fromkeys(("l2hmc", "hmc", "lookahead"), curve),
        "paths": {name: [[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]] for name in samplers},
        "tuning": {},
        "mode_rhat": {"l2hmc": rhat, "hmc": None, "nice": None},
        "training": {"seconds": 30.0, "compile_seconds": 10.0, "num_gradients": 1_000_000},
        "seconds": 100.0,
        "cpu_seconds": 90.0,
    }


def all_cells(num_seeds=3):
    """Cells of every target."""
    return {target: [cell(target, seed) for seed in range(num_seeds)] for target in TOY_TARGETS}
