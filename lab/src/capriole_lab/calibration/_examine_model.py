"""Models that can be simulated: exact tests (Gandy and Scott), simulation-based calibration."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.coordinates import from_user, to_user
from capriole.kernels import AbstractTransition, Key
from capriole.sampling import draw_chains, run_hmc_warmup

from ._cases import KERNEL, Case, cases, row, verdict
from ._controls import spoiled
from ._exact import reversible_path, sequential
from ._models import AbstractModel, Posterior, retargeted
from ._settings import SHARE, CalibrateSettings
from ._statistics import (
    autocorrelation_times,
    chi_square_p,
    ecdf_band,
    ecdf_p,
    randomised_ranks,
    two_sample_p,
)
from ._walk import walk

RANK_TEST, TWO_SAMPLE, SBC = "rank test", "two samples", "calibration"
IGNORES_DATA = "draws of the prior"
_SBC_POWER = 1.2

type Quantities = dict[str, np.ndarray]


@eqx.filter_jit
def _stacked(
    model: AbstractModel, positions: Float[Array, "draws dim chains"], data: Array
) -> dict[str, Array]:
    return jax.vmap(lambda position: model.quantities(position, data))(positions)


class Examination:
    """A model, its kernel and the work to do; a test takes a case and gives its row."""

    def __init__(
        self,
        model: AbstractModel,
        kernel: AbstractTransition,
        key: Key,
        settings: CalibrateSettings,
    ):
        self.model, self.kernel, self.settings = model, kernel, settings
        self.rank_key, self.sample_key, self.sbc_key = jax.random.split(key, 3)
        self.rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        self.thin = 1
        self.counts: dict[str, dict[str, list[int]]] = {}

    def diagnose_logdensity(self) -> dict[str, Any]:
        """The rows of all cases under all procedures, and what figures need."""
        rows = []
        for i, case in enumerate(cases(self.kernel, slight=False)):
            rows += [self.rank_test(case, i), self.two_samples(case, i)]
            # Slight biases are left to the exact tests: where those are blind, so are some hundred
            # ranks.
            if case.expected != "measure" or case.power >= _SBC_POWER:
                rows.append(self.calibrate(case, i))
        rows.append(self.ignore_data())
        s = self.settings
        band = ecdf_band(s.num_sets, s.num_ranked + 1, SHARE / len(rows[0]["p_values"]))
        drawn = {
            "counts": self.counts,
            "low": band.low.tolist(),
            "high": band.high.tolist(),
            "num": s.num_sets,
        }
        return {"rows": rows, "calibration": drawn}

    def kernel_of(self, case: Case, data: Array) -> AbstractTransition:
        """The case's kernel for data sets (rows, chains)."""
        density = Posterior(self.model, data, jnp.asarray(case.power))
        kernel = retargeted(case.of(self.kernel), density, data)
        return kernel if case.bug is None else spoiled(kernel, case.bug)

    def quantities(self, positions: Float[Array, "draws dim chains"], data: Array) -> Quantities:
        """What is ranked, (draws, chains) each."""
        return {
            name: np.asarray(value) for name, value in _stacked(self.model, positions, data).items()
        }

    def rank_test(self, case: Case, number: int) -> dict[str, Any]:
        """Where on a path through an exact draw does that draw rank?"""
        length = self.settings.path_length
        key = jax.random.fold_in(self.rank_key, number)

        def ranks(batch: Key) -> Quantities:
            joint_key, place_key, path_key = jax.random.split(batch, 3)
            start, data = self.model.draw(joint_key, self.settings.replicates)
            kernel = self.kernel_of(case, data)
            place = jax.random.randint(place_key, (start.shape[1],), 0, length)
            state = kernel.init(from_user(kernel.target, start))
            path = reversible_path(path_key, kernel, state, place, length)
            path = jax.vmap(lambda position: to_user(kernel.target, position))(path)
            return {
                name: self._rank(values, np.asarray(place))
                for name, values in self.quantities(path, data).items()
            }

        def p_values(stage: int, num: int) -> dict[str, float]:
            found = self._batches(jax.random.fold_in(key, stage), num, ranks)
            return {name: chi_square_p(values, length) for name, values in found.items()}

        return self._sequentially(RANK_TEST, case, p_values)

    def _rank(self, values: np.ndarray, place: np.ndarray) -> np.ndarray:
        chains = np.arange(len(place))
        own, others = values[place, chains], values.copy()
        others[place, chains] = np.inf
        return randomised_ranks(own, others, self.rng)

    def two_samples(self, case: Case, number: int) -> dict[str, Any]:
        """Are parameters moved by the kernel, and their data, still joint draws?"""
        key = jax.random.fold_in(self.sample_key, number)
        left: list[float] = []

        def moved(batch: Key) -> Quantities:
            joint_key, walk_key, fresh_key = jax.random.split(batch, 3)
            start, data = self.model.draw(joint_key, self.settings.replicates)
            found = walk(
                walk_key, self.kernel_of(case, data), start, num_steps=self.settings.num_steps
            )
            before = np.asarray(start)
            near = np.abs(found.end - before) <= 1e-6 * before.std(
                axis=1, keepdims=True
            )  # as rounding may move it
            left.append(1 - float(near.all(axis=0).mean()))
            fresh, fresh_data = self.model.draw(fresh_key, self.settings.replicates)
            pairs = (
                self.quantities(x[None], y)
                for x, y in ((jnp.asarray(found.end), data), (fresh, fresh_data))
            )
            one, other = pairs
            return {name: np.concatenate([one[name], other[name]]) for name in one}

        def p_values(stage: int, num: int) -> dict[str, float]:
            found = self._batches(jax.random.fold_in(key, stage), num, moved)
            return {name: two_sample_p(*values) for name, values in found.items()}

        return self._sequentially(TWO_SAMPLE, case, p_values) | {"moved": float(np.mean(left))}

    def _batches(self, key: Key, num: int, run: Callable[[Key], Quantities]) -> Quantities:
        """``num`` replicates, a batch after another of one shape, which compiles once."""
        batches = [run(jax.random.fold_in(key, i)) for i in range(num // self.settings.replicates)]
        return {
            name: np.concatenate([batch[name] for batch in batches], axis=-1) for name in batches[0]
        }

    def _sequentially(
        self, procedure: str, case: Case, p_values: Callable[[int, int], dict[str, float]]
    ) -> dict[str, Any]:
        found = sequential(p_values, level=SHARE, first=self.settings.replicates)
        facts = {"num_stages": found.num_stages, "num_replicates": found.num_replicates}
        return verdict(procedure, case, found.p_values, not found.passed, **facts)

    def calibrate(self, case: Case, number: int) -> dict[str, Any]:
        """Simulation-based calibration: the rank of the truth among thinned draws of a chain that
        began elsewhere.

        Wrong kernels are thinned like the sound one that precedes them.
        """
        s = self.settings
        keys = jax.random.split(jax.random.fold_in(self.sbc_key, number), 5)
        truth, data = self.model.draw(keys[0], s.num_sets)
        kernel = self.kernel_of(case, data)
        start = from_user(kernel.target, self.model.draw_prior(keys[1], s.num_sets))
        state = run_hmc_warmup(
            keys[2], kernel.target, start, num_leapfrogs=8, num_steps=s.num_warmup
        ).state
        if case.expected == "pass":
            probe = draw_chains(
                keys[3], kernel, state, num_draws=2 * s.num_probe, chunk_size=2 * s.num_probe
            )
            times = self._times(
                self._of_draws(probe.record.position[:, s.num_probe :], kernel, data)
            )
            self.thin = min(math.ceil(np.quantile(times, 0.95)), s.max_thin)
        num_warmup = math.ceil(s.num_warmup / self.thin)
        draws = draw_chains(
            keys[4],
            kernel,
            state,
            num_draws=num_warmup + s.num_ranked,
            thin=self.thin,
            chunk_size=num_warmup + s.num_ranked,
        )
        ranked = self._of_draws(draws.record.position[:, num_warmup:], kernel, data)
        effective = s.num_ranked / self._times(ranked)
        low, median = np.quantile(effective, [0.05, 0.5])
        return self._ranked(
            case, truth, data, ranked, thin=self.thin, low_ess=float(low), median_ess=float(median)
        )

    def ignore_data(self) -> dict[str, Any]:
        """A sampler that returns the prior: only what depends on the data shows it."""
        s, (joint_key, draw_key) = (
            self.settings,
            jax.random.split(jax.random.fold_in(self.sbc_key, 10_000)),
        )
        truth, data = self.model.draw(joint_key, s.num_sets)
        drawn = self.model.draw_prior(draw_key, s.num_sets * s.num_ranked).reshape(
            self.model.dim, s.num_ranked, -1
        )
        ranked = self.quantities(drawn.transpose(1, 0, 2), data)
        return self._ranked(Case(IGNORES_DATA, "reject", power=0.0), truth, data, ranked)

    def _of_draws(
        self, position: np.ndarray, kernel: AbstractTransition, data: Array
    ) -> Quantities:
        """Quantities (draws, chains) of draws (chains, draws, dim)."""
        moved = jax.vmap(lambda x: to_user(kernel.target, x))(
            jnp.asarray(position.transpose(1, 2, 0))
        )
        return self.quantities(moved, data)

    def _times(self, values: Quantities) -> np.ndarray:
        """Steps per effective draw of every chain, in the slowest quantity."""
        return np.max([autocorrelation_times(each.T) for each in values.values()], axis=0)

    def _ranked(
        self, case: Case, truth: Array, data: Array, ranked: Quantities, **facts: Any
    ) -> dict[str, Any]:
        own, num_values = self.quantities(truth[None], data), self.settings.num_ranked + 1
        ranks = {
            name: randomised_ranks(own[name][0], values, self.rng)
            for name, values in ranked.items()
        }
        if case.name in (KERNEL, IGNORES_DATA):
            self.counts[case.name] = {
                n: np.bincount(r, minlength=num_values).tolist() for n, r in ranks.items()
            }
        return row(
            SBC, case, {name: ecdf_p(values, num_values) for name, values in ranks.items()}, **facts
        )
