"""What the registries of settings share: presets over defaults, and names that must be known."""

import difflib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

type Values = dict[str, Any]

PRESETS = ("smoke", "laptop", "paper")


def preset_of[T](
    default: T, presets: dict[str, Values], preset: str, own: Values | None = None
) -> T:
    """``default`` with the values of a target's ``own`` and then those of the preset.

    Raises ValueError for an unknown preset.
    """
    check_known(preset, presets, "preset")
    return replace(default, **((own or {}) | presets[preset]))  # type: ignore[type-var]


def check_known(name: str, known: Iterable[str], kind: str) -> None:
    """Raises ValueError, with the name that is closest, for one that is not ``known``."""
    names = list(known)
    if name in names:
        return
    close = difflib.get_close_matches(name, names, 1)
    close = close or [full for full in names if full.endswith("/" + name)]
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {kind} {name!r}; {hint}choose one of {', '.join(names)}")
