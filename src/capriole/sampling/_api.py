"""``capriole.sample``: from a frozen kernel to draws."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax

from ..coordinates import from_user, in_coordinates_of, users, without_maps
from ..kernels import AbstractLogDensity, AbstractTransition, Key, State, Vector
from ..models import (
    check_count,
    check_starts,
    flat_starts,
    kernel_precision,
    model_of,
    prepared,
)
from ..runtime import Devices, Progress, entry_point, precision_context, shows_progress
from ._draw import Record, draw_chains
from ._groups import check_groups, complete
from ._hmc_warmup import run_hmc_warmup
from ._initial import as_key, prepare
from ._tree import to_datatree

if TYPE_CHECKING:
    import xarray

log = logging.getLogger("capriole")


@entry_point
@shows_progress
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
    progress: Callable[[Progress, Record], Any] | bool | None = None,
) -> "xarray.DataTree":
    """Draw from the target of a frozen kernel.

    A warm-up of plain HMC, whose step size adapts, brings the chains to the typical set and is
    discarded. The draws come from ``transition`` alone, and nothing adapts while they are kept. All
    is computed in the kernel's own precision, whatever JAX's setting. A kernel of `capriole.fit`,
    `train` or `load` draws only while its log density has the values that it had then.
    Ctrl-C ends the run after a whole chunk and returns what is there.

    Args:
        transition: the kernel, for example of `capriole.train` or `capriole.load`.
        init: one position of the log density (any pytree); chains start at
            ``init + spread * N(0, I)``. None: that of the model, or the log density has starts of
            its own.
        starts: exact starting positions instead: like ``init``, with a leading axis of chains, as
            draws have it, e.g. of shape (chains, dim).
        seed: a whole number or a random key.
        num_chains: number of chains; ``starts`` says it otherwise.
        num_draws: draws per chain to keep.
        num_warmup: steps of HMC warm-up.
        thin: steps per draw.
        spread: standard deviation of the starts around ``init``, in its units.
        chunk_size: draws per compiled chunk.
        devices: devices to divide the chains evenly over, for example ``jax.devices()``.
        groups: of a model's kernel, what to add: "log_likelihood", "posterior_predictive".
        progress: called after every chunk with its draws; it may return True to stop. None: a bar
            where stderr is a terminal, or in a notebook; False: nothing; True: a bar.

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
        TypeError: ``transition`` is no kernel, or an argument has another name here.
        ValueError: a chain starts outside the support, ``starts`` are no positions of this log
            density, or the log density is another one than when the kernel was found.
        ModelError: a group that the model does not have.
    """
    model = model_of(users(_checked(transition).target))
    check_groups(model, groups)
    with precision_context(kernel_precision(transition)):
        tree = _sampled(
            transition,
            init,
            starts,
            seed,
            num_chains=num_chains,
            num_warmup=check_count("num_warmup", num_warmup, 0),
            spread=spread,
            num_draws=num_draws,
            thin=thin,
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
    """`sample` in the precision of the kernel; ``options`` are those of `draw_chains`."""
    start_key, warmup_key, sample_key = jax.random.split(as_key(seed), 3)
    init_key, bottom = jax.random.fold_in(start_key, 1), without_maps(transition.target)
    if starts is not None:
        position = flat_starts(users(bottom), starts)
        target = prepared(bottom, position)
    else:
        target, position = prepare(bottom, init, start_key, num_chains=num_chains, spread=spread)
    if target is not bottom:
        transition = _for_target(transition, target)
    _check_precision(transition, position)
    logdensity = transition.target
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


def _checked(transition: Any) -> AbstractTransition:
    """The kernel. Raises TypeError for what is none, with what to pass instead."""
    if isinstance(transition, AbstractTransition):
        return transition
    if transition is None:
        raise TypeError(
            "transition must be a kernel, got None: where NUTS drew, fit returns none; its draws "
            "are in its tree, and fit(..., compare=False) finds a kernel"
        )
    kind = type(transition).__name__
    if isinstance(getattr(transition, "transition", None), AbstractTransition):
        raise TypeError(f"transition must be a kernel, got {kind}: pass its .transition")
    if hasattr(transition, "transition"):
        raise TypeError(
            f"transition must be a kernel, got {kind}, whose .transition is None because NUTS "
            "drew; its draws are in its tree, and fit(..., compare=False) finds a kernel"
        )
    raise TypeError(
        f"transition must be a kernel, of capriole.train, fit(...).transition or load, got {kind}"
    )


def _for_target(transition: AbstractTransition, target: AbstractLogDensity) -> AbstractTransition:
    """A kernel whose log density, in the user's coordinates, was not prepared: with ``target``."""
    before = transition.target
    anew = in_coordinates_of(before, target)

    def replaced(part: Any) -> Any:
        return anew if isinstance(part, AbstractLogDensity) and _same(part, before) else part

    return jax.tree.map(
        replaced, transition, is_leaf=lambda part: isinstance(part, AbstractLogDensity)
    )


def _same(one: AbstractLogDensity, other: AbstractLogDensity) -> bool:
    return one is other or bool(eqx.tree_equal(one, other))


def _check_precision(transition: AbstractTransition, position: Vector) -> None:
    """Raise ValueError unless kernel and positions have one floating type."""
    parts = jax.tree.leaves(transition, is_leaf=lambda part: isinstance(part, AbstractLogDensity))
    for part in filter(eqx.is_inexact_array, parts):
        if part.dtype != position.dtype:
            raise ValueError(
                f"the kernel has numbers of {part.dtype}, the starts are {position.dtype}: give "
                "the kernel numbers of one precision"
            )
