"""How many exactly Gaussian posteriors `posterior_shape` takes for others, at the sizes of a
preset.

    python lab/benchmarks/gaussian_posteriors.py [--num 6000] [--out FILE]

Independent draws of N(0, I), as many chains, latents and draws per chain as the preset judges of
one image.
"""

import numpy as np
from _bench import options, store

from capriole_lab.dlgm import posterior_shape, settings_for


def main():
    """Measure, print and store."""
    args = options(__doc__, preset="laptop", num=6000)
    s = settings_for(args.preset)
    thin = max(1, s.shape_steps // 200)  # as `posterior_stage` keeps them, the first half left out
    size = (s.shape_chains, (s.shape_steps // thin + 1) // 2, s.latent)
    rng = np.random.default_rng(0)
    flagged = sum(
        posterior_shape(rng.standard_normal(size)).is_non_gaussian for _ in range(args.num)
    )
    share = flagged / args.num
    error = (share * (1 - share) / args.num) ** 0.5
    found = {"preset": args.preset, "num": args.num, "size": size, "share": share, "se": error}
    store(found | {"seed": 0}, args.out)


if __name__ == "__main__":
    main()
