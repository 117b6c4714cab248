"""The report of section 5.2: one HTML file, every figure next to what the paper claims."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import report as html
from ...report import Section
from .._settings import SCHEME_NAMES, Settings
from .._stages import INPAINTING_ROWS, decoder_pictures, save_figure
from .._train import CHECKPOINT
from ..files._data import Dataset, load_dataset
from ..files._files import CheckpointError, read_json, write_bytes, write_json
from ..files._folder import JUDGED_BY, Loaded, load_model, read_config, settings_in
from ..measures._burn_in import BURN_IN_HEADER, burn_in_row
from ..measures._sampling import SAMPLERS, SAMPLING_HEADER, sampling_row
from ..measures._true_classes import (
    COUNTS_HEADER,
    COUNTS_WORDS,
    TRUE_HEADER,
    TRUE_WORDS,
    count_rows,
    true_rows,
)
from ._figures import LABELS, decoder_means, diagram, likelihood_curves
from ._goals import GAUSSIAN_SHARE, RULE, verdicts
from ._words import mean_and_se, number, plus_minus

type Blocks = list[dict[str, Any]]

INPAINTING_FIGURES = {
    "distinct_classes": "distinct classes per image",
    "confident_classes": "of them sure",
    "switches_per_sweep": "class switches per sweep",
    "log_likelihood": "log p(x) of the last pictures",
}


def write_report(folder: Path, data: Dataset | None = None) -> Path:
    """``report.html`` and ``results.json`` from all models trained in subfolders of ``folder``.

    Figures of stages that were not run on these very models are left out, and the page says so; a
    model whose training is not finished is named and in no comparison. Raises `CheckpointError` if
    there is no model, ValueError if two were trained on different data or by different settings.
    """
    places = sorted(path.parent for path in folder.glob(f"*/{CHECKPOINT}"))
    if not places:
        raise CheckpointError(
            f"no trained model in subfolders of {folder}; run `capriole-lab dlgm train` first"
        )
    settings = common_settings(places)
    data = load_dataset(settings.dataset) if data is None else data
    every = [load_model(place, data) for place in places]
    models = [m for m in every if m.is_finished]
    by_scheme = {s: [m for m in models if m.scheme == s] for s in SCHEME_NAMES}
    by_scheme = {scheme: found for scheme, found in by_scheme.items() if found}
    results = {
        "settings": settings.as_dict(),
        "models": [_facts(m) for m in models],
        "unfinished": [m.stamp() | {"epochs": len(m.history)} for m in every if not m.is_finished],
        "differences": differences(by_scheme),
    }
    results = read_json(write_json(folder / "results.json", results))
    sections = {"Goals": _goals(results), "What was trained": _setting(settings, every)}
    if models:
        sections |= {
            "Figure 2: log-likelihood": _likelihood(folder, by_scheme),
            "Sampling posteriors": _sampling(by_scheme),
            "From q to the posterior": _burn_in(by_scheme),
            "Figure 3a: in-painting": _inpainting(by_scheme),
            "Figure 3b: the shape of a posterior": _posterior(by_scheme),
            "Figure 4: the model": [
                html.image(save_figure(folder / "diagram.png", diagram()), "L2HMC-DLGM")
            ],
            "Figure 5: decoder means": _means(folder, by_scheme, data.side),
        }
    lead = "Section 5.2 of Levy, Hoffman and Sohl-Dickstein (ICLR 2018), measured."
    title = "Latent-variable models trained with a learned sampler"
    page = html.page(title, lead, [Section(name, blocks) for name, blocks in sections.items()])
    return write_bytes(folder / "report.html", page.encode("utf-8"))


def common_settings(places: list[Path]) -> Settings:
    """The settings of all models in ``places``: of each one's training those that its scheme uses.

    Raises ValueError, naming both folders, if two models use different values of one.
    """
    used: dict[str, tuple[Any, Path]] = {}
    for place in places:
        for name, value in settings_in(place).training_of(read_config(place)["scheme"]).items():
            other, where = used.setdefault(name, (value, place))
            if other != value:
                raise ValueError(
                    f"{where} and {place} were not trained alike: {name} is {other} and {value}; a "
                    "report compares models of one data set and the same settings, so move one of "
                    "them to another folder"
                )
    return replace(settings_in(places[0]), **{name: value for name, (value, _) in used.items()})


def _facts(model: Loaded) -> dict[str, Any]:
    names = ("evaluation", "burn_in", "sampling", "inpainting", "posterior")
    stages = {name: model.stage(f"{name}.json") for name in names}
    curve = [record for record in model.history if "validation_log_likelihood" in record]
    return model.stamp() | {"epochs": len(model.history), "curve": curve} | stages


def differences(by_scheme: dict[str, list[Loaded]]) -> list[dict[str, Any]]:
    """Test log-likelihoods of one scheme less those of another: same images, seeds and effort, so
    paired.

    Of seeds that were evaluated with other images or another AIS the most that are alike count;
    ``left_out`` are the others.
    """
    out = []
    for one, other in (("l2hmc", "hmc"), ("l2hmc", "elbo"), ("hmc", "elbo")):
        found: dict[str, list[np.ndarray]] = {}
        for a in by_scheme.get(one, []):
            for b in by_scheme.get(other, []):
                first, second = a.stage("evaluation.json"), b.stage("evaluation.json")
                if a.seed == b.seed and first and second and alike(first, second):
                    effort = json.dumps([first["ais"], first["test"]["num_images"]])
                    gained = np.subtract(first["test"]["per_image"], second["test"]["per_image"])
                    found.setdefault(effort, []).append(gained)
        if found:
            pairs = max(found.values(), key=len)
            by_image, by_seed = np.mean(pairs, axis=0), np.mean(pairs, axis=1)
            out.append(
                {
                    "of": one,
                    "less": other,
                    "mean": float(np.mean(by_image)),
                    "se_over_images": _error(by_image),
                    "se_over_seeds": _error(by_seed),
                    "by_seed": by_seed.tolist(),
                    "left_out": sum(map(len, found.values())) - len(pairs),
                }
            )
    return out


def alike(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two evaluations are of as many images with the same AIS."""
    return (
        first["ais"] == second["ais"]
        and first["test"]["num_images"] == second["test"]["num_images"]
    )


def _error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _goals(results: dict[str, Any]) -> Blocks:
    rows = [
        [v.goal, v.bound, v.measured, "met" if v.passed else "not met"] for v in verdicts(results)
    ]
    if not rows:
        return [html.text("Nothing was evaluated yet.")]
    return [html.table(["goal", "bound", "measured", "verdict"], rows), html.text(RULE)]


def _table_of(
    by_scheme: dict[str, list[Loaded]], name: str, header: list[str], words: str, rows_of: Any
) -> Blocks:
    """Words and a table of the rows that ``rows_of`` makes of every model's stage ``name``."""
    every = [m for models in by_scheme.values() for m in models]
    rows = [row for m in every if (stored := m.stage(name)) for row in rows_of(m, stored)]
    return [html.text(words), html.table(header, rows)] if rows else [html.text("Not run.")]


def _sampling(by_scheme: dict[str, list[Loaded]]) -> Blocks:
    words = (
        "Posteriors of test images under L2HMC-DLGM's decoder: bulk ESS of the worst latent over "
        "gradients, mean over images. Both kinds of HMC are tuned in length and step size on the "
        "first of these images, which favours them."
    )

    def rows(_: Loaded, stored: dict[str, Any]) -> list[list[str]]:
        return [
            sampling_row(stored, name, shown) for name, shown in SAMPLERS.items() if name in stored
        ]

    return _table_of(by_scheme, "sampling.json", SAMPLING_HEADER, words, rows)


def _burn_in(by_scheme: dict[str, list[Loaded]]) -> Blocks:
    words = (
        "Nats by which log p(x, z) of latents after so many transitions from q falls short of long "
        "chains', on test images: the decoder learns from latents after K transitions."
    )

    def rows(model: Loaded, stored: dict[str, Any]) -> list[list[str]]:
        return [burn_in_row(LABELS[model.scheme], model.seed, stored)]

    return _table_of(by_scheme, "burn_in.json", BURN_IN_HEADER, words, rows)


def _setting(s: Settings, models: list[Loaded]) -> Blocks:
    words = (
        f"Data: {s.dataset}; {s.validation_images} of its training images are held out and choose "
        "the epoch whose model is kept. Images are binarised anew for every minibatch of "
        f"{s.batch} (VAE: {s.elbo_batch}). Latent dimension {s.latent}, two hidden layers of "
        f"{s.hidden} softplus units. HMC: K = {s.num_transitions} transitions of {s.num_leapfrogs} "
        f"leapfrogs; learned kernel: {s.kernel_transitions} of {s.kernel_leapfrogs}, networks of "
        f"width {s.width}, frame by {s.frame}. HMC's step size is tuned anew for every epoch, by "
        "squared jumps over a grid, and these gradients count, on top of those of its steps. The "
        "presets' steps spend the same decoder gradients in all three schemes, the VAE's through "
        "more epochs, a curvature counting as many gradients as it has multiplications; "
        "Hessian-vector products of L2HMC's training are not counted, and show in the seconds."
    )
    rows = []
    for m in models:
        last = m.history[-1]
        rate = last.get("acceptance_rate")
        shown = [
            f"{last['num_gradients']:.3g}",
            f"{last['seconds']:.0f}",
            "-" if rate is None else f"{rate:.2f}",
        ]
        size = last.get("step_size")
        epochs = f"{m.epoch} of {last['epoch']}"
        if not m.is_finished:
            epochs += f", unfinished: {len(m.history)} of {m.settings.epochs_of(m.scheme)} epochs"
        rows.append(
            [LABELS[m.scheme], m.seed, epochs, *shown, "-" if size is None else f"{size:.3f}"]
        )
    header = [
        "model",
        "seed",
        "epoch kept",
        "decoder gradients",
        "seconds",
        "acceptance",
        "step size",
    ]
    pieces = [html.text(words), html.table(header, rows)]
    if stale := [str(m.folder / name) for m in models for name in JUDGED_BY if m.is_stale(name)]:
        other = "Left out, being of another model or other settings than their folder's: "
        pieces.append(html.text(f"{other}{', '.join(stale)}. Run these stages again."))
    return pieces


def _likelihood(folder: Path, by_scheme: dict[str, list[Loaded]]) -> Blocks:
    curves = likelihood_curves(
        {scheme: [m.history for m in models] for scheme, models in by_scheme.items()}
    )
    pieces = [
        html.claim(
            "both samplers improve on the VAE in log-likelihood, and L2HMC-DLGM improves on "
            "HMC-DLGM, on train and "
            "held-out images (shown as curves; MNIST's 60,000 images, 300 epochs)."
        ),
        html.image(
            save_figure(folder / "figure2.png", curves),
            "Quick AIS on a few images while training; a lower bound",
        ),
    ]
    header = [
        "model",
        "seed",
        "test log p(x)",
        "train log p(x)",
        "AIS error",
        "importance bound",
        "sandwich gap",
    ]
    rows = []
    for scheme, models in by_scheme.items():
        for m in models:
            if e := m.stage("evaluation.json"):
                test, train, gap = e["test"], e["train"], e["sandwich"]
                rows.append(
                    [
                        LABELS[scheme],
                        m.seed,
                        plus_minus(test["log_likelihood"], test["se"]),
                        plus_minus(train["log_likelihood"], train["se"]),
                        number(test["ais_error"]),
                        number(test["importance_bound"]),
                        plus_minus(gap["gap"], gap["gap_se"]),
                    ]
                )
    if not rows:
        return [*pieces, html.text("No model was evaluated yet.")]
    pieces.append(html.table(header, rows))
    pieces.append(
        html.text(
            "± is the standard error over images, which all models share; differences between "
            "models on the same images are far more certain. The gap is that between the upper and "
            "lower bounds on images drawn from the model."
        )
    )
    return pieces


def _inpainting(by_scheme: dict[str, list[Loaded]]) -> Blocks:
    pieces = [
        html.claim(
            "in-painting the top half by block Gibbs, the sampler moves between digits where q "
            "stays near one (pictures)."
        )
    ]
    rows, true, counted = [], [], []
    for scheme, models in by_scheme.items():
        for m in models:
            if stored := m.stage("inpainting.json"):
                true += true_rows(LABELS[scheme], m.seed, stored, INPAINTING_ROWS)
                counted += count_rows(LABELS[scheme], m.seed, stored)
                for method, shown in INPAINTING_ROWS.items():
                    if method in stored:
                        cells = (
                            mean_and_se(found) if (found := stored[method].get(name)) else "-"
                            for name in INPAINTING_FIGURES
                        )
                        rows.append(
                            [
                                LABELS[scheme],
                                m.seed,
                                shown,
                                *cells,
                                f"{stored['classifier_accuracy']:.3f}",
                            ]
                        )
                if m.seed == models[0].seed:
                    pieces.append(html.image(m.folder / "inpainting.png", LABELS[scheme]))
    if not rows:
        return [*pieces, html.text("Not run.")]
    header = ["model", "seed", "z from", *INPAINTING_FIGURES.values(), "classifier accuracy"]
    pieces.append(html.table(header, rows))
    for words, head, body in (
        (TRUE_WORDS, TRUE_HEADER, true),
        (COUNTS_WORDS, COUNTS_HEADER, counted),
    ):
        pieces += [html.text(words), html.table(head, body)] if body else []
    return pieces


def _posterior(by_scheme: dict[str, list[Loaded]]) -> Blocks:
    pieces = [
        html.claim(
            "posteriors are not Gaussian (one image's histogram along the direction of highest "
            "variance)."
        )
    ]
    for models in by_scheme.values():
        for m in models:
            if stored := m.stage("posterior.json"):
                one, many = stored["one_image"], stored["many_images"]
                pieces.append(
                    html.image(m.folder / "posterior.png", f"{LABELS[m.scheme]}, seed {m.seed}")
                )
                pieces.append(
                    html.text(
                        f"This image: skewness {one['skewness']:.2f} ± {one['skewness_se']:.2f}, "
                        f"excess kurtosis {one['kurtosis']:.2f} ± {one['kurtosis_se']:.2f}. Of "
                        f"{many['num_images']} images, {many['non_gaussian_share']:.0%} have a "
                        "skewness or kurtosis more than 4 standard errors from a Gaussian's (of "
                        f"exactly Gaussian ones up to {GAUSSIAN_SHARE:.1%} have, at the laptop "
                        f"preset's sizes); median |skewness| {many['median_abs_skewness']:.2f}."
                    )
                )
    return pieces if len(pieces) > 1 else [*pieces, html.text("Not run.")]


def _means(folder: Path, by_scheme: dict[str, list[Loaded]], side: int) -> Blocks:
    means = {scheme: decoder_pictures(models[0]) for scheme, models in by_scheme.items()}
    path = save_figure(folder / "figure5.png", decoder_means(means, side=side))
    return [
        html.claim("samples of L2HMC-DLGM are sharper than the VAE's (pictures)."),
        html.image(path, "E[x | z] for the same latents"),
    ]
