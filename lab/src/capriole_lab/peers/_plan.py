"""``capriole-lab bench peers``: planning its cells, running them, giving up late ones."""

import json
from collections.abc import Callable
from pathlib import Path

from ..cells import CELL, CellSpec, Event, command_of, plan_cells, run_cells
from ._cell import give_up
from ._settings import peers_settings


def plan(
    targets: list[str], samplers: list[str], num_seeds: int, preset: str, out: Path
) -> list[CellSpec]:
    """The cells: all targets at seed 0 first. Raises ValueError for anything unknown."""
    for target in targets:
        peers_settings(target, preset)
    triples = ((t, s, seed) for seed in range(num_seeds) for t in targets for s in samplers)
    return plan_cells(triples, preset, out)


def run_peers(
    specs: list[CellSpec],
    preset: str,
    *,
    minutes: float,
    jobs: int = 1,
    on_event: Callable[[Event], None] | None = None,
) -> list[CellSpec]:
    """Run every cell that is not there yet, see `run_cells`; returns those that failed.

    A cell that is not complete within ``minutes`` is stored as one whose sampler does not pass for
    that reason, and so are those of later seeds, which are not tried. Raises ValueError unless the
    minutes are positive.
    """
    if not minutes > 0:
        raise ValueError(f"a cell needs time: got a limit of {minutes:g} minutes")
    return run_cells(
        specs,
        command_of("bench", "cell", preset=preset),
        jobs=jobs,
        limit=60 * minutes,
        give_up=lambda spec: give_up(
            spec.target, spec.sampler, spec.seed, preset, spec.path, minutes
        ),
        spare=lambda spec: _spare(spec, specs, preset, minutes),
        on_event=on_event,
    )


def _spare(spec: CellSpec, specs: list[CellSpec], preset: str, minutes: float) -> None:
    """Store the cell of a sampler that had as many ``minutes`` at an earlier seed."""
    for other in specs:
        if (
            (other.target, other.sampler) == (spec.target, spec.sampler)
            and other.seed < spec.seed
            and other.done
        ):
            cell = json.loads((other.path / CELL).read_text(encoding="utf-8"))
            if cell["num_draws"] is None and cell["cell_seconds"] >= 60 * minutes:
                had = cell["cell_seconds"] / 60
                give_up(
                    spec.target, spec.sampler, spec.seed, preset, spec.path, had, at_seed=other.seed
                )
                return
