"""JSON files of a run folder, its log among them, and the error of a folder that cannot be used."""

import json
import math
import time
from pathlib import Path
from typing import Any

from ..runtime import Progress, is_first_process, write_atomically

MAX_JSON = 64 << 20
"""Bytes of the largest JSON file that is read: a damaged or foreign file must not fill memory."""
MIN_SECONDS = 1.0
"""Seconds between two lines of a stage: enough for a plot, and a day of them stays small."""


class RunFolderError(OSError):
    """A run folder that cannot be made, read or written.

    Causes: it is in use, it is damaged, it holds another run, or the disk refuses.
    """


def read_json(path: Path, *, max_bytes: int = MAX_JSON) -> dict[str, Any]:
    """Read the JSON object in a file.

    Args:
        path: the file.
        max_bytes: bytes of the largest file that is read.

    Returns:
        The object.

    Raises:
        RunFolderError: the file is missing, too large, not JSON, or not a JSON object.
    """
    try:
        if not path.is_file():
            raise RunFolderError(f"cannot read {path}: no such file")
        if path.stat().st_size > max_bytes:
            raise RunFolderError(f"cannot read {path}: it is larger than {size(max_bytes)}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise (
            error
            if isinstance(error, RunFolderError)
            else RunFolderError(f"cannot read {path}: {error}")
        ) from error
    if not isinstance(content, dict):
        raise RunFolderError(f"cannot read {path}: it holds no JSON object")
    return content


def to_plain(value: Any) -> Any:
    """Arrays as lists, tuples as lists, and numbers that are not finite as None, for JSON."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def size(num_bytes: float) -> str:
    """A number of bytes in words, for example ``1.5 GB``.

    Args:
        num_bytes: the number of bytes.

    Returns:
        Three significant digits and a decimal unit.
    """
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.3g} {unit}"


class MetricsLog:
    """``metrics.jsonl``: lines with ``stage``, ``step``, ``num_steps``, ``seconds`` and metrics.

    A resumed stage first drops its lines beyond the point that it continues from, and any line that
    a crash cut short.
    """

    def __init__(self, path: Path):
        self.path = path
        self._last: dict[str, float] = {}

    def write(self, event: Progress) -> None:
        """Append a line if the stage is finished, or `MIN_SECONDS` after its last line."""
        now = time.monotonic()
        if not is_first_process():
            return
        if (
            event.step < event.num_steps
            and now - self._last.get(event.phase, -math.inf) < MIN_SECONDS
        ):
            return
        self._last[event.phase] = now
        line = {
            "stage": event.phase,
            "step": event.step,
            "num_steps": event.num_steps,
            "seconds": event.seconds,
        }
        figures = {
            name: value if math.isfinite(value) else None for name, value in event.metrics.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | figures) + "\n")

    def rewind(self, stage: str, step: int) -> None:
        """Drop lines of ``stage`` beyond ``step``, and lines that are not whole."""
        if not is_first_process() or not self.path.is_file():
            return
        lines = self.path.read_bytes().splitlines()
        kept = [line for line in lines if _is_kept(line, stage, step)]
        if len(kept) < len(lines):
            write_atomically(self.path, b"".join(line + b"\n" for line in kept))


def _is_kept(line: bytes, stage: str, step: int) -> bool:
    """Whether a line is whole and not beyond ``step`` of ``stage``."""
    try:
        content: Any = json.loads(line)
        return not (content["stage"] == stage and content["step"] > step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
