"""What the benchmarks share: options, the best of several rounds, and the file of the result."""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]

type Piece = tuple[Callable[[], object], float]


def options(doc: str | None, out: str = "", **defaults: Any) -> argparse.Namespace:
    """The command line's options: ``--out`` (``out``, below the root) and one for each default.

    A default that is a type says that there is none.
    """
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=form)
    parser.add_argument("--out", type=Path, default=ROOT / out if out else None)
    for name, value in defaults.items():
        kind, start = (value, None) if isinstance(value, type) else (type(value), value)
        parser.add_argument(f"--{name}", type=kind, default=start)
    return parser.parse_args()


def from_tests(name: str) -> ModuleType:
    """A module of the library's tests that a benchmark uses, wherever it lies below ``tests``."""
    found = next((ROOT / "tests").rglob(f"{name}.py"))
    sys.path[:0] = [str(ROOT / "tests"), str(found.parent)]
    return importlib.import_module(name)


def best_rates(pieces: dict[str, Piece], rounds: int) -> dict[str, float]:
    """Best rate of each piece over ``rounds`` rounds in turn, after one call that compiles."""
    rates = dict.fromkeys(pieces, 0.0)
    for run, _ in pieces.values():
        run()
    for _ in range(rounds):
        for name, (run, work) in pieces.items():
            start = time.perf_counter()
            run()
            rates[name] = max(rates[name], work / (time.perf_counter() - start))
    return rates


def store(result: dict[str, Any], out: Path | None) -> None:
    """Print the result with versions and machine, and write it to ``out`` if that is given."""
    from capriole.models import versions

    machine = {"machine": platform.machine(), "cores": os.cpu_count()}
    made_with = {"versions": versions() | {"python": platform.python_version()}}
    text = json.dumps(result | made_with | machine, indent=1)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
