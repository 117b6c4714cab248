"""The functions that this user has run: what a run folder may name and `resume` may run again."""

import contextlib
import hashlib
import os
from pathlib import Path


def remember(function: str) -> None:
    """Keep that the user has named a function; without a home that can be written, nothing is kept.

    Args:
        function: ``FILE.py:FUNCTION``.
    """
    entry = _entry(function)
    if entry is None or is_known(function):
        return
    with contextlib.suppress(OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{entry}\n")


def is_known(function: str) -> bool:
    """Whether the user has named this function before, and its file is still the same.

    Args:
        function: ``FILE.py:FUNCTION``.
    """
    entry = _entry(function)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return entry is not None and entry in _path().read_text(encoding="utf-8").splitlines()
    return False


def absolute(function: str) -> str:
    """``FILE.py:FUNCTION`` with the file's full path, so that it is found from anywhere."""
    file, _, name = function.rpartition(":")
    return f"{Path(file).resolve()}:{name}" if Path(file).is_file() else function


def _entry(function: str) -> str | None:
    file, _, _ = function.rpartition(":")
    try:
        content = Path(file).read_bytes()
    except OSError:
        return None
    return f"{hashlib.sha256(content).hexdigest()} {absolute(function)}"


def _path() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "capriole" / "functions"
