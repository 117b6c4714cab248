"""Figures of calibration: distribution functions of ranks, p-values of every kernel."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ...report._figures import _figure, _tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

type Counts = dict[str, list[int]]
_COLOURS = ("#0072B2", "#D55E00")
_FLOOR = 1e-30


def rank_panels(curves: dict[str, Counts], low: list[int], high: list[int], num: int) -> "Figure":
    """Distribution function of ranks less the uniform one, a panel per quantity:
    ``curves[kernel][quantity]``.

    Each entry counts the ranks 0, 1, ...; all curves of an exact kernel stay inside the grey band,
    between the counts ``low`` and ``high``, with its level's probability. The first kernel is drawn
    blue, the second red.
    """
    names = list(next(iter(curves.values())))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = _figure(2.7 * columns + 0.4, 2.1 * rows + 0.7)
    grid: Any = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, sharex=True)).ravel()
    points = np.arange(1, len(low) + 1) / (len(low) + 1)
    handles = {}
    for axes, name in zip(grid, names, strict=False):
        axes.fill_between(
            points, np.asarray(low) / num - points, np.asarray(high) / num - points, color="0.85"
        )
        for colour, (kernel, counts) in zip(_COLOURS, curves.items(), strict=False):
            values = np.cumsum(counts[name])[:-1] / num - points
            (handles[kernel],) = axes.step(
                points, values, where="post", color=colour, linewidth=1.2
            )
        axes.set_title(name, fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        _tidy(axes)
    for axes in grid[len(names) :]:
        axes.remove()
    figure.supxlabel("rank of the truth among the draws, scaled", fontsize=9)
    figure.supylabel("ECDF less uniform", fontsize=9)
    figure.legend(
        handles.values(), handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9
    )
    return figure


def p_value_chart(panels: dict[str, dict[str, tuple[float, bool]]], share: float) -> "Figure":
    """Smallest p-value (Bonferroni's) of every case and whether it is rejected (red), a panel per
    procedure.

    The line is at the procedure's level; the sequential ones reject at other values, which depend
    on the stage.
    """
    cases = list(dict.fromkeys(case for found in panels.values() for case in found))
    figure = _figure(2.6 * len(panels) + 2.4, 0.24 * len(cases) + 1.1)
    grid: Any = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (procedure, found) in zip(grid, panels.items(), strict=True):
        for case, (p, rejected) in found.items():
            colour = _COLOURS[1] if rejected else _COLOURS[0]
            axes.plot(max(p, _FLOOR), cases.index(case), "o", color=colour, markersize=5)
        axes.axvline(share, color="0.4", linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlim(_FLOOR / 10, 10)
        axes.set_title(procedure, fontsize=9, loc="left")
        _tidy(axes)
    grid[0].set_yticks(range(len(cases)), cases, fontsize=8)
    grid[0].set_ylim(len(cases) - 0.5, -0.5)
    figure.supxlabel("p-value (those below 1e-30 are drawn there)", fontsize=9)
    return figure
