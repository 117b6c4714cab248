"""How many exactly Gaussian posteriors `posterior_shape` takes for others, at the sizes of a
preset.

    python benchmarks/gaussian_posteriors.py [--num 6000] [--out results/paper-dlgm/gaussian-share.json]

Independent draws of N(0, I), as many chains, latents and draws per chain as the preset judges of
one image.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from capriole.models import versions
from capriole_lab.dlgm import settings_for
from capriole_lab.dlgm._posterior import posterior_shape


def main():
    """Measure, print and store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--num", type=int, default=6000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    s = settings_for(options.preset)
    thin = max(1, s.shape_steps // 200)  # as `posterior_stage` keeps them, the first half left out
    size = (s.shape_chains, (s.shape_steps // thin + 1) // 2, s.latent)
    rng = np.random.default_rng(0)
    flagged = sum(
        posterior_shape(rng.standard_normal(size)).is_non_gaussian for _ in range(options.num)
    )
    share = flagged / options.num
    error = (share * (1 - share) / options.num) ** 0.5
    found = {
        "preset": options.preset,
        "num": options.num,
        "size": size,
        "share": share,
        "se": error,
        "seed": 0,
    }
    text = json.dumps(found | {"versions": versions()}, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
