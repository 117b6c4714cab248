"""Figures 2 to 5 of the paper from what was measured; each function returns a figure."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette; L2HMC and HMC as in the other reports of capriole.
COLOURS = {"l2hmc": "#0072B2", "hmc": "#D55E00", "elbo": "#009E73"}
LABELS = {"l2hmc": "L2HMC-DLGM", "hmc": "HMC-DLGM", "elbo": "VAE"}


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def likelihood_curves(histories: dict[str, list[list[dict[str, Any]]]]) -> "Figure":
    """Figure 2: quick AIS on train (dashed) and validation (solid) images against epochs and
    against decoder gradients.

    ``histories[scheme]`` holds one list of epoch records per seed. Points more than 30 nats below
    the best are cut off.
    """
    figure = _figure(9, 4)
    panels: Any = figure.subplots(1, 2, sharey=True)
    best = -np.inf
    axes_of = {"epoch": "epoch", "num_gradients": "decoder gradients"}
    for axes, (key, label) in zip(panels, axes_of.items(), strict=True):
        for scheme, runs in histories.items():
            for i, history in enumerate(runs):
                for name, style in (
                    ("validation_log_likelihood", "-"),
                    ("train_log_likelihood", "--"),
                ):
                    shown = LABELS[scheme] if i == 0 and style == "-" else None
                    points = [
                        (r[key], r[name]) for r in history if r.get(name) is not None
                    ]  # None: was not finite
                    x, y = np.reshape(points, (-1, 2)).T
                    best = max([best, *y])
                    axes.plot(
                        x,
                        y,
                        style,
                        color=COLOURS[scheme],
                        label=shown,
                        marker=".",
                        linewidth=1.2,
                        alpha=0.85,
                    )
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.grid(visible=True, alpha=0.25)
    if np.isfinite(best):
        panels[0].set_ylim(best - 30, best + 2)
    panels[0].set_ylabel("log p(x), AIS (nats)")
    panels[1].legend(frameon=False, loc="upper left", title="solid: validation, dashed: train")
    return figure


def inpainting_figure(
    rows: dict[str, dict[int, np.ndarray]], *, side: int, num_images: int = 5
) -> "Figure":
    """Figure 3a: pictures after kept sweeps; ``rows[method][sweep]`` is (pixels, images)."""
    sweeps = sorted(next(iter(rows.values())))
    figure = _figure(0.62 * len(sweeps) * len(rows) + 0.4, 0.66 * num_images + 0.7)
    panels: Any = figure.subplots(1, len(rows))
    for axes, (name, pictures) in zip(np.atleast_1d(panels), rows.items(), strict=True):
        grid = np.concatenate(
            [
                np.concatenate([pictures[k][:, i].reshape(side, side) for k in sweeps], axis=1)
                for i in range(min(num_images, next(iter(pictures.values())).shape[1]))
            ]
        )
        _picture(axes, grid)
        axes.set_title(name, fontsize=9)
        axes.set_xticks(
            [side * (i + 0.5) for i in range(len(sweeps))], [str(k) for k in sweeps], fontsize=7
        )
        axes.set_xlabel("sweeps", fontsize=8)
    return figure


def posterior_figure(projected: Float[np.ndarray, "chains draws"]) -> "Figure":
    """Figure 3b: draws along the direction of highest variance, and their Gaussian."""
    values = projected.ravel()
    mean, sd = values.mean(), values.std()
    grid = np.linspace(values.min(), values.max(), 300)
    figure = _figure(5.2, 3.4)
    axes = figure.subplots()
    axes.hist(
        values,
        bins=80,
        density=True,
        color=COLOURS["l2hmc"],
        alpha=0.55,
        label="draws of the sampler",
    )
    gauss = np.exp(-(((grid - mean) / sd) ** 2) / 2) / (sd * np.sqrt(2 * np.pi))
    axes.plot(
        grid, gauss, color="black", linewidth=1.5, label="Gaussian of the same mean and variance"
    )
    axes.set_xlabel("projection on the direction of highest variance")
    axes.set_ylabel("density")
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def decoder_means(means: dict[str, Float[np.ndarray, "pixels images"]], *, side: int) -> "Figure":
    """Figure 5: E[x | z] for the same latents z ~ N(0, I) under each model."""
    columns = min(10, next(iter(means.values())).shape[1])
    rows = max(pictures.shape[1] // columns for pictures in means.values())
    figure = _figure(3.2 * len(means), 3.1 * rows / columns + 0.35)
    figure.set_layout_engine("constrained", wspace=0.04)
    panels: Any = figure.subplots(1, len(means))
    for axes, (scheme, pictures) in zip(np.atleast_1d(panels), means.items(), strict=True):
        count = pictures.shape[1] // columns * columns
        tiles = pictures[:, :count].T.reshape(-1, columns, side, side)
        _picture(axes, np.concatenate([np.concatenate(list(row), axis=1) for row in tiles]))
        axes.set_title(LABELS[scheme], fontsize=9)
        axes.set_xticks([])
    return figure


def diagram() -> "Figure":
    """Figure 4: how one minibatch passes through L2HMC-DLGM, and what each part learns from."""
    figure = _figure(9, 2.7)
    axes = figure.subplots()
    axes.set_xlim(0, 96)
    axes.set_ylim(0, 31)
    axes.axis("off")
    boxes = {
        "image $x$": (1, "0.93"),
        "encoder\n$q(z\\mid x)$": (19, "#CFE8DF"),
        "start\n$z_0 \\sim q$": (37, "0.93"),
        "kernel, $K$ times\ntowards $p(z\\mid x)$": (54, "#CFE3F1"),
        "decoder\n$p(x\\mid z_K)$": (79, "#F7DECB"),
    }
    widths = {name: 17 if "kernel" in name else 13 for name in boxes}
    for name, (left, colour) in boxes.items():
        _box(axes, left, widths[name], name, colour)
    edges = [(left, left + widths[name]) for name, (left, _) in boxes.items()]
    for (_, right), (left, _) in pairwise(edges):
        _arrow(axes, (right, 18), (left, 18))
    axes.plot([7.5, 7.5, 62.5], [23.3, 28, 28], color="0.35", linewidth=1)
    _arrow(axes, (62.5, 28), (62.5, 23))
    axes.text(35, 28.5, "embedding and guide of $x$", fontsize=8, color="0.35", ha="center")
    learns = {
        25.5: "steps on the ELBO,\nand on nothing else",
        62.5: "steps on the squared jumps\nof all $K$ transitions,\nits guide on $z_K$",
    }
    learns[85.5] = "steps on $\\log p(x\\mid z_K)$,\n$z_K$ a constant"
    for x, text in learns.items():
        axes.text(x, 8.5, text, ha="center", va="top", fontsize=8)
    return figure


def _box(axes: "Axes", left: float, width: float, text: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (left, 13), width, 10, boxstyle="round,pad=0.2,rounding_size=1", fc=colour, ec="0.3"
        )
    )
    axes.text(left + width / 2, 18, text, ha="center", va="center", fontsize=9)


def _arrow(axes: "Axes", start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": "0.2"})


def _picture(axes: "Axes", pixels: np.ndarray) -> None:
    axes.imshow(pixels, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
