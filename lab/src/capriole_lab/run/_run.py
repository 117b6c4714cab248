"""One target from training to verdict: train, tune HMC, sample both, measure, draw."""

import platform
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capriole import diagnostics
from capriole.kernels import (
    AbstractTransition,
    ChainState,
    Mixture,
    StoppedForce,
    Transition,
    Vector,
    state_at,
)
from capriole.models import check_starts, load, trainable, versions
from capriole.runs import (
    CheckpointedTrainer,
    RunFolder,
    RunFolderError,
    StoredDraws,
    draw_chains_to_disk,
    number,
)
from capriole.runtime import Devices, OnProgress, Progress
from capriole.training import Recipe, TrainResult, adam, cooling, decay, train_best

from ..cells import describe
from ._ess import EssSoFar
from ._figures import write_figures
from ._keep import keep_best
from ._measure import measure
from ._recipes import hmc_move, make_companion, make_dynamics, make_objective, step_size_of
from ._sampled import Sampled
from ._settings import Settings
from ._stages import stored_pilot, stored_tuning
from ._tuning import paper_score, worst_score

_JUDGED = ("loss", "acceptance_rate", "is_skipped")


class Run:
    """A run in progress; each stage stores what it has, so that an interruption keeps all that was
    finished.

    ``target`` is a log density with ``dim`` and ``start(key, num)``; with ``sample``, ``mean``,
    ``variance`` or ``mode`` the corresponding figures are filled in. ``burn_in_weight`` is that of
    the loss's second expectation, over the target's own starts. The methods are the stages, in
    order. In a folder that already holds part of this run, a stage reads what is finished and goes
    on from the last checkpoint of what is not: so resuming is running again. ``origin`` (plain
    values) is kept in config.json to make the target again; a checkpoint is written when
    ``checkpoint_seconds`` have passed. Training and sampling divide their chains over ``devices``;
    of several processes the first one writes, and each does everything else itself.
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
        progress: OnProgress = None,
        origin: dict[str, Any] | None = None,
        checkpoint_seconds: float = 10.0,
        devices: Devices | None = None,
    ):
        self.burn_in_weight, self.devices = burn_in_weight, devices
        self.name, self.target, self.settings, self.folder = name, target, settings, folder
        self.show, self.checkpoint_seconds = progress or (lambda _: None), checkpoint_seconds
        keys = jax.random.split(jax.random.key(seed), 7)
        (
            self.start_key,
            self.pilot_key,
            self.build_key,
            self.train_key,
            self.tune_key,
            self.sample_key,
        ) = keys[:6]
        self.judge_key = keys[6]
        self.sampled: dict[str, Sampled] = {}
        self.results: dict[str, Any] = {
            "target": name,
            "preset": preset,
            "seed": seed,
            "versions": versions() | {"python": platform.python_version()},
            "device": describe(devices),
            "dtype": str(jnp.zeros(()).dtype),
            "completed": False,
            "training": None,
            "samplers": {},
            "ratios": {},
        }
        config = {
            "target": name,
            "preset": preset,
            "seed": seed,
            "origin": origin,
            "burn_in_weight": burn_in_weight,
        }
        if not (
            folder.path / "config.json"
        ).exists():  # before a new folder is taken: both may be mended
            check_starts(state_at(target, self._training_starts()))
            folder.check_space(self.num_bytes)
        folder.claim(config | settings.as_dict())
        self.checkpoints = folder.checkpoints

    def progress(self, event: Progress) -> None:
        """Log an event, then show it (which may raise KeyboardInterrupt to stop the run)."""
        self.folder.metrics.write(event)
        self.show(event)

    @property
    def num_bytes(self) -> int:
        """Bytes of all draws: positions, 6 floats and 11 bytes of flags and counts per step."""
        s, itemsize = self.settings, jnp.zeros(()).dtype.itemsize
        return (
            self._num_samplers
            * s.num_steps
            * s.num_chains
            * ((self.target.dim + 6) * itemsize + 11)
        )

    @property
    def _num_samplers(self) -> int:
        return 7 if hasattr(self.target, "mode") else 3

    def execute(self) -> dict[str, Any]:
        """All stages; raises KeyboardInterrupt, with everything stored, if one was stopped."""
        self.folder.check_space(self.num_bytes)
        result = self.train()
        self.sample(
            "l2hmc",
            self.kernel,
            self.settings.num_leapfrogs,
            float(step_size_of(result.transition)),
        )
        self.tune_and_sample_hmc()
        self.results["ratios"] = self._ratios()
        if self.folder.writes:
            self._draw(result)
        self.results["completed"] = True
        self._store()
        return self.results

    def train(self) -> TrainResult:
        """Pilot, candidates, training; stores the kernel."""
        s, target = self.settings, self.target
        position = self._training_starts()
        training_target, _ = trainable(target, position[:, 0])
        if s.stopped_force:
            training_target = StoppedForce(target)
        # At temperature 1 also for tempered training: the scales in the objective are those of the
        # target itself.
        pilot = self.pilot = stored_pilot(
            self.checkpoints, self.pilot_key, target, position, s.num_leapfrogs
        )
        recipe = Recipe(
            objective=make_objective(s, pilot),
            optimizer=adam(decay(s.learning_rate, num_steps=s.train_steps)),
            temperature=cooling(s.start_temperature, num_steps=int(0.7 * s.train_steps))
            if s.start_temperature != 1
            else None,
            burn_in=(lambda key: target.start(key, s.train_chains))
            if self.burn_in_weight
            else None,
            burn_in_weight=self.burn_in_weight,
            companion=make_companion(s, pilot),
        )
        candidates = [
            Transition(
                training_target,
                make_dynamics(jax.random.fold_in(self.build_key, i), s, pilot, target.dim),
            )
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
            trainer=CheckpointedTrainer(
                self.checkpoints,
                seconds=self.checkpoint_seconds,
                log=self.folder.metrics,
                devices=self.devices,
            ),
        )
        start = candidates[0].dynamics if s.start != "hmc" and result.completed else None
        result, kept = keep_best(self.judge_key, result, self.target, start)
        self.kernel: AbstractTransition = result.transition
        if s.hmc_share:
            companion = hmc_move(s, pilot, result.transition.target)
            self.kernel = Mixture((result.transition, companion), (1 - s.hmc_share, s.hmc_share))
        self.folder.write_kernel(self.kernel, dim=target.dim)
        problems = diagnostics.training_health(*(result.history[name] for name in _JUDGED))
        self.results["training"] = {
            "seconds": result.seconds,
            "compile_seconds": result.compile_seconds,
            "steps": len(result.history["loss"]),
            "num_gradients": result.num_gradients + pilot.num_gradients,
            "skipped_updates": result.skipped_updates,
            "rollbacks": result.rollbacks,
            "kept": kept,
            "step_size": float(step_size_of(result.transition)),
            "warnings": [str(problem) for problem in problems],
        }
        self.history = result.history
        self._store()
        if not result.completed:
            raise KeyboardInterrupt
        return result

    def tune_and_sample_hmc(self) -> None:
        """HMC at the same M, tuned for worst bulk ESS (``hmc``) and the paper's (``hmc_paper``)."""
        s = self.settings
        starts = self._starts("tuning", s.tuning_chains)
        for name, score in (
            ("hmc", worst_score(self.target)),
            ("hmc_paper", paper_score(self.target)),
        ):
            stage = f"tune-{name}"
            if self.checkpoints.read(stage) is None:
                self.folder.metrics.rewind(f"tune {name}", 0)
            tuning = stored_tuning(
                self.checkpoints,
                stage,
                self.tune_key,
                self.target,
                starts,
                score,
                num_leapfrogs=s.num_leapfrogs,
                num_draws=s.tuning_steps,
                num_warmup=s.tuning_steps // 10,
                progress=lambda event, _, name=name: self.progress(
                    event._replace(phase=f"tune {name}")
                ),
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
        """Each row shows the better of the two kernels, as finally measured: tuning is noisy."""
        rows = self.results["samplers"]
        scores = {"hmc": fast_min_ess, "hmc_paper": lambda row: row["paper_ess_per_step"]}
        best = {
            name: max(
                scores, key=lambda other, score=score: np.nan_to_num(score(rows[other]), nan=-1.0)
            )
            for name, score in scores.items()
        }
        kept = {name: (rows[winner], self.sampled[winner]) for name, winner in best.items()}
        for name, (row, sampled) in kept.items():
            rows[name], self.sampled[name] = row | {"tuned_for": best[name]}, sampled

    def sample(
        self, name: str, kernel: AbstractTransition, num_leapfrogs: int, step_size: float
    ) -> None:
        """Sample from exact starts or the pilot's; with modes also dispersed and from one mode."""
        exact = hasattr(self.target, "sample")
        self._sample_once(name, kernel, "exact" if exact else "pilot", num_leapfrogs, step_size)
        if hasattr(self.target, "mode") and name in ("l2hmc", "hmc"):
            for start in ("dispersed", "one_mode"):
                self._sample_once(f"{name}_{start}", kernel, start, num_leapfrogs, step_size)

    def _sample_once(
        self,
        name: str,
        kernel: AbstractTransition,
        start: str,
        num_leapfrogs: int,
        step_size: float,
    ) -> None:
        s = self.settings
        state = kernel.init(self._starts(start, s.num_chains))
        check_starts(state)
        streamed = self._stream(name, kernel, state, len(self.sampled), s.num_steps)
        if not streamed.completed:
            raise KeyboardInterrupt
        self._judge(name, streamed, start, num_leapfrogs, step_size)

    def extend(self, num_steps: int) -> dict[str, Any]:
        """``num_steps`` more draws of a finished run; 0 finishes a stopped extension."""
        results, found = (
            self.folder.read_json("results.json"),
            self.checkpoints.read("sample-l2hmc"),
        )
        if results.get("completed") is not True or found is None:
            raise RunFolderError(
                f"the run in {self.folder.path} is not finished; resume it before extending it"
            )
        self.results = results
        s, target = self.settings, self.target
        self.pilot = stored_pilot(
            self.checkpoints, self.pilot_key, target, self._training_starts(), s.num_leapfrogs
        )
        goal = max(number(found.facts, "goal"), found.step) + num_steps
        self.folder.check_space(goal * self.num_bytes // s.num_steps // self._num_samplers)
        start = "exact" if hasattr(target, "sample") else "pilot"
        kernel = load(self.folder.path / "kernel.safetensors", target)
        streamed = self._stream(
            "l2hmc", kernel, kernel.init(self._starts(start, s.num_chains)), 0, goal
        )
        if not streamed.completed:
            raise KeyboardInterrupt
        self._judge("l2hmc", streamed, start, s.num_leapfrogs, float(step_size_of(kernel)))
        self.results["ratios"] = self._ratios()
        self._store()
        return self.results

    def _stream(
        self, name: str, kernel: AbstractTransition, state: ChainState, index: int, num_draws: int
    ) -> StoredDraws:
        stage = f"sample-{re.sub('[^a-z0-9_-]', '-', name.lower())}"
        done = self.checkpoints.read(stage)
        self.folder.metrics.rewind(f"sample {name}", 0 if done is None else done.step)
        return draw_chains_to_disk(
            jax.random.fold_in(self.sample_key, index),
            kernel,
            state,
            self.folder.draws_path(name, main=name == "l2hmc"),
            self.checkpoints,
            num_draws=num_draws,
            stage=stage,
            seconds=self.checkpoint_seconds,
            devices=self.devices,
            progress=EssSoFar(name, self.progress),
        )

    def _judge(
        self, name: str, streamed: StoredDraws, start: str, num_leapfrogs: int, step_size: float
    ) -> None:
        """Fill the row of a sampler from its draws on disk, and annotate these."""
        keep_from = 0 if start == "exact" else self.settings.num_steps // 4
        item = Sampled.of(
            streamed, num_leapfrogs=num_leapfrogs, step_size=step_size, keep_from=keep_from
        )
        self.sampled[name] = item
        row = measure(
            item.draws,
            self.target,
            num_leapfrogs=item.num_leapfrogs,
            step_size=item.step_size,
            keep_from=item.keep_from,
            counted=item.tally(keep_from),
        )
        store = item.streamed.store
        self.results["samplers"][name] = row | {"start": start, "num_draws_stored": store.committed}
        store.annotate(
            {f"{package}_version": version for package, version in versions().items()}
            | {
                "inference_library": "capriole",
                "target": self.name,
                "completed": 1,
                "warnings": row["warnings"],
            }
            | {
                "sampling_time": item.streamed.seconds,
                "compile_seconds": item.streamed.compile_seconds,
            }
        )
        self._store()

    def _starts(self, kind: str, num: int) -> Vector:
        key = jax.random.fold_in(
            self.start_key,
            {"exact": 1, "dispersed": 2, "one_mode": 3, "pilot": 4, "tuning": 5}[kind],
        )
        if kind == "one_mode":
            return self.target.sample_mode(key, num, 0)
        if kind == "dispersed":
            return self.target.start(key, num)
        if kind == "pilot" or not hasattr(self.target, "sample"):
            pool = self.pilot.state.position
            return pool[
                :, jax.random.choice(key, pool.shape[1], (num,), replace=num > pool.shape[1])
            ]
        return self.target.sample(key, num)

    def _training_starts(self) -> Vector:
        s, key = self.settings, jax.random.fold_in(self.start_key, 0)
        starts = self.target.start(key, s.train_chains)
        if not s.start_scale:
            return starts
        return (
            s.start_scale
            * jax.random.normal(key, (s.train_chains, self.target.dim), starts.dtype).T
        )

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
        costs = {
            name: item.draws.num_gradients / item.draws.record.lp.size
            for name, item in self.sampled.items()
        }
        write_figures(self.folder, self.target, result.history, draws, costs)


def fast_min_ess(row: dict[str, Any]) -> float:
    """Worst dimension's bulk ESS per gradient, of x and of its square."""
    return min(row["bulk_ess_per_gradient"], row["bulk_ess_sq_per_gradient"])


def _ratio(a: dict[str, Any], b: dict[str, Any], name: str) -> float:
    return a[name] / b[name] if b[name] else float("nan")
