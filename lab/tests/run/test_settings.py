"""The registry of settings."""

import pytest

from capriole_lab.cells import PRESETS
from capriole_lab.run import settings_for
from capriole_lab.run._settings import _BY_TARGET
from capriole_lab.targets import TARGETS


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", list(TARGETS))
def test_every_target_has_settings_under_every_preset(target, preset):
    settings = settings_for(target, preset)
    assert settings.num_leapfrogs >= 1
    assert settings.num_chains >= 4
    assert settings.objective in ("log_esjd", "log_jump", "paper")


def test_settings_are_for_targets_that_exist():
    assert set(_BY_TARGET) <= set(TARGETS)


def test_overrides_win_and_none_means_no_override():
    settings = settings_for("scg", "smoke", num_leapfrogs=7, num_steps=None)
    assert settings.num_leapfrogs == 7
    assert settings.num_steps == settings_for("scg", "smoke").num_steps


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown preset 'x'"):
        settings_for("scg", "x")
    with pytest.raises(ValueError, match=r"unknown settings .'speed'"):
        settings_for("scg", "smoke", speed=3)
