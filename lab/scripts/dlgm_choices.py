"""What lies behind the settings of section 5.2: trials of training settings, and what the choice of
the epoch costs.

    python lab/scripts/dlgm_choices.py trial l2hmc FOLDER --set kernel_leapfrogs=3 --set batch=25
    python lab/scripts/dlgm_choices.py last-epoch RUN/l2hmc-1 RUN/l2hmc-2
    python lab/scripts/dlgm_choices.py pair RUN/l2hmc-3 RUN/hmc-3

The three print the figures of trials.json, last-epoch.json and more-seeds.json, which hold
differences from a reference trial beside them (from the values in `validation.npy`). Models are
judged by AIS on validation images, never on test images, and not on those that chose the epoch;
`pair` compares finished models by their evaluations. A trial has the decoder gradients of the
preset's own run, or ``--budget`` times as many: epochs follow from the cost of a step.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from capriole_lab.dlgm import (
    build,
    gradients_per_image,
    load_dataset,
    load_model,
    log_likelihood,
    settings_for,
    train_stage,
)
from capriole_lab.dlgm._train import CHECKPOINT
from capriole_lab.dlgm.files._data import hold_out
from capriole_lab.dlgm.files._files import load_checkpoint, read_json
from capriole_lab.dlgm.measures._evaluate import fixed_binary
from capriole_lab.dlgm.report._report import alike

CURVE_POINTS = 9
AIS = {"num_temperatures": 200, "num_chains": 6, "num_leapfrogs": 3}


def judged(model, data, settings, images):
    """AIS of ``images`` (a slice) of the validation set, one figure for each."""
    _, validation = hold_out(data, settings.validation_images)
    chosen = fixed_binary(validation, images.stop)[:, images]
    found = log_likelihood(jax.random.key(77), model.decoder, chosen, latent=settings.latent, **AIS)
    return np.asarray(found.log_likelihood)


def trial(scheme, folder, preset, changes, images, budget):
    """Train one model with changed settings on seed 0 and judge the kept one."""
    plain = settings_for(preset)
    changed = settings_for(preset, **changes)
    pixels = len(load_dataset(plain.dataset).train)
    cost = gradients_per_image(scheme, changed, pixels) / gradients_per_image(scheme, plain, pixels)
    own = "elbo_" if scheme == "elbo" else ""
    epochs = round(budget * getattr(plain, f"{own}epochs") / cost)
    length = {f"{own}epochs": epochs, f"{own}curve_every": max(1, round(epochs / CURVE_POINTS))}
    settings = settings_for(preset, **changes, **length)
    data = load_dataset(settings.dataset)
    loaded = train_stage(scheme, settings, data, seed=0, folder=folder)
    values = judged(loaded.model, data, settings, images)
    np.save(folder / "validation.npy", values)  # for paired differences
    score = "validation_log_likelihood"
    curve = [{"epoch": r["epoch"], score: r[score]} for r in loaded.history if score in r]
    done = {
        "scheme": scheme,
        **changes,
        "epochs": epochs,
        "epoch_kept": loaded.epoch,
        "curve": curve,
    }
    return done | {
        "num_gradients": loaded.history[-1]["num_gradients"],
        "log_likelihood": float(values.mean()),
    }


def last_epoch(folder, images):
    """The model of the last epoch less the one that quick AIS kept, paired over images."""
    loaded = load_model(folder)
    data = load_dataset(loaded.settings.dataset)
    state, _ = build(loaded.scheme, loaded.settings, data.train.shape[0], loaded.seed)
    last, _ = load_checkpoint(folder / CHECKPOINT, state)
    kept, end = (
        judged(model, data, loaded.settings, images) for model in (loaded.model, last.model)
    )
    error = float(np.std(end - kept, ddof=1) / np.sqrt(len(kept)))
    difference = {"mean": float(np.mean(end - kept)), "se": error}
    epochs = {"epoch_kept": loaded.epoch, "last_epoch": len(loaded.history)}
    return {"scheme": loaded.scheme, "seed": loaded.seed, **epochs, "difference": difference}


def pair(first, second):
    """Test log p(x) of one evaluated model less another's, paired over images."""
    one, other = (read_json(folder / "evaluation.json") for folder in (first, second))
    if one["seed"] != other["seed"] or not alike(one, other):
        raise SystemExit(
            f"{first} and {second} have other seeds, or were evaluated with other images or "
            "another AIS"
        )
    gained = np.subtract(one["test"]["per_image"], other["test"]["per_image"])
    difference = {
        "mean": float(gained.mean()),
        "se": float(gained.std(ddof=1) / np.sqrt(len(gained))),
    }
    return {
        "of": one["scheme"],
        "less": other["scheme"],
        "seed": one["seed"],
        "difference": difference,
    }


def main():
    """Print one JSON object per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300, help="validation images to judge by")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("trial")
    one.add_argument("scheme", choices=("elbo", "hmc", "l2hmc"))
    one.add_argument("folder", type=Path)
    one.add_argument("--preset", default="laptop")
    one.add_argument(
        "--budget", type=float, default=1.0, help="times the preset's decoder gradients"
    )
    one.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, a number"
    )
    other = commands.add_parser("last-epoch")
    other.add_argument("folders", type=Path, nargs="+")
    two = commands.add_parser("pair")
    two.add_argument("folders", type=Path, nargs=2)
    options = parser.parse_args()
    seen = (
        100 if options.images >= 100 else 0
    )  # images of the presets that chose the epoch; tests have too few
    images = slice(seen, seen + options.images)
    if options.command == "trial":
        changes = {
            name: json.loads(value) for name, value in (each.split("=", 1) for each in options.set)
        }
        print(
            json.dumps(
                trial(
                    options.scheme, options.folder, options.preset, changes, images, options.budget
                )
            )
        )
    elif options.command == "pair":
        print(json.dumps(pair(*options.folders)))
    else:
        for folder in options.folders:
            print(json.dumps(last_epoch(folder, images)))


if __name__ == "__main__":
    main()
