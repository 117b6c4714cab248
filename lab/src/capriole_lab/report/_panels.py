"""Figures of several targets at once."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ._figures import LABELS, _colours, _figure, _tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

type Curve = tuple[np.ndarray, np.ndarray]


def autocorrelation_panels(curves: dict[str, dict[str, Curve]], *, columns: int = 3) -> "Figure":
    """One panel per target, one line per sampler (paper, figure 1a): ``curves[target][sampler] =
    (gradients, values)``.

    A sampler has one colour in all panels, and one line in the common legend.
    """
    rows = -(-len(curves) // columns)
    figure = _figure(3.6 * min(columns, len(curves)), 2.5 * rows + 0.7)
    panels: Any = np.atleast_1d(
        figure.subplots(rows, min(columns, len(curves)), squeeze=False, sharey=True)
    ).ravel()
    names = list(dict.fromkeys(name for lines in curves.values() for name in lines))
    colours, handles = _colours(names), {}
    for axes, (target, lines) in zip(panels, curves.items(), strict=False):
        for name, (gradients, values) in lines.items():
            width = 2.2 if name == "l2hmc" else 1.2
            (handles[name],) = axes.plot(gradients, values, color=colours[name], linewidth=width)
        axes.axhline(0, color="0.4", linewidth=0.8)
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(left=0)
        axes.set_title(target, fontsize=10, loc="left")
        _tidy(axes)
    for axes in panels[len(curves) :]:
        axes.remove()
    figure.supxlabel("gradient evaluations", fontsize=10)
    figure.supylabel("autocorrelation", fontsize=10)
    labels = [LABELS.get(name, name) for name in names]
    figure.legend(
        [handles[n] for n in names],
        labels,
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return figure
