"""HMC for section 5.1: tuned at the paper's length, and at the length that suits it best."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from capriole.kernels import AbstractTransition

from ..baselines import HMCTuning, TuningError, tune_hmc
from ..run._run import fast_min_ess
from ..run._tuning import mixed_score, paper_score, worst_score
from ._state import CellState


class LengthTuning(NamedTuple):
    """The best length with its step size; every length tried with its best score per gradient."""

    transition: AbstractTransition
    num_leapfrogs: int
    step_size: float
    scores: dict[int, float]


def tune_sizes(cell: CellState) -> dict[str, HMCTuning]:
    """HMC at the paper's M: ``hmc`` for worst bulk ESS, ``hmc_paper`` for the paper's."""
    scores: dict[str, Callable] = {
        "hmc": worst_score(cell.target),
        "hmc_paper": paper_score(cell.target),
    }
    starts = cell.starts("exact", cell.toy.tuning_chains)
    return {
        name: tune_hmc(
            cell.next_key(),
            cell.target,
            starts,
            score,
            num_leapfrogs=cell.toy.paper_leapfrogs,
            num_draws=cell.toy.tuning_steps,
            num_warmup=cell.toy.tuning_steps // 10,
        )
        for name, score in scores.items()
    }


def keep_the_better(rows: dict[str, Any], *others: dict[str, Any]) -> None:
    """Tuning is noisy where HMC hardly mixes: of both kernels at the paper's M, each row shows the
    better as measured.

    ``others`` are the dictionaries that hold more of the same samplers, and follow.
    """
    scores: dict[str, Callable] = {
        "hmc": fast_min_ess,
        "hmc_paper": lambda row: row["paper_ess_per_step"],
    }
    best = {
        n: max(scores, key=lambda o, n=n: np.nan_to_num(scores[n](rows[o]), nan=-1.0))
        for n in scores
    }
    for table in (rows, *others):
        if scores.keys() <= table.keys():
            table.update({name: table[best[name]] for name in scores})


def tune_length(cell: CellState, at_paper_length: HMCTuning) -> LengthTuning:
    """Best ESS per gradient over lengths, each with jittered step sizes over a factor 20 up to the
    largest usable one.

    That is the largest that HMC at the paper's length accepts now and then (5 %).
    """
    toy, score, key = cell.toy, mixed_score(cell.target), cell.next_key()
    usable = at_paper_length.step_sizes[at_paper_length.acceptance_rates > 0.05]
    largest = float(usable.max()) if usable.size else at_paper_length.step_size
    starts = cell.starts("exact", toy.tuning_chains)
    found: dict[int, HMCTuning] = {}
    for i, length in enumerate(toy.lengths):
        with contextlib.suppress(
            TuningError
        ):  # no step size of the grid is ever accepted at this length
            found[length] = tune_hmc(
                jax.random.fold_in(key, i),
                cell.target,
                starts,
                score,
                num_leapfrogs=length,
                step_sizes=np.geomspace(largest / 20, largest, toy.num_sizes),
                jitter=toy.jitter,
                num_draws=toy.tuning_steps,
                num_warmup=toy.tuning_steps // 10,
            )
    found = found or {toy.paper_leapfrogs: at_paper_length}
    draws = toy.tuning_chains * toy.tuning_steps
    rates = {
        length: float(np.nanmax(tuning.scores)) / (length * draws)
        for length, tuning in found.items()
    }
    best = max(rates, key=lambda length: rates[length])
    return LengthTuning(found[best].transition, best, found[best].step_size, rates)
