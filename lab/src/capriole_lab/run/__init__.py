"""Experiments: what ``capriole-lab run`` does, with one registry of settings and three presets."""

from ._run import Run
from ._settings import PRESETS, Settings, settings_for, settings_from

__all__ = ["PRESETS", "Run", "Settings", "settings_for", "settings_from"]
