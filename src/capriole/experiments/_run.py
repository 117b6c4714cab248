"""One target from training to verdict: train, tune HMC, sample both, measure, draw, write everything down."""

import math
import platform
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._candidates import train_best
from .._check import check_starts, trainable
from .._dynamics import AbstractDynamics, LearnedLeapfrog, learned_leapfrog, rotation_step_sizes
from .._front import to_datatree
from .._io import versions
from .._judge import judge
from .._logdensity import StoppedForce
from .._pilot import Pilot, run_pilot
from .._sample import Draws, Record, draw_chains
from .._starts import surrogate_force
from .._train import Progress, Recipe, TrainResult, adam, cooling, decay
from .._transition import AbstractTransition, Mixture, Transition, state_at
from .._types import Key, Vector
from ..baselines import tune_hmc
from ..runs import RunFolder
from ._figures import write_figures
from ._measure import measure
from ._recipes import hmc_move, make_companion, make_objective
from ._settings import Settings
from ._tuning import paper_score, worst_score

type OnProgress = Callable[[Progress], None]


class Sampled(NamedTuple):
    """One sampler's draws with the facts that its row needs."""

    draws: Draws
    num_leapfrogs: int
    step_size: float
    keep_from: int


class Run:
    """A run in progress; each stage stores what it has, so that an interruption keeps all that was finished.

    ``target`` is a log density with ``dim`` and ``start(key, num)``; with ``sample``, ``mean``, ``variance`` or
    ``mode`` the corresponding figures are filled in. ``burn_in_weight`` is that of the loss's second expectation, over
    the target's own starts. The methods are the stages, in order.
    """

    def __init__(
        self,
        name: str,
        target: Any,
        settings: Settings,
        folder: RunFolder,
        *,
        preset: str,
        seed: int,
        burn_in_weight: float = 0.0,
        progress: OnProgress | None = None,
    ):
        self.burn_in_weight = burn_in_weight
        self.name, self.target, self.settings, self.folder = name, target, settings, folder
        self.progress = progress or (lambda _: None)
        keys = jax.random.split(jax.random.key(seed), 7)
        self.start_key, self.pilot_key, self.build_key, self.train_key, self.tune_key, self.sample_key = keys[:6]
        self.judge_key = keys[6]
        self.sampled: dict[str, Sampled] = {}
        device = jax.devices()[0]
        self.results: dict[str, Any] = {
            "target": name,
            "preset": preset,
            "seed": seed,
            "versions": versions() | {"python": platform.python_version()},
            "device": f"{device.platform} {device.device_kind} ({_cores()} cores)",
            "dtype": str(jnp.zeros(()).dtype),
            "completed": False,
            "training": None,
            "samplers": {},
            "ratios": {},
        }
        folder.write_json("config.json", {"target": name, "preset": preset, "seed": seed} | settings.as_dict())

    def execute(self) -> dict[str, Any]:
        """All stages; raises KeyboardInterrupt, with everything so far stored, if one was interrupted."""
        result = self.train()
        self.sample("l2hmc", self.kernel, self.settings.num_leapfrogs, float(step_size_of(result.transition)))
        self.tune_and_sample_hmc()
        self.results["ratios"] = self._ratios()
        self.results["completed"] = True
        self._store()
        self._draw(result)
        return self.results

    def train(self) -> TrainResult:
        """Pilot, candidates, training; stores the kernel."""
        s, target = self.settings, self.target
        position = self._training_starts()
        check_starts(state_at(target, position))
        training_target, _ = trainable(target, position[:, 0])
        if s.stopped_force:
            training_target = StoppedForce(target)
        # At temperature 1 also for tempered training: the scales in the objective are those of the target itself.
        pilot = run_pilot(self.pilot_key, target, position, num_leapfrogs=s.num_leapfrogs)
        self.pilot = pilot
        recipe = Recipe(
            objective=make_objective(s, pilot),
            optimizer=adam(decay(s.learning_rate, num_steps=s.train_steps)),
            temperature=cooling(s.start_temperature, num_steps=int(0.7 * s.train_steps))
            if s.start_temperature != 1
            else None,
            burn_in=(lambda key: target.start(key, s.train_chains)) if self.burn_in_weight else None,
            burn_in_weight=self.burn_in_weight,
            companion=make_companion(s, pilot),
        )
        candidates = [
            Transition(training_target, self._dynamics(jax.random.fold_in(self.build_key, i), pilot))
            for i in range(s.candidates)
        ]
        result = train_best(
            self.train_key,
            candidates,
            pilot.state.position,
            recipe,
            num_steps=s.train_steps,
            candidate_steps=s.candidate_steps,
            progress=self.progress,
        )
        result, kept = self._keep_best(result, candidates[0].dynamics)
        self.kernel: AbstractTransition = result.transition
        if s.hmc_share:
            companion = hmc_move(s, pilot, target)
            self.kernel = Mixture((result.transition, companion), (1 - s.hmc_share, s.hmc_share))
        self.folder.write_kernel(self.kernel, dim=target.dim)
        self.results["training"] = {
            "seconds": result.seconds,
            "compile_seconds": result.compile_seconds,
            "steps": len(result.history["loss"]),
            "num_gradients": result.num_gradients + pilot.num_gradients,
            "skipped_updates": result.skipped_updates,
            "rollbacks": result.rollbacks,
            "kept": kept,
            "step_size": float(step_size_of(result.transition)),
        }
        self.history = result.history
        self._store()
        if not result.completed:
            raise KeyboardInterrupt
        return result

    def _keep_best(self, result: TrainResult, start: AbstractDynamics) -> tuple[TrainResult, dict[str, Any]]:
        """Training never returns a kernel that measures worse than its start, where that start is a good one."""
        trained = Transition(self.target, result.transition.dynamics)
        if self.settings.start == "hmc":
            return result._replace(transition=trained), {"which": "trained"}
        kernels = {"trained": trained, "start": Transition(self.target, start)}
        position = result.chains.position[:, :64]
        scores = {name: judge(self.judge_key, kernel, position).worst for name, kernel in kernels.items()}
        best = max(scores, key=lambda name: scores[name])
        return result._replace(transition=kernels[best]), {"which": best, "ess_per_gradient": scores}

    def tune_and_sample_hmc(self) -> None:
        """HMC at the same M, tuned for worst-dimension bulk ESS (``hmc``) and for the paper's ESS (``hmc_paper``)."""
        s = self.settings
        starts = self._starts("tuning", s.tuning_chains)
        for name, score in (("hmc", worst_score(self.target)), ("hmc_paper", paper_score(self.target))):
            tuning = tune_hmc(
                self.tune_key,
                self.target,
                starts,
                score,
                num_leapfrogs=s.num_leapfrogs,
                num_draws=s.tuning_steps,
                num_warmup=s.tuning_steps // 10,
            )
            self.results.setdefault("hmc_tuning", {})[name] = {
                "step_sizes": tuning.step_sizes,
                "scores": tuning.scores,
                "acceptance_rates": tuning.acceptance_rates,
                "num_gradients": tuning.num_gradients,
            }
            self.sample(name, tuning.transition, s.num_leapfrogs, tuning.step_size)
        self._keep_the_better()

    def _keep_the_better(self) -> None:
        """Tuning is noisy where HMC hardly mixes: each row shows the better of the two kernels, as finally measured."""
        rows = self.results["samplers"]
        scores = {"hmc": worst_ess, "hmc_paper": lambda row: row["paper_ess_per_step"]}
        best = {
            name: max(scores, key=lambda other, score=score: np.nan_to_num(score(rows[other]), nan=-1.0))
            for name, score in scores.items()
        }
        kept = {name: (rows[winner], self.sampled[winner]) for name, winner in best.items()}
        for name, (row, sampled) in kept.items():
            rows[name], self.sampled[name] = row | {"tuned_for": best[name]}, sampled

    def sample(self, name: str, kernel: AbstractTransition, num_leapfrogs: int, step_size: float) -> None:
        """Sample from exact starts or, without them, the pilot's; with modes also dispersed and from one mode."""
        exact = hasattr(self.target, "sample")
        self._sample_once(name, kernel, "exact" if exact else "pilot", num_leapfrogs, step_size)
        if hasattr(self.target, "mode") and name in ("l2hmc", "hmc"):
            for start in ("dispersed", "one_mode"):
                self._sample_once(f"{name}_{start}", kernel, start, num_leapfrogs, step_size)

    def _sample_once(
        self, name: str, kernel: AbstractTransition, start: str, num_leapfrogs: int, step_size: float
    ) -> None:
        s = self.settings
        state = kernel.init(self._starts(start, s.num_chains))
        check_starts(state)
        keep_from = 0 if start == "exact" else s.num_steps // 4
        draws = draw_chains(
            jax.random.fold_in(self.sample_key, len(self.sampled)),
            kernel,
            state,
            num_draws=s.num_steps,
            chunk_size=max(1, min(200, s.num_steps)),
            progress=EssSoFar(name, self.progress),
        )
        keep_from = keep_from if draws.completed else 0
        self.sampled[name] = Sampled(draws, num_leapfrogs, step_size, keep_from)
        row = measure(draws, self.target, num_leapfrogs=num_leapfrogs, step_size=step_size, keep_from=keep_from)
        self.results["samplers"][name] = row | {"start": start}
        if name == "l2hmc":
            self.folder.write_draws(to_datatree(draws, self.target, target=self.name))
        self._store()
        if not draws.completed:
            raise KeyboardInterrupt

    def _starts(self, kind: str, num: int) -> Vector:
        key = jax.random.fold_in(
            self.start_key, {"exact": 1, "dispersed": 2, "one_mode": 3, "pilot": 4, "tuning": 5}[kind]
        )
        if kind == "one_mode":
            return self.target.sample_mode(key, num, 0)
        if kind == "dispersed":
            return self.target.start(key, num)
        if kind == "pilot" or not hasattr(self.target, "sample"):
            pool = self.pilot.state.position
            return pool[:, jax.random.choice(key, pool.shape[1], (num,), replace=num > pool.shape[1])]
        return self.target.sample(key, num)

    def _training_starts(self) -> Vector:
        s, key = self.settings, jax.random.fold_in(self.start_key, 0)
        starts = self.target.start(key, s.train_chains)
        if not s.start_scale:
            return starts
        return s.start_scale * jax.random.normal(key, (s.train_chains, self.target.dim), starts.dtype).T

    def _dynamics(self, key: Key, pilot: Pilot) -> LearnedLeapfrog:
        s = self.settings
        dtype = pilot.state.position.dtype
        turn = rotation_step_sizes(math.pi / 2, s.num_leapfrogs)
        made = learned_leapfrog(
            key,
            dim=self.target.dim,
            num_leapfrogs=s.num_leapfrogs,
            width=s.width,
            step_size=turn if s.start == "surrogate" else s.step_size or float(pilot.step_size),
            squashed=s.squashed,
            dtype=dtype,
        )
        return surrogate_force(made, mean=pilot.mean, variance=pilot.variance) if s.start == "surrogate" else made

    def _ratios(self) -> dict[str, float]:
        rows = self.results["samplers"]
        learned, best, paper = rows["l2hmc"], rows["hmc"], rows["hmc_paper"]
        return {
            "paper_ess_per_step_vs_hmc": _ratio(learned, paper, "paper_ess_per_step"),
            "bulk_ess_per_gradient_vs_hmc": _ratio(learned, best, "bulk_ess_per_gradient"),
            "bulk_ess_sq_per_gradient_vs_hmc": _ratio(learned, best, "bulk_ess_sq_per_gradient"),
        }

    def _store(self) -> None:
        self.folder.write_json("results.json", self.results)

    def _draw(self, result: TrainResult) -> None:
        draws = {name: item.draws.record.position for name, item in self.sampled.items()}
        costs = {name: item.draws.num_gradients / item.draws.record.lp.size for name, item in self.sampled.items()}
        write_figures(self.folder, self.target, result.history, draws, costs)


class EssSoFar:
    """Adds the effective sample size so far (worst dimension, over at most 16 chains) to sampling progress."""

    def __init__(self, name: str, progress: OnProgress):
        self.name, self.progress = name, progress
        self.blocks: list[np.ndarray] = []

    def __call__(self, event: Progress, record: Record) -> None:
        """Forward the event with ``ess`` and ``ess_chains`` among its metrics."""
        from .. import diagnostics

        self.blocks.append(np.moveaxis(record.position[:, :, :16], 2, 0))
        so_far = np.concatenate(self.blocks, axis=1)
        metrics = event.metrics | {"ess": float(np.min(diagnostics.bulk_ess(so_far))), "ess_chains": so_far.shape[0]}
        self.progress(event._replace(phase=f"sample {self.name}", metrics=metrics))


def step_size_of(transition: Transition) -> Any:
    """The step size of a learned leapfrog; the geometric mean of two."""
    return jnp.exp(jnp.mean(transition.dynamics.log_step_size))  # type: ignore[attr-defined]


def worst_ess(row: dict[str, Any]) -> float:
    """Worst dimension's bulk ESS per gradient, of x and of its square."""
    return min(row["bulk_ess_per_gradient"], row["bulk_ess_sq_per_gradient"])


def _ratio(a: dict[str, Any], b: dict[str, Any], name: str) -> float:
    return a[name] / b[name] if b[name] else float("nan")


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
