"""Figures. Matplotlib is imported when a figure is drawn, without pyplot or any global state."""

from ._figures import autocorrelation_figure, chains_over_density, save, trace_figure, training_curve

__all__ = ["autocorrelation_figure", "chains_over_density", "save", "trace_figure", "training_curve"]
