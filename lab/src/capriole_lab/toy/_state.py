"""What every stage of a cell of section 5.1 uses: target, settings, keys, starts and the record."""

import time
from pathlib import Path
from typing import Any

import jax

from capriole.kernels import Vector
from capriole.runs import RunFolder
from capriole.runtime import OnProgress

from ..run._run import Run
from ..run._settings import settings_for
from ..targets import make_target
from ._settings import ToySettings, toy_settings


class CellState:
    """A cell in progress; ``record`` becomes ``cell.json``."""

    def __init__(self, name: str, seed: int, preset: str, path: Path, progress: OnProgress):
        self.begin, self.begin_cpu = time.perf_counter(), time.process_time()
        self.name, self.seed, self.preset, self.path = name, seed, preset, path
        self.target: Any = make_target(name)
        self.toy: ToySettings = toy_settings(name, preset)
        self.settings = settings_for(name, preset, num_chains=self.toy.num_chains)
        self.run = Run(
            name,
            self.target,
            self.settings,
            RunFolder(path),
            preset=preset,
            seed=seed,
            progress=progress,
        )
        self.num_keys = 0
        self.record: dict[str, Any] = {
            **{
                field: self.run.results[field]
                for field in ("target", "preset", "seed", "versions", "device", "dtype")
            },
            "samplers": {},
            "curves": {},
            "paths": {},
            "tuning": {},
            "mode_rhat": {},
        }

    def next_key(self) -> jax.Array:
        """A fresh key; the stages take them in a fixed order."""
        self.num_keys += 1
        return jax.random.fold_in(self.run.sample_key, self.num_keys)

    def starts(self, kind: str, num: int) -> Vector:
        """``exact`` draws, the target's ``dispersed`` starts, or draws of ``mode 0`` or ``1``."""
        if kind == "exact":
            return self.target.sample(self.next_key(), num)
        if kind == "dispersed":
            return self.target.start(self.next_key(), num)
        return self.target.sample_mode(self.next_key(), num, int(kind.removeprefix("mode ")))

    def modes(self) -> tuple[str, ...]:
        """The one-mode starts of a target with modes."""
        return ("mode 0", "mode 1") if hasattr(self.target, "mode") else ()
