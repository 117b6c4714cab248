"""The log of a run: one JSON line per progress event, at most about one a second."""

import json
import math
import time
from pathlib import Path
from typing import Any

from ..runtime import Progress, is_first_process

MIN_SECONDS = 1.0


class MetricsLog:
    """``metrics.jsonl``: lines with ``stage``, ``step``, ``num_steps``, ``seconds`` and the figures
    of the event.

    A resumed stage first drops its lines beyond the point it goes on from, and a line that a crash
    cut short.
    """

    def __init__(self, path: Path):
        self.path = path
        self._last: dict[str, float] = {}

    def write(self, event: Progress) -> None:
        """Append a line for ``event`` if its stage is finished or a second has passed since its
        last line.
        """
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
        """Drop lines of ``stage`` beyond ``step``, and torn ones."""
        from ..runtime import write_atomically

        if not is_first_process() or not self.path.is_file():
            return
        lines = self.path.read_bytes().splitlines()
        kept = [line for line in lines if _is_kept(line, stage, step)]
        if len(kept) < len(lines):
            write_atomically(self.path, b"".join(line + b"\n" for line in kept))


def _is_kept(line: bytes, stage: str, step: int) -> bool:
    try:
        content: Any = json.loads(line)
        return not (content["stage"] == stage and content["step"] > step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
