"""Experiments made of cells: planning them, running them in processes, going on."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

CELL = "cell.json"
"""Written last into a cell's folder: its presence says that the cell is complete."""

_PATIENCE = 10.0
"""Seconds that a process is given to end by itself."""


class CellSpec(NamedTuple):
    """A target, a seed, the folder of the two, and the sampler where there is a cell for each."""

    target: str
    seed: int
    path: Path
    sampler: str = ""

    @property
    def done(self) -> bool:
        """Whether the cell was finished, by this command or an earlier one."""
        return (self.path / CELL).exists()

    @property
    def title(self) -> str:
        """The cell in words."""
        return ", ".join([*filter(None, (self.target, self.sampler)), f"seed {self.seed}"])


class Event(NamedTuple):
    """A cell that finished or failed: how many are finished, how many there are, seconds since the
    start.

    ``late``: its process was ended at the limit.
    """

    spec: CellSpec
    failed: bool
    done: int
    total: int
    seconds: float
    late: bool = False

    def line(self) -> str:
        """The event in words, for a terminal."""
        state = "given up" if self.late else "done"
        if self.failed:
            state = f"failed, see {self.spec.path / 'log.txt'}"
        counted = f"{self.done}/{self.total}  {self.spec.title}"
        return f"{counted}: {state}  ({self.seconds:.0f} s so far)"


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """All complete cells below ``folder``. Raises ValueError for one that is damaged."""
    found = []
    for path in sorted(folder.glob(f"*/{CELL}")):
        try:
            cell = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove its folder, and the cell is run again"
            ) from error
        if not isinstance(cell, dict) or not {"preset", "seed"} <= cell.keys():
            raise ValueError(f"{path} is no cell; remove its folder")
        found.append(cell)
    return found


def cells_by_target(
    folder: Path, targets: Iterable[str], order: Callable[[dict[str, Any]], Any]
) -> dict[str, list[dict[str, Any]]]:
    """The cells of each of the ``targets`` that has any, in the order of the key ``order``."""
    found = read_cells(folder)
    own = {name: sorted((c for c in found if c["target"] == name), key=order) for name in targets}
    return {name: cells for name, cells in own.items() if cells}


def plan_cells(what: Iterable[tuple[str, str, int]], preset: str, out: Path) -> list[CellSpec]:
    """The cells of (target, sampler or "", seed) below ``out``.

    Raises ValueError if there are cells of another preset, which would end on one page with these.
    """
    folder = out / "cells"
    others = sorted({cell["preset"] for cell in read_cells(folder)} - {preset})
    if others:
        raise ValueError(
            f"{folder} holds cells of the preset {others[0]!r}, and figures of {preset!r} do not "
            "belong beside them: give another --out"
        )
    specs = []
    for target, sampler, seed in what:
        parts = (target.replace("/", "."), sampler, str(seed))
        specs.append(CellSpec(target, seed, folder / "-".join(filter(None, parts)), sampler))
    return specs


def run_cells(
    specs: list[CellSpec],
    start: Callable[[CellSpec], subprocess.Popen],
    *,
    jobs: int = 1,
    limit: float = math.inf,
    give_up: Callable[[CellSpec], object] | None = None,
    spare: Callable[[CellSpec], object] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[CellSpec]:
    """Run every cell that is not there yet, ``jobs`` at a time in processes of their own; returns
    those that failed.

    ``start`` starts a cell's process, which writes `CELL` when it is complete. A process that runs
    for more than ``limit`` seconds is ended, and ``give_up`` may write the cell in its stead.
    ``spare`` is asked before a process is started, and may write the cell to spare it.
    KeyboardInterrupt ends the processes; cells that were finished stay, and the next call goes on
    with the others.
    """
    begin, waiting, failed = time.perf_counter(), [spec for spec in specs if not spec.done], []
    running: list[tuple[CellSpec, subprocess.Popen, float]] = []

    def finish(spec: CellSpec, late: bool) -> None:
        if not spec.done:
            failed.append(spec)
        if on_event is not None:
            done = sum(s.done for s in specs)
            on_event(
                Event(spec, not spec.done, done, len(specs), time.perf_counter() - begin, late)
            )

    before = _stop_at_sigterm()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                spec = waiting.pop(0)
                if spare is not None:
                    spare(spec)
                if spec.done:
                    finish(spec, late=True)
                    continue
                running.append((spec, start(spec), time.perf_counter()))
            time.sleep(0.1)
            for entry in list(running):
                spec, process, started = entry
                late = process.poll() is None and time.perf_counter() - started > limit
                if process.poll() is None and not late:
                    continue
                running.remove(entry)
                if late:
                    _end(process)
                    if give_up is not None and not spec.done:
                        give_up(spec)
                finish(spec, late)
    finally:
        for _, process, _ in running:
            _end(process)
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return failed


def _stop_at_sigterm() -> Any:
    """From now on SIGTERM is KeyboardInterrupt, so that it ends the cells' processes, too; the
    handler before it.

    None outside the main thread, where no handler can be set.
    """
    if threading.current_thread() is not threading.main_thread():
        return None

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    return signal.signal(signal.SIGTERM, interrupt)


def _end(process: subprocess.Popen) -> None:
    """End a process, by force if it does not go."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def command_of(*command: str, preset: str) -> Callable[[CellSpec], subprocess.Popen]:
    """How to start a cell's process: ``capriole-lab COMMAND`` with the cell and the preset.

    What the process writes goes to ``log.txt`` of its cell.
    """

    def start(spec: CellSpec) -> subprocess.Popen:
        spec.path.mkdir(parents=True, exist_ok=True)
        cell = [spec.target, *filter(None, [spec.sampler]), str(spec.seed)]
        words = [*command, *cell, "--preset", preset, "--out", str(spec.path)]
        with (spec.path / "log.txt").open("w", encoding="utf-8") as log:
            program = [sys.executable, "-m", "capriole_lab", *words]
            return subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT)

    return start
