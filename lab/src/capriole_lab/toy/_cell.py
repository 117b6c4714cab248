"""One (target, seed) of section 5.1: train, run every baseline, measure, store."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capriole import diagnostics
from capriole.kernels import AbstractTransition, Vector
from capriole.runs import clear
from capriole.runtime import OnProgress
from capriole.sampling import Draws, draw_chains

from ..baselines import NiceRecipe, run_peer, train_nice, tune_lookahead
from ..cells import CELL
from ..run._measure import measure, measure_peer
from ..run._tuning import centre_of, mixed_score
from ._burn_in import burn_in
from ._hmc import keep_the_better, tune_length, tune_sizes
from ._state import CellState

_MAX_LAG_GRADIENTS = 5000
_CURVE_POINTS = 80
_PATH_STEPS = 300


def run_cell(
    name: str, seed: int, preset: str, path: Path, progress: OnProgress = None
) -> dict[str, Any]:
    """One (target, seed), stored in ``path``; a half-finished folder is begun anew."""
    for folder in (path, path / "burn-in"):
        clear(folder)
    return Cell(name, seed, preset, path, progress).execute()


class Cell(CellState):
    """A cell in progress; ``record`` becomes ``cell.json``."""

    def execute(self) -> dict[str, Any]:
        """All stages; ``cell.json`` is written last, and says that the cell is complete."""
        kernel = self.learned()
        hmc = self.hmc()
        self.peers()
        self.lookahead()
        if self.toy.nice is not None:
            self.nice(self.toy.nice)
        if self.toy.burn_in_weight and self.seed < self.toy.burn_in_seeds:
            self.record["burn_in"] = burn_in(self, kernel, hmc)
        self.record["seconds"] = time.perf_counter() - self.begin
        self.record["cpu_seconds"] = time.process_time() - self.begin_cpu
        self.run.folder.write_json(CELL, self.record)
        self.run.folder.tidy(keep=())
        self.run.folder.close()
        return self.record

    def learned(self) -> AbstractTransition:
        """Train L2HMC; sample it from exact and from dispersed starts, and from either mode."""
        self.run.train()
        kernel = self.run.kernel
        self.record["training"] = self.run.results["training"]
        self.record["settings"] = self.settings.as_dict()
        step_size = self.record["training"]["step_size"]
        kinds = ("exact", "dispersed", *self.modes())
        self.sample(
            "l2hmc", kernel, self.settings.num_leapfrogs, step_size, kinds, self.settings.num_chains
        )
        return kernel

    def hmc(self) -> AbstractTransition:
        """HMC at the paper's M, tuned for either ESS; HMC at its own best length."""
        toy, m = self.toy, self.toy.paper_leapfrogs
        tunings = tune_sizes(self)
        for name, tuning in tunings.items():
            self.sample(
                name, tuning.transition, m, tuning.step_size, ("exact",), toy.baseline_chains
            )
            self.record["tuning"][name] = {"step_sizes": tuning.step_sizes, "scores": tuning.scores}
        keep_the_better(self.record["samplers"], self.record["curves"], self.record["paths"])
        best = tune_length(self, tunings["hmc"])
        self.sample(
            "hmc_best",
            best.transition,
            best.num_leapfrogs,
            best.step_size,
            ("exact",),
            toy.baseline_chains,
        )
        self.record["tuning"]["hmc_best"] = {"scores_by_length": best.scores}
        step_size = self.record["samplers"]["hmc"]["step_size"]
        kernel = next(t.transition for t in tunings.values() if t.step_size == step_size)
        self.sample("hmc", kernel, m, step_size, self.modes(), toy.baseline_chains)
        return kernel

    def peers(self) -> None:
        """NUTS and ChEES from exact draws, with their own adaptation."""
        toy = self.toy
        for name in toy.peers:
            starts = self.starts("exact", toy.peer_chains)
            draws = run_peer(
                name,
                self.next_key(),
                self.target,
                starts,
                num_draws=toy.peer_draws,
                num_warmup=toy.peer_warmup,
            )
            row = measure_peer(draws, self.target) | {"start": "exact"}
            self.record["samplers"][name] = row
            self.keep_curve(name, draws.position, row)

    def lookahead(self) -> None:
        """Look-ahead HMC at the paper's M, tuned over step sizes and refresh rates."""
        toy, m = self.toy, self.toy.paper_leapfrogs
        largest = float(np.max(self.record["tuning"]["hmc"]["step_sizes"]))
        tuning = tune_lookahead(
            self.next_key(),
            self.target,
            self.starts("exact", toy.tuning_chains),
            mixed_score(self.target),
            step_sizes=np.geomspace(largest / 30, largest, 2 * toy.num_sizes),
            refreshes=toy.refreshes,
            num_leapfrogs=m,
            num_looks=toy.num_looks,
            num_draws=toy.tuning_steps,
            num_warmup=toy.tuning_steps // 10,
        )
        self.sample(
            "lookahead", tuning.transition, m, tuning.step_size, ("exact",), toy.baseline_chains
        )
        self.record["samplers"]["lookahead"] |= {
            "refresh": tuning.refresh,
            "num_looks": toy.num_looks,
        }

    def nice(self, recipe: NiceRecipe) -> None:
        """Train A-NICE-MC from N(0, I); sample it from exact draws and either mode."""
        starts = jax.random.normal(self.next_key(), (recipe.num_chains, self.target.dim)).T
        result = train_nice(
            self.next_key(), self.target, starts, recipe, progress=self.run.progress
        )
        if not result.completed:
            raise KeyboardInterrupt
        self.record["nice_training"] = {
            "recipe": recipe._asdict(),
            "seconds": result.seconds,
            "compile_seconds": result.compile_seconds,
            "num_gradients": result.num_gradients,
        }
        self.sample(
            "nice", result.transition, 1, 0.0, ("exact", *self.modes()), self.toy.baseline_chains
        )

    def sample(
        self,
        name: str,
        kernel: AbstractTransition,
        num_leapfrogs: int,
        step_size: float,
        kinds: tuple[str, ...],
        num_chains: int,
    ) -> None:
        """A row per kind of start, ``name`` for exact ones, else ``name kind``."""
        labels = []
        for kind in kinds:
            row_name = name if kind == "exact" else f"{name} {kind}"
            num_steps = self.settings.num_steps if name == "l2hmc" else self.toy.baseline_steps
            draws = self.draw(row_name, kernel, self.starts(kind, num_chains), num_steps)
            # Draws that did not start exact are on their way for a while.
            keep_from = 0 if kind == "exact" else num_steps // 4
            row = measure(
                draws,
                self.target,
                num_leapfrogs=num_leapfrogs,
                step_size=step_size,
                keep_from=keep_from,
            )
            self.record["samplers"][row_name] = row | {"start": kind}
            position = draws.record.position
            if kind == "exact":
                self.keep_curve(name, position, row)
            if self.target.dim == 2 and kind in ("exact", "mode 0"):
                self.record["paths"][row_name] = _rounded(position[0, :_PATH_STEPS])
            if kind in self.modes():
                labels.append(
                    np.asarray(self.target.mode(np.moveaxis(position[:, keep_from:], -1, 0)))
                )
        if labels:
            num_modes = len(self.target.mode_weights)
            self.record["mode_rhat"][name] = diagnostics.mode_rhat(
                np.concatenate(labels), num_modes
            )

    def draw(self, name: str, kernel: AbstractTransition, starts: Vector, num_steps: int) -> Draws:
        """Draws of a kernel with progress; raises KeyboardInterrupt if they were."""
        draws = draw_chains(
            self.next_key(),
            kernel,
            kernel.init(starts, self.next_key()),
            num_draws=num_steps,
            progress=lambda event, _: self.run.progress(event._replace(phase=f"sample {name}")),
        )
        if not draws.completed:
            raise KeyboardInterrupt
        return draws

    def keep_curve(self, name: str, position: np.ndarray, row: dict[str, Any]) -> None:
        """Autocorrelation at some lags, against gradient evaluations of one chain."""
        cost = row["num_gradients"] / (row["num_chains"] * row["num_steps"])
        rho = diagnostics.autocorrelation(position, centre_of(self.target, position))
        last = max(1, min(len(rho) // 2, int(_MAX_LAG_GRADIENTS / cost)))
        lags = np.unique(np.concatenate([[0], np.geomspace(1, last, _CURVE_POINTS).astype(int)]))
        self.record["curves"][name] = {
            "gradients": _rounded(lags * cost),
            "values": _rounded(rho[lags]),
        }


def _rounded(values: np.ndarray) -> np.ndarray:
    """Four digits after the point: enough for a figure."""
    return np.round(np.asarray(values, np.float64), 4)
