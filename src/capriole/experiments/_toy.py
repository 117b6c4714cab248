"""``capriole paper toy``: all cells of section 5.1, one after the other or several at a time, then the page."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ._toy_cell import CELL
from ._toy_settings import toy_settings

REPORT = "toy.html"


class CellSpec(NamedTuple):
    """A target, a seed, and the folder of the two."""

    target: str
    seed: int
    path: Path

    @property
    def done(self) -> bool:
        """Whether the cell was finished, by this command or an earlier one."""
        return (self.path / CELL).exists()


class Event(NamedTuple):
    """A cell that finished or failed: how many are finished, how many there are, seconds since the start."""

    spec: CellSpec
    failed: bool
    done: int
    total: int
    seconds: float


def plan(targets: list[str], num_seeds: int, preset: str, out: Path) -> list[CellSpec]:
    """The cells in the order of running: all targets at seed 0 first. Raises ValueError for anything unknown."""
    if num_seeds < 1:
        raise ValueError(f"need at least one seed, got {num_seeds}")
    for target in targets:
        toy_settings(target, preset)
    pairs = [(target, seed) for seed in range(num_seeds) for target in targets]
    return [CellSpec(target, seed, out / "cells" / f"{target}-{seed}") for target, seed in pairs]


def run_toy(
    specs: list[CellSpec], preset: str, *, jobs: int = 1, on_event: Callable[[Event], None] | None = None
) -> list[CellSpec]:
    """Run every cell that is not there yet, ``jobs`` at a time in processes of their own; returns those that failed.

    What a process writes is in ``log.txt`` of its cell. KeyboardInterrupt ends the processes; cells that were
    finished stay, and the next call goes on with the others.
    """
    begin, waiting, failed = time.perf_counter(), [spec for spec in specs if not spec.done], []
    running: list[tuple[CellSpec, subprocess.Popen]] = []

    def finish(spec: CellSpec, worked: bool) -> None:
        if not worked:
            failed.append(spec)
        if on_event is not None:
            done = sum(s.done for s in specs)
            on_event(Event(spec, not worked, done, len(specs), time.perf_counter() - begin))

    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                spec = waiting.pop(0)
                running.append((spec, _start(spec, preset)))
            time.sleep(0.1)
            for entry in [entry for entry in running if entry[1].poll() is not None]:
                running.remove(entry)
                finish(entry[0], entry[0].done)
    finally:
        for _, process in running:
            process.terminate()
            process.wait()
    return failed


def _start(spec: CellSpec, preset: str) -> subprocess.Popen:
    spec.path.mkdir(parents=True, exist_ok=True)
    arguments = [spec.target, str(spec.seed), "--preset", preset, "--out", str(spec.path)]
    with (spec.path / "log.txt").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "capriole", "paper", "cell", *arguments], stdout=log, stderr=subprocess.STDOUT
        )
