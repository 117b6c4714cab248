"""Experiments: what ``capriole-lab run`` does, with one registry of settings and three presets."""

from ._run import Run
from ._settings import Settings, settings_for, settings_from

__all__ = ["Run", "Settings", "settings_for", "settings_from"]
