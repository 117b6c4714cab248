"""Is the reference of in-painting right? Its class shares against those of AIS, which needs no
chain that mixes.

python lab/scripts/dlgm_reference.py RUN/l2hmc-0   # content of results/paper-dlgm/reference.json

On the first images whose kept half is ambiguous. "expected" is the total variation of as many
independent draws from the reference as AIS's weighted ones are worth: from a reference that is
right AIS is no further.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from capriole_lab.dlgm import (
    bottom_half,
    find_reference,
    load_dataset,
    load_model,
    shares_by_ais,
    total_variation,
    train_classifier,
)
from capriole_lab.dlgm._train import key_for
from capriole_lab.dlgm.measures._evaluate import fixed_binary
from capriole_lab.dlgm.measures._inpaint import mean_and_error
from capriole_lab.dlgm.measures._true_classes import AMBIGUOUS

IMAGES, AMBIGUOUS_IMAGES = 60, 20
AIS = {"num_temperatures": 600, "num_chains": 400, "num_leapfrogs": 4}


def check(folder):
    """Total variation between the two, and what independent draws would have."""
    loaded = load_model(folder)
    s, data = loaded.settings, load_dataset(loaded.settings.dataset)
    judge_key, _, _ = jax.random.split(key_for(loaded.seed, "inpaint"), 3)
    judge = train_classifier(judge_key, data, num_epochs=s.classifier_epochs).classifier
    images = fixed_binary(data.test, min(s.inpaint_images, data.test.shape[1]))[
        :, :IMAGES
    ]  # the stage's own
    kept = bottom_half(data.side)
    key, ais_key = key_for(loaded.seed, "reference"), jax.random.key(77)
    sizes = {"num_sweeps": s.inpaint_sweeps, "num_chains": s.inpaint_chains}
    shares = find_reference(key, loaded.model, images, kept, judge, **sizes).shares.every
    chosen = np.flatnonzero(shares.max(axis=1) < AMBIGUOUS)[:AMBIGUOUS_IMAGES]
    by_ais, worth = shares_by_ais(
        ais_key, loaded.model, images[:, chosen], kept, judge, latent=s.latent, **AIS
    )
    expected = [chance(share, int(num)) for share, num in zip(shares[chosen], worth, strict=True)]
    return {
        **{key: loaded.stamp()[key] for key in ("scheme", "seed", "epoch", "versions")},
        **sizes,
        "ais": AIS,
        "images": chosen.tolist(),
        "worth": float(np.mean(worth)),
        "total_variation": mean_and_error(total_variation(by_ais, shares[chosen])),
        "expected": mean_and_error(np.array(expected)),
    }


def chance(share, num, repeats=200):
    """Mean total variation between ``share`` and the frequencies of ``num`` draws from it."""
    drawn = np.random.default_rng(0).multinomial(num, share / share.sum(), size=repeats) / num
    return float(total_variation(drawn, share[None]).mean())


if __name__ == "__main__":
    print(json.dumps(check(Path(sys.argv[1])), indent=1))
