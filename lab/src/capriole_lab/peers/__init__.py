"""The bench of samplers on posteriors with a known truth: cells, standings, figures, page."""
