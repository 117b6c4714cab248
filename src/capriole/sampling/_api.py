"""``capriole.sample``: from a frozen kernel to draws."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..coordinates import from_user, users
from ..kernels import AbstractLogDensity, AbstractTransition, Key, State, Vector
from ..models import check_count, check_starts, model_of, precision
from ..runtime import Devices, Progress
from ._draw import Record, draw_chains
from ._groups import check_groups, complete
from ._hmc_warmup import run_hmc_warmup
from ._initial import as_key, prepare
from ._tree import to_datatree

if TYPE_CHECKING:
    import xarray

log = logging.getLogger("capriole")


def sample(
    transition: AbstractTransition,
    init: Any = None,
    *,
    starts: Any = None,
    seed: int | Key = 0,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_warmup: int = 200,
    thin: int = 1,
    spread: float = 1.0,
    chunk_size: int = 200,
    devices: Devices | None = None,
    groups: Sequence[str] = (),
    progress: Callable[[Progress, Record], None] | None = None,
) -> "xarray.DataTree":
    """Draw from the target of a frozen kernel.

    A warm-up of plain HMC, whose step size adapts, brings the chains to the typical set and is
    discarded. The draws come from ``transition`` alone, and nothing adapts while they are kept.
    Ctrl-C ends the run after a whole chunk and returns what is there.

    Args:
        transition: the kernel, for example of `capriole.train` or `capriole.load`.
        init: one position of the log density (any pytree); chains start at
            ``init + spread * N(0, I)``. None: that of the model, or the log density has starts of
            its own.
        starts: exact starting positions instead, flat, shape (dim, chains).
        seed: a whole number or a random key.
        num_chains: number of chains; ``starts`` says it otherwise.
        num_draws: draws per chain to keep.
        num_warmup: steps of HMC warm-up.
        thin: steps per draw.
        spread: standard deviation of the starts around ``init``, in its units.
        chunk_size: draws per compiled chunk.
        devices: devices to divide the chains evenly over, for example ``jax.devices()``.
        groups: of a model's kernel, what to add: "log_likelihood", "posterior_predictive".
        progress: called after every chunk with its draws.

    Returns:
        A tree in ArviZ's layout. ``posterior`` has one variable per leaf of the user's pytree, dims
        ``(chain, draw, ...)``; of a model, its own variables, with their dims and coords. Positions
        are then in ``unconstrained_posterior``, data in ``observed_data`` and ``constant_data``.
        ``sample_stats`` has ``lp`` (log density), ``acceptance_rate``, ``diverging``, ``energy``,
        ``n_steps`` (gradients) and capriole's own ``accepted``, ``direction``, ``log_det``,
        ``log_ratio``, ``nonfinite``, ``jump_sq``. Attributes record versions, seed and cost.
        ``completed`` is 0 after Ctrl-C; ``warnings`` names what looks unhealthy, with a remedy, one
        problem per line, and the log repeats it.

    Raises:
        ValueError: a chain starts outside the support, or ``starts`` are no positions of this log
            density.
        ModelError: a group that the model does not have.
    """
    model = model_of(users(transition.target))
    check_groups(model, groups)
    with precision(model):
        tree = _sampled(
            transition,
            init,
            starts,
            seed,
            num_chains=num_chains,
            num_draws=num_draws,
            num_warmup=num_warmup,
            thin=thin,
            spread=spread,
            chunk_size=chunk_size,
            devices=devices,
            progress=progress,
        )
    for warning in tree["sample_stats"].attrs["warnings"].splitlines():
        log.warning("sampling: %s", warning)
    if model is None or not groups:
        return tree
    return complete(tree, model, groups=groups, seed=seed)


def _sampled(
    transition: AbstractTransition,
    init: Any,
    starts: Any,
    seed: int | Key,
    *,
    num_chains: int,
    num_warmup: int,
    spread: float,
    **options: Any,
) -> "xarray.DataTree":
    """Draws without the groups that cost time; options are those of `draw_chains`."""
    start_key, warmup_key, sample_key = jax.random.split(as_key(seed), 3)
    logdensity, init_key = transition.target, jax.random.fold_in(start_key, 1)
    num_warmup = check_count("num_warmup", num_warmup, 0)
    if starts is not None:
        position = _as_starts(starts, logdensity)
    else:
        _, position = prepare(
            users(logdensity), init, start_key, num_chains=num_chains, spread=spread
        )
    position = from_user(logdensity, position)
    state = transition.init(position, init_key)
    check_starts(state)
    if num_warmup:
        warm = run_hmc_warmup(
            warmup_key, logdensity, position, num_leapfrogs=10, num_steps=num_warmup
        ).state
        state = warm if isinstance(state, State) else transition.init(warm.position, init_key)
    draws = draw_chains(sample_key, transition, state, **options)
    return to_datatree(draws, logdensity, seed=repr(seed))


def _as_starts(starts: Any, logdensity: AbstractLogDensity) -> Vector:
    """``starts`` as an array (dim, chains), after checks of its shape and dtype."""
    position = jnp.asarray(starts)
    if position.ndim != 2 or not jnp.issubdtype(position.dtype, jnp.floating):
        raise ValueError(
            "starts must be floating and of shape (dim, chains), chains last, got "
            f"{position.dtype} of {position.shape}"
        )
    try:
        jax.eval_shape(users(logdensity), jax.ShapeDtypeStruct(position.shape, position.dtype))
    except Exception as error:  # a user's log density may raise anything at the wrong size
        raise ValueError(
            f"starts of shape {position.shape} do not fit the log density, {error}"
        ) from error
    return position
