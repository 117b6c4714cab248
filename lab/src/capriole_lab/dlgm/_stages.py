"""The stages of a run on one model's folder: train, evaluate, in-paint, posteriors."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._refit import described, refit_kernel
from ._schemes import Model
from ._settings import Settings
from ._train import fresh, key_for, train_dlgm
from .files._data import Dataset, hold_out
from .files._files import read_facts, save_checkpoint, write_bytes
from .files._folder import BEST, Loaded, claim, load_model, once
from .measures._burn_in import shortfall
from .measures._classify import train_classifier
from .measures._evaluate import OnProgress, curve_point, evaluate, fixed_binary, log_likelihood
from .measures._inpaint import (
    DrawWith,
    Inpainted,
    bottom_half,
    inpaint,
    mean_and_error,
    mixing,
    mixing_difference,
)
from .measures._posterior import draw_posterior, posterior_shape, shape_summary
from .measures._sampling import compare_samplers
from .measures._true_classes import counts, find_reference, reference_facts, shares_of
from .report._figures import inpainting_figure, posterior_figure

PATIENCE = 4
INPAINTING_METHODS = {
    "encoder": "q",
    "kept": "HMC given the kept half alone",
    "sampler": "the sampler",
    "patient": f"the sampler, {PATIENCE} times as long",
}
DRAW_WITH: dict[str, DrawWith] = {
    "encoder": "encoder",
    "kept": "kept",
    "sampler": "sampler",
    "patient": "sampler",
}
INPAINTING_DIFFERENCES = {
    "kept_difference": ("kept", "encoder"),
    "difference": ("sampler", "encoder"),
    "patience": ("patient", "sampler"),
}
INPAINTING_ROWS = {
    **INPAINTING_METHODS,
    "kept_difference": "HMC given the kept half less q, paired",
    "difference": "the sampler less q, paired",
    "patience": f"{PATIENCE} times as long less once, paired",
}
"""Entries of ``inpainting.json`` and the words for them."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def train_stage(
    scheme: str,
    settings: Settings,
    data: Dataset,
    *,
    seed: int,
    folder: Path,
    progress: OnProgress | None = None,
) -> Loaded:
    """Train, or go on training, with quick AIS on held-out training images; keeps the best model
    that it saw.

    Test images play no part. What is kept is the model of one of the epochs on figure 2's curve.
    """
    kept, validation = hold_out(data, settings.validation_images)
    fresh(scheme, settings, kept, seed)  # refuses what cannot be trained before anything is written
    claim(folder, scheme, settings, seed)

    def on_epoch(model: Model, epoch: int) -> dict[str, float]:
        if epoch % settings.curve_every_of(scheme) and epoch not in (1, settings.epochs_of(scheme)):
            return {}
        found = curve_point(key_for(seed, "curve"), model, kept.train, validation, settings)
        score = found["validation_log_likelihood"]
        if not np.isfinite(score):
            raise ValueError(
                f"validation images' log p(x) is not finite in epoch {epoch}; use smaller learning "
                "rates"
            )
        if epoch == 1 or score > read_facts(folder / BEST)["validation_log_likelihood"]:
            save_checkpoint(
                folder / BEST, model, {"epoch": epoch, "validation_log_likelihood": score}
            )
        return found

    train_dlgm(
        scheme, settings, kept, seed=seed, folder=folder, on_epoch=on_epoch, progress=progress
    )
    return load_model(folder, data)


def evaluate_stage(
    loaded: Loaded, data: Dataset, *, progress: OnProgress | None = None
) -> dict[str, Any]:
    """``evaluation.json``: AIS on train and test images, the sandwich, the cheap bound."""
    return once(
        loaded,
        "evaluation.json",
        lambda: evaluate(
            key_for(loaded.seed, "evaluate"),
            loaded.model,
            data.train,
            data.test,
            loaded.settings,
            progress=progress,
        ),
    )


def sampling_stage(loaded: Loaded, data: Dataset) -> dict[str, Any]:
    """``sampling.json``: effective draws of test images' latents per gradient, trained kernel
    against tuned HMC.

    The kernel is fitted anew first, for the finished decoder, on training images (`refit_kernel`).
    """
    images = fixed_binary(data.test, min(loaded.settings.sampling_images, data.test.shape[1]))
    key = key_for(loaded.seed, "sampling")

    def compute() -> dict[str, Any]:
        kept, _ = hold_out(data, loaded.settings.validation_images)
        found = refit_kernel(
            key_for(loaded.seed, "refit"), loaded.model, kept.train, loaded.settings
        )
        compared = compare_samplers(key, loaded.model, found.dynamics, images, loaded.settings)
        return compared | {"refit": described(found)}

    return once(loaded, "sampling.json", compute)


def burn_in_stage(loaded: Loaded, data: Dataset) -> dict[str, Any]:
    """``burn_in.json``: by how many nats latents after a few transitions fall short."""
    s = loaded.settings
    images = fixed_binary(data.test, min(s.shape_images, data.test.shape[1]))
    sizes = {"num_chains": s.sampling_chains, "num_steps": s.shape_steps}
    key = key_for(loaded.seed, "burn_in")
    return once(
        loaded,
        "burn_in.json",
        lambda: (
            sizes
            | {
                "num_images": images.shape[1],
                "shortfall": shortfall(
                    key,
                    loaded.model,
                    images,
                    **sizes,
                    curvature_pixels=loaded.settings.curvature_pixels,
                ),
            }
        ),
    )


def inpaint_stage(
    loaded: Loaded, data: Dataset, *, progress: OnProgress | None = None
) -> dict[str, Any]:
    """``inpainting.json`` and ``inpainting.png``: block Gibbs with q and, where there is one, with
    the sampler.

    The sampler twice, the second time with `PATIENCE` times the transitions per sweep, which shows
    whether the first time was enough; and exactly in another way, with the missing pixels
    integrated out, to compare. log p(x) of the last pictures, by AIS, tells which of them the model
    finds likely. ``inpaint_chains`` chains of that other way tell which of the classes seen an
    image has under the model (`COUNTS`).
    """
    return once(loaded, "inpainting.json", lambda: _inpaint(loaded, data, progress))


def _inpaint(loaded: Loaded, data: Dataset, progress: OnProgress | None) -> dict[str, Any]:
    s = loaded.settings
    judge_key, run_key, score_key = jax.random.split(key_for(loaded.seed, "inpaint"), 3)
    judge = train_classifier(judge_key, data, num_epochs=s.classifier_epochs)
    images = fixed_binary(data.test, min(s.inpaint_images, data.test.shape[1]))
    kept = bottom_half(data.side)
    # A key of its own: the run ``kept`` below is judged by this one as the others are.
    reference = find_reference(
        key_for(loaded.seed, "reference"),
        loaded.model,
        images,
        kept,
        judge.classifier,
        num_sweeps=s.inpaint_sweeps,
        num_chains=s.inpaint_chains,
        progress=progress,
    )
    figures: dict[str, Any] = {
        "num_images": images.shape[1],
        "classifier_accuracy": judge.accuracy,
        "reference": {"num_chains": s.inpaint_chains} | reference_facts(reference),
    }
    pictures, results, shares, scores = {}, dict[str, Inpainted](), {}, {}
    for method, shown in INPAINTING_METHODS.items():
        if loaded.scheme == "elbo" and method in ("sampler", "patient"):
            continue
        # One key: all start from the same coins and the same z, so that differences are paired over
        # images.
        results[method] = found = inpaint(
            run_key,
            loaded.model,
            images,
            kept,
            judge.classifier,
            num_sweeps=s.inpaint_sweeps,
            num_transitions=s.inpaint_transitions * (PATIENCE if method == "patient" else 1),
            draw_with=DRAW_WITH[method],
            progress=progress,
        )
        ais = log_likelihood(
            score_key,
            loaded.model.decoder,
            found.last,
            latent=s.latent,
            num_temperatures=s.ais_temperatures,
            num_chains=s.curve_chains,
            num_leapfrogs=s.ais_leapfrogs,
        )
        scores[method] = ais.log_likelihood
        shares[method] = shares_of(found, judge.classifier)
        figures[method] = mixing(found) | {
            "log_likelihood": mean_and_error(scores[method]),
            "counts": counts(shares[method], reference),
        }
        pictures[f"z from {shown}"] = found.pictures
    for name, (one, other) in INPAINTING_DIFFERENCES.items():
        if one in results:
            figures[name] = mixing_difference(results[one], results[other])
            figures[name] |= {
                "log_likelihood": mean_and_error(scores[one] - scores[other]),
                "counts": counts(shares[one], reference, less=shares[other]),
            }
    save_figure(loaded.folder / "inpainting.png", inpainting_figure(pictures, side=data.side))
    return figures


def posterior_stage(loaded: Loaded, data: Dataset, *, image: int = 0) -> dict[str, Any]:
    """``posterior.json`` and ``posterior.png``: one image with many chains, and the statistic over
    the first images.

    Raises ValueError for an ``image`` that is not among the test images.
    """
    if not 0 <= image < (num := data.test.shape[1]):
        raise ValueError(
            f"image {image} is not among the {num} test images; choose one from 0 to {num - 1}"
        )
    return once(loaded, "posterior.json", lambda: _posterior(loaded, data, image), image=image)


def _posterior(loaded: Loaded, data: Dataset, image: int) -> dict[str, Any]:
    s = loaded.settings
    one_key, many_key = jax.random.split(key_for(loaded.seed, "posterior"))
    num = min(s.shape_images, data.test.shape[1])
    one = draw_posterior(
        one_key,
        loaded.model,
        fixed_binary(data.test, max(num, image + 1))[:, image : image + 1],
        num_chains=s.posterior_chains,
        num_steps=s.posterior_steps,
        thin=max(1, s.posterior_steps // 1000),
    )
    shape = posterior_shape(one.draws[0])
    many = draw_posterior(
        many_key,
        loaded.model,
        fixed_binary(data.test, num),
        num_chains=s.shape_chains,
        num_steps=s.shape_steps,
        thin=max(1, s.shape_steps // 200),
    )
    figures = {name: getattr(shape, name) for name in shape._fields if name != "projected"}
    # Last, so that an interrupted stage leaves no picture beside the numbers of another image.
    save_figure(loaded.folder / "posterior.png", posterior_figure(shape.projected))
    return {
        "one_image": figures | {"acceptance_rate": one.acceptance_rate},
        "many_images": shape_summary([posterior_shape(draws) for draws in many.draws]),
    }


def save_figure(path: Path, figure: "Figure") -> Path:
    """A PNG that appears whole or not at all."""
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return write_bytes(path, buffer.getvalue())


def decoder_pictures(loaded: Loaded, num: int = 60) -> np.ndarray:
    """E[x | z] for ``num`` latents z ~ N(0, I), the same for all models: (pixels, num)."""
    latents = jax.random.normal(jax.random.key(5), (num, loaded.settings.latent)).T
    return np.asarray(jax.nn.sigmoid(loaded.model.decoder(latents.astype(np.float32))))
