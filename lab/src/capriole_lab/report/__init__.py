"""Figures and pages. Matplotlib and Jinja are imported when something is drawn."""

from ._figures import (
    LABELS,
    autocorrelation_figure,
    chains_over_density,
    save,
    trace_figure,
    training_curve,
)
from ._html import Section, claim, image, page, picture, points, table, text
from ._panels import autocorrelation_panels

__all__ = [
    "LABELS",
    "Section",
    "autocorrelation_figure",
    "autocorrelation_panels",
    "chains_over_density",
    "claim",
    "image",
    "page",
    "picture",
    "points",
    "save",
    "table",
    "text",
    "trace_figure",
    "training_curve",
]
