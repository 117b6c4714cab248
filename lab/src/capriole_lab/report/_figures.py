"""Each function draws one figure and returns it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers tell apart; without its yellow, which is faint
# on white.
COLOURS = {
    "l2hmc": "#0072B2",
    "hmc": "#D55E00",
    "hmc_paper": "#E69F00",
    "hmc_best": "#8C4A00",
    "nuts": "#009E73",
    "nuts-dense": "#00573F",
    "chees": "#CC79A7",
    "lookahead": "#56B4E9",
    "nice": "#7B5EA7",
    "capriole": "#0072B2",
    "mclmc": "#B8860B",
    "numpyro-nuts": "#66C2A5",
    "nutpie": "#6A9A2D",
    "flowmc": "#444444",
}
OTHERS = ("#56B4E9", "#000000", "#999999")
LABELS = {
    "l2hmc": "L2HMC", "hmc": "HMC, tuned for bulk ESS",
    "hmc_paper": "HMC, tuned for the paper's ESS", "hmc_best": "HMC at its best length",
    "nuts": "NUTS", "nuts-dense": "NUTS, dense metric", "chees": "ChEES-HMC",
    "lookahead": "look-ahead HMC", "nice": "A-NICE-MC", "mclmc": "MCLMC", "numpyro-nuts": "NUTS",
    "nutpie": "NUTS", "flowmc": "flowMC",
}  # fmt: skip


def save(figure: "Figure", path: str | Path) -> Path:
    """Write a figure to ``path``, in the format of its suffix, and make the folders on the way."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target)
    return target


def _colours(names: Iterable[str]) -> dict[str, str]:
    """The sampler's own colour in every figure; names without one take the others in turn."""
    chosen: dict[str, str] = {}
    unknown = 0
    for name in names:
        chosen[name] = COLOURS.get(name, OTHERS[unknown % len(OTHERS)])
        unknown += name not in COLOURS
    return chosen


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


def _log_axis(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())


def training_curve(history: dict[str, np.ndarray]) -> "Figure":
    """Loss, acceptance and expected squared jump against the training step (light: every step;
    dark: running mean).

    Without ``history["jump"]`` that panel is left out; the temperature has one when it changes.
    """
    panels = [("loss", "loss"), ("acceptance_rate", "acceptance")]
    if "jump" in history:
        panels.append(("jump", "squared jump"))
    if np.ptp(history.get("temperature", np.ones(1))) > 0:
        panels.append(("temperature", "temperature"))
    figure = _figure(7, 0.6 + 1.6 * len(panels))
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
            _log_axis(axes)
        axes.set_ylabel(label)
        _tidy(axes)
    all_axes[-1].set_xlabel("training step")
    return figure


def autocorrelation_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> "Figure":
    """Autocorrelation against gradients (figure 1a): ``curves[name] = (gradients, values)``."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    colours = _colours(curves)
    for name, (gradients, values) in curves.items():
        axes.plot(gradients, values, color=colours[name], label=_label(name), linewidth=1.6)
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.axhline(
        0.05,
        color="0.4",
        linewidth=0.8,
        linestyle=":",
        label="0.05, where the paper's ESS stops counting",
    )
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.set_xlabel("gradient evaluations")
    axes.set_ylabel("autocorrelation")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    _tidy(axes)
    return figure


def chains_over_density(
    logdensity: Callable[[np.ndarray], np.ndarray] | None,
    paths: dict[str, np.ndarray],
    bounds: tuple[float, float, float, float],
) -> "Figure":
    """One chain per sampler drawn over the contours of a 2-d density (paper, figure 1b).

    ``logdensity`` maps (2, points) to (points,), None draws no contours; ``paths[name]`` has shape
    (steps, 2); ``bounds`` is (left, right, bottom, top). Contours lie 1 to 6 standard deviations
    from the peak, were it a Gaussian.
    """
    left, right, bottom, top = bounds
    ratio = (top - bottom) / (right - left)
    to_scale = 0.4 <= ratio <= 2  # else one of the axes would be a sliver
    figure = _figure(4.2 * len(paths), 4.2 * ratio + 0.9 if to_scale else 4.2)
    panels: Any = np.atleast_1d(figure.subplots(1, len(paths), sharex=True, sharey=True))
    colours = _colours(paths)
    grid = None if logdensity is None else _grid(logdensity, bounds)
    for axes, (name, path) in zip(panels, paths.items(), strict=True):
        if grid is not None:
            _contours(axes, *grid)
        axes.plot(path[:, 0], path[:, 1], color=colours[name], linewidth=0.5, alpha=0.45)
        axes.plot(path[:, 0], path[:, 1], ".", color=colours[name], markersize=3)
        if to_scale:
            axes.set_aspect("equal")
        axes.set_title(f"{_label(name)}, {len(path)} steps", fontsize=10)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_xlabel("$x_0$")
    panels[0].set_ylabel("$x_1$")
    return figure


def _grid(
    logdensity: Callable[[np.ndarray], np.ndarray], bounds: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates and log density relative to its peak; far below outside the support."""
    left, right, bottom, top = bounds
    xs, ys = np.meshgrid(np.linspace(left, right, 241), np.linspace(bottom, top, 241))
    values = np.asarray(logdensity(np.stack([xs.ravel(), ys.ravel()])), np.float64).reshape(
        xs.shape
    )
    finite = np.isfinite(values)
    peak = values[finite].max() if finite.any() else 0.0
    return xs, ys, np.where(finite, values - peak, -1e3)


def _contours(axes: "Axes", xs: np.ndarray, ys: np.ndarray, values: np.ndarray) -> None:
    levels = -(np.arange(6, 0, -1) ** 2) / 2
    if values.max() <= levels[0]:  # nothing of the density in view
        return
    axes.contourf(xs, ys, values, levels=[*levels, 0], cmap="Greys", vmin=-18, vmax=20)
    axes.contour(xs, ys, values, levels=levels, colors="0.75", linewidths=0.6, linestyles="solid")


def trace_figure(traces: dict[str, np.ndarray], label: str = "worst coordinate") -> "Figure":
    """One coordinate of one chain per sampler against its step."""
    figure = _figure(7, 1.6 * len(traces) + 0.4)
    panels: Any = np.atleast_1d(figure.subplots(len(traces), 1, sharex=True, sharey=True))
    colours = _colours(traces)
    for axes, (name, values) in zip(panels, traces.items(), strict=True):
        axes.plot(values, color=colours[name], linewidth=0.7)
        axes.set_title(_label(name), fontsize=9, loc="left")
        axes.set_ylabel(label)
        _tidy(axes)
    panels[-1].set_xlabel("Metropolis-Hastings step")
    return figure
