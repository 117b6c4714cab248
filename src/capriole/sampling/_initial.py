"""Random keys from seeds, and starting positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import AbstractLogDensity, Key, Prepared, Vector, state_at
from ..models import (
    as_logdensity,
    check_compiled,
    check_count,
    check_dtype,
    check_logdensity,
    check_spread,
    check_starts,
    dtype_of,
    in_default_float,
    prepared,
)


def prepare(
    logdensity: Any, init: Any, key: Key, *, num_chains: int, spread: float, num_more: int = 0
) -> tuple[AbstractLogDensity, Vector]:
    """Check a log density, and draw starting positions ``init + spread * N(0, I)``.

    Args:
        logdensity: a function of one position (any pytree), or a log density of this library. One
            that is `Prepared` already must not have changed.
        init: one position; None: the log density has starts of its own.
        key: random key.
        num_chains: number of chains, whose starts are checked.
        spread: standard deviation of the starts around ``init``, in its units.
        num_more: number of further positions, which are not checked.

    Returns:
        The log density on flat vectors, `Prepared`, and positions of shape (dim, chains +
        num_more), in its precision if it was prepared before.

    Raises:
        ValueError: an argument, the log density or a start cannot be used.
    """
    num_chains, spread = check_count("num_chains", num_chains, 1), check_spread(spread)
    if init is None:
        own = logdensity.logdensity if isinstance(logdensity, Prepared) else logdensity
        if not isinstance(own, AbstractLogDensity) or not hasattr(own, "start"):
            raise ValueError("pass init, one position of the log density, e.g. init=jnp.zeros(3)")
        if spread != 1:
            raise ValueError(
                f"the target has starts of its own, so spread={spread:g} has no effect: pass init "
                "with it"
            )
        target = logdensity
        every = in_default_float(own.start(key, num_chains + num_more))
    else:
        target, flat = as_logdensity(logdensity, init, dtype_of(logdensity))
        check_logdensity(target, flat)
        every = (
            flat[:, None]
            + spread * jax.random.normal(key, (num_chains + num_more, flat.size), flat.dtype).T
        )
    position = jnp.asarray(np.asarray(every)[:, :num_chains])
    check_dtype(target, position)
    target = prepared(target, position)
    state = state_at(target, position)
    check_starts(state)
    check_compiled(target, state)
    return target, every


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
