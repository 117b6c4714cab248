"""Each function draws one figure and returns it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"l2hmc": "#0072B2", "hmc": "#D55E00", "hmc_paper": "#E69F00", "nuts": "#009E73", "chees": "#CC79A7"}
OTHERS = ("#56B4E9", "#000000", "#F0E442")
LABELS = {"l2hmc": "L2HMC", "hmc": "HMC, tuned for bulk ESS", "hmc_paper": "HMC, tuned for the paper's ESS"}


def _colour(name: str, index: int) -> str:
    return COLOURS.get(name, OTHERS[index % len(OTHERS)])


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    kernel = np.ones(window) / window
    return np.convolve(values, kernel, mode="valid")


def training_curve(history: dict[str, np.ndarray]) -> "Figure":
    """Loss, acceptance and expected squared jump against the training step (light: every step; dark: running mean)."""
    figure = _figure(7, 6)
    panels = [("loss", "loss"), ("acceptance_rate", "acceptance"), ("jump", "squared jump")]
    if np.ptp(history.get("temperature", np.ones(1))) > 0:
        panels.append(("temperature", "temperature"))
    window = max(1, len(history["loss"]) // 100)
    all_axes: Any = figure.subplots(len(panels), 1, sharex=True)
    for axes, (name, label) in zip(all_axes, panels, strict=True):
        values = np.asarray(history[name], np.float64)
        axes.plot(values, color="#0072B2", alpha=0.25, linewidth=0.5)
        smooth = _smooth(values, window)
        axes.plot(np.arange(len(smooth)) + window // 2, smooth, color="#0072B2", linewidth=1.5)
        finite = values[np.isfinite(values)]
        if name in ("loss", "jump") and finite.size:
            low, high = np.quantile(finite, [0.005, 0.995])
            margin = 0.05 * (high - low) + 1e-12
            axes.set_ylim(low - margin, high + margin)
        if name == "temperature":
            axes.set_yscale("log")
        axes.set_ylabel(label)
        _tidy(axes)
    all_axes[-1].set_xlabel("training step")
    return figure


def autocorrelation_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> "Figure":
    """Autocorrelation against gradient evaluations (paper, figure 1a); ``curves[name] = (gradients, values)``."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    for index, (name, (gradients, values)) in enumerate(curves.items()):
        axes.plot(gradients, values, color=_colour(name, index), label=_label(name), linewidth=1.6)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.axhline(0.05, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.set_xlabel("gradient evaluations")
    axes.set_ylabel("autocorrelation")
    axes.legend(frameon=False)
    _tidy(axes)
    return figure


def chains_over_density(
    logdensity: Callable[[np.ndarray], np.ndarray],
    paths: dict[str, np.ndarray],
    bounds: tuple[float, float, float, float],
) -> "Figure":
    """One chain per sampler drawn over the contours of a 2-d density (paper, figure 1b).

    ``logdensity`` maps (2, points) to (points,); ``paths[name]`` has shape (steps, 2); ``bounds`` is (left, right,
    bottom, top).
    """
    figure = _figure(4.2 * len(paths), 4.2)
    panels: Any = np.atleast_1d(figure.subplots(1, len(paths), sharex=True, sharey=True))
    left, right, bottom, top = bounds
    xs, ys = np.meshgrid(np.linspace(left, right, 241), np.linspace(bottom, top, 241))
    values = logdensity(np.stack([xs.ravel(), ys.ravel()])).reshape(xs.shape)
    levels = np.nanmax(values) - np.array([18.0, 12.5, 8.0, 4.5, 2.0, 0.5])
    for index, (axes, (name, path)) in enumerate(zip(panels, paths.items(), strict=True)):
        axes.contour(xs, ys, values, levels=levels, colors="0.7", linewidths=0.7)
        axes.plot(path[:, 0], path[:, 1], color=_colour(name, index), linewidth=0.6, alpha=0.6)
        axes.plot(path[:, 0], path[:, 1], ".", color=_colour(name, index), markersize=3)
        axes.set_title(f"{_label(name)}, {len(path)} steps", fontsize=10)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_xlabel("$x_0$")
    panels[0].set_ylabel("$x_1$")
    return figure


def trace_figure(traces: dict[str, np.ndarray], label: str) -> "Figure":
    """One coordinate of one chain per sampler against its step."""
    figure = _figure(7, 1.6 * len(traces) + 0.4)
    panels: Any = np.atleast_1d(figure.subplots(len(traces), 1, sharex=True, sharey=True))
    for index, (axes, (name, values)) in enumerate(zip(panels, traces.items(), strict=True)):
        axes.plot(values, color=_colour(name, index), linewidth=0.7)
        axes.set_title(_label(name), fontsize=9, loc="left")
        axes.set_ylabel(label)
        _tidy(axes)
    panels[-1].set_xlabel("Metropolis-Hastings step")
    return figure
