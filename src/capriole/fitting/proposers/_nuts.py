"""NUTS as `capriole.fit` compares it: BlackJAX's, with its own adaptation, from the pilot's chains."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ... import diagnostics
from ...kernels import AbstractLogDensity, Key, Vector
from ...sampling import PeerDraws, run_nuts, to_tree
from .._settings import THINS
from .._tail_coverage import unreached
from .._verdict import NUTS, Row

if TYPE_CHECKING:
    import xarray

_CHAINS = 8
_WARMUP = 1000
_DENSE_UP_TO = 100
_MOST_NUMBERS = 2e8


def _run(key: Key, target: AbstractLogDensity, starts: Vector, *, num_draws: int) -> PeerDraws:
    dense = starts.shape[0] <= _DENSE_UP_TO
    return run_nuts(key, target, starts, num_draws=num_draws, num_warmup=_WARMUP, dense=dense)


def nuts_row(
    key: Key,
    target: AbstractLogDensity,
    position: Vector,
    marginals: list[dict[str, Any]],
    *,
    num_draws: int = 300,
) -> Row:
    """NUTS with a dense metric (diagonal above 100 dimensions), 8 chains from the pilot's
    ``position``, measured.

    It adapts for as long as when its draws are kept: with less it does half as well on many
    targets. Its draws are held against ``marginals`` (see `unreached`) as those of candidates are.
    """
    draws = _run(key, target, position[:, :_CHAINS], num_draws=num_draws)
    bulk, bulk_sq = diagnostics.bulk_ess(draws.position), diagnostics.bulk_ess_sq(draws.position)
    return Row(
        name=NUTS,
        num_leapfrogs=None,
        ess_per_gradient=float(np.min(bulk)) / draws.num_gradients,
        ess_sq_per_gradient=float(np.min(bulk_sq)) / draws.num_gradients,
        ess_per_second=float(min(np.min(bulk), np.min(bulk_sq))) / max(draws.seconds, 1e-9),
        acceptance_rate=draws.acceptance_rate,
        rhat_max=float(np.max(diagnostics.rhat(draws.position))),
        fixed_gradients=draws.warmup_gradients,
        fixed_seconds=draws.warmup_seconds + draws.compile_seconds,
        measured_gradients=draws.warmup_gradients + draws.num_gradients,
        reach=min((end.reach for end in unreached(draws.position, marginals)), default=1.0),
    )


def nuts_tree(
    key: Key,
    target: AbstractLogDensity,
    starts: Vector,
    marginals: list[dict[str, Any]],
    *,
    num_draws: int,
) -> tuple["xarray.DataTree", PeerDraws, int]:
    """Draws of NUTS from ``starts`` (dim, chains) as a DataTree; they as they are, and by how much
    they were thinned.

    While R-hat is above `diagnostics.rhat_limit`, or an end of ``marginals`` is missed, once more
    and longer, thinned to as many draws: as the learned kernel's runs. Runs given up count as
    warm-up.
    """
    gradients, seconds, compiling = 0, 0.0, 0.0
    for i, thin in enumerate(THINS):
        run = _run(jax.random.fold_in(key, 9 + i), target, starts, num_draws=thin * num_draws)
        kept = run.position[:, thin - 1 :: thin]
        draws = run._replace(
            position=kept,
            warmup_gradients=run.warmup_gradients + gradients,
            warmup_seconds=run.warmup_seconds + seconds,
            compile_seconds=run.compile_seconds + compiling,
        )
        longer = THINS[min(i + 1, len(THINS) - 1)]
        mixed = float(np.max(diagnostics.rhat(kept))) <= diagnostics.rhat_limit(*kept.shape)
        enough = mixed and not unreached(kept, marginals)
        if enough or longer * kept.size > _MOST_NUMBERS:
            break
        gradients = draws.warmup_gradients + run.num_gradients
        seconds, compiling = draws.warmup_seconds + run.seconds, draws.compile_seconds
    attributes = {
        "num_gradients": draws.num_gradients,
        "warmup_gradients": draws.warmup_gradients,
        "sampling_time": draws.seconds,
        "compile_seconds": draws.compile_seconds,
        "divergences": draws.divergences,
        "completed": 1,
    }
    return to_tree(target, draws.position, {}, attributes), draws, thin


def in_short(error: Exception) -> str:
    """The kind of an error and the first line of its words."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
