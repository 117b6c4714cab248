"""Random keys from seeds, and starting positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coordinates import users
from ..kernels import AbstractLogDensity, Key, Prepared, Vector, state_at
from ..models import (
    NUMPYRO_REMEDY,
    Model,
    as_logdensity,
    check_compiled,
    check_count,
    check_dtype,
    check_logdensity,
    check_spread,
    check_starts,
    dtype_of,
    flat_starts,
    in_default_float,
    is_numpyro_model,
    model_of,
    prepared,
)


def prepare(
    logdensity: Any,
    init: Any,
    key: Key,
    *,
    num_chains: int,
    spread: float,
    num_more: int = 0,
    starts: Any = None,
) -> tuple[AbstractLogDensity, Vector]:
    """Check a log density, and find starting positions, by default ``init + spread * N(0, I)``.

    Args:
        logdensity: a function of one position (any pytree), a model, or a log density of this
            library. One that is `Prepared` already must not have changed.
        init: one position; None: the log density has starts of its own, or ``starts`` are given.
        key: random key.
        num_chains: number of chains, whose starts are checked.
        spread: standard deviation of the starts around ``init``, in its units.
        num_more: number of further positions, which are not checked.
        starts: starting positions, a pytree like ``init`` with a leading axis; they are repeated
            for further chains.

    Returns:
        The log density on flat vectors, `Prepared`, and positions of shape (dim, chains +
        num_more), in its precision if it was prepared before.

    Raises:
        ValueError: an argument, the log density or a start cannot be used.
    """
    num_chains, spread = check_count("num_chains", num_chains, 1), check_spread(spread)
    total = num_chains + num_more
    every: Any = None
    model = logdensity if isinstance(logdensity, Model) else model_of(logdensity)
    given = starts
    if starts is None and init is None and model is not None and model.starts is not None:
        given = model.starts(key, total)
    if init is None and model is not None:
        init = model.init
    if init is None and starts is not None:
        init = jax.tree.map(lambda leaf: np.asarray(leaf)[0], starts)
    if init is None:
        own = logdensity.logdensity if isinstance(logdensity, Prepared) else logdensity
        if not isinstance(own, AbstractLogDensity) or not hasattr(own, "start"):
            raise ValueError(
                NUMPYRO_REMEDY
                if is_numpyro_model(logdensity)
                else "pass init, one position of the log density, e.g. init=jnp.zeros(3)"
            )
        _check_spread_has_effect(spread, "the target has starts of its own")
        target, every = logdensity, in_default_float(own.start(key, total))
    else:
        target, flat = as_logdensity(logdensity, init, dtype_of(logdensity))
        check_logdensity(target, flat)
        noise = spread * jax.random.normal(key, (total, flat.size), flat.dtype).T
        every = flat[:, None] + noise
        if given is not None:
            places = np.asarray(flat_starts(users(target), given))
            if starts is not None:
                _check_spread_has_effect(spread, "starts are given")
            # A strategy that starts all chains in one place says no more than an init does.
            if starts is not None or np.any(places != places[:, :1]):
                every = places[:, np.arange(total) % places.shape[1]]
            else:
                every = places[:, :1] + noise
    position = jnp.asarray(np.asarray(every)[:, :num_chains])
    check_dtype(target, position)
    target = prepared(target, position)
    state = state_at(target, position)
    check_starts(state, target)
    check_compiled(target, state)
    return target, jnp.asarray(every)


def _check_spread_has_effect(spread: float, why: str) -> None:
    if spread != 1:
        raise ValueError(
            f"{why}, so spread={spread:g} has no effect: pass init with it, and no starts"
        )


def as_key(seed: Any) -> Key:
    """A typed random key from a seed.

    Args:
        seed: a whole number of 64 bits, or a key, which is returned as it is.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(seed, int | np.integer) and -(2**63) <= seed < 2**63:
        return jax.random.key(seed)
    try:
        one = jax.random.key_data(seed).ndim == 1
    except (TypeError, ValueError):
        one = False
    if not one:
        raise ValueError(
            "seed must be a whole number below 2^63 or one key, e.g. jax.random.key(0), got "
            f"{seed!r:.80}"
        )
    return seed
