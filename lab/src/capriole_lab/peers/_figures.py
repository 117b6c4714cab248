"""Figures that compare samplers over many targets."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..report._figures import _colours, _figure, _tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

type Rates = dict[str, dict[str, float]]
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
_EMPHASIS = "capriole"


def rates_by_target(panels: dict[str, Rates], labels: dict[str, str]) -> "Figure":
    """Rates on log axes, one line of markers per target: ``panels[title][target][sampler]``.

    A target nobody passes on keeps an empty line. All panels must have the same targets.
    """
    targets = list(next(iter(panels.values())))
    samplers = list(labels)
    colours, handles = _colours(samplers), {}
    figure = _figure(4.6 * len(panels) + 1.2, 0.32 * len(targets) + 1.3)
    grid: Any = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (title, rates) in zip(grid, panels.items(), strict=True):
        for row, target in enumerate(targets):
            for sampler, rate in rates[target].items():
                ours = sampler == _EMPHASIS
                (handles[sampler],) = axes.plot(
                    rate,
                    row,
                    linestyle="none",
                    marker=_MARKERS[samplers.index(sampler) % len(_MARKERS)],
                    markersize=9 if ours else 6,
                    color=colours[sampler],
                    zorder=3 if ours else 2,
                )
        axes.set_xscale("log")
        axes.set_xlabel(title, fontsize=10)
        _tidy(axes)
    grid[0].set_yticks(range(len(targets)), targets, fontsize=9)
    grid[0].set_ylim(len(targets) - 0.5, -0.5)
    _legend(figure, handles, labels)
    return figure


def cost_panels(
    costs: dict[str, dict[str, tuple[float, float]]], labels: dict[str, str], *, unit: str
) -> "Figure":
    """Total cost against effective draws, a panel per target: ``costs[target][sampler] = (fixed,
    rate)``.

    A line is ``fixed + draws / rate``; where two cross, the one that needed more preparation has
    paid for it.
    """
    columns = min(4, len(costs))
    rows = -(-len(costs) // columns)
    figure = _figure(2.9 * columns + 0.4, 2.3 * rows + 0.8)
    grid: Any = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, sharex=True)).ravel()
    colours, handles = _colours(labels), {}
    draws = np.geomspace(1e2, 1e7, 60)
    for axes, (target, lines) in zip(grid, costs.items(), strict=False):
        for sampler, (fixed, rate) in lines.items():
            width = 2.4 if sampler == _EMPHASIS else 1.2
            (handles[sampler],) = axes.plot(
                draws, fixed + draws / rate, color=colours[sampler], linewidth=width
            )
        _cost_axes(axes, target)
    for axes in grid[len(costs) :]:
        axes.remove()
    figure.supxlabel("effective draws", fontsize=10)
    figure.supylabel(f"total {unit}, preparation included", fontsize=10)
    _legend(figure, handles, labels)
    return figure


def _cost_axes(axes: "Axes", title: str) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = np.log10(axes.dataLim.intervaly)
    axes.set_ylim(
        10 ** np.floor(low), 10 ** np.ceil(high)
    )  # whole decades: ticks within one crowd the labels
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    _tidy(axes)


def _legend(figure: "Figure", handles: dict[str, Any], labels: dict[str, str]) -> None:
    names = [name for name in labels if name in handles]
    if names:
        figure.legend(
            [handles[n] for n in names],
            [labels[n] for n in names],
            loc="outside upper center",
            ncols=4,
            frameon=False,
            fontsize=9,
        )
