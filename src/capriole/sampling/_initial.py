"""Seeds, and positions to start from."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import AbstractLogDensity, Key, Vector, state_at
from ..models import (
    as_logdensity,
    check_count,
    check_dtype,
    check_logdensity,
    check_spread,
    check_starts,
)

if TYPE_CHECKING:
    pass


def prepare(
    logdensity: Any, init: Any, key: Key, *, num_chains: int, spread: float, num_more: int = 0
) -> tuple[AbstractLogDensity, Vector]:
    """The checked log density in the library's layout and checked starting positions of shape (dim,
    chains).

    ``num_more`` further ones, which nobody has checked, follow them.
    """
    num_chains, spread = check_count("num_chains", num_chains, 1), check_spread(spread)
    if init is None:
        if not isinstance(logdensity, AbstractLogDensity) or not hasattr(logdensity, "start"):
            raise ValueError("pass init, one position of the log density, e.g. init=jnp.zeros(3)")
        if spread != 1:
            raise ValueError(
                f"the target has starts of its own, so spread={spread:g} has no effect: pass init "
                "with it"
            )
        target, every = logdensity, logdensity.start(key, num_chains + num_more)
    else:
        target, flat = as_logdensity(logdensity, init)
        check_logdensity(target, flat)
        every = (
            flat[:, None]
            + spread * jax.random.normal(key, (num_chains + num_more, flat.size), flat.dtype).T
        )
    position = jnp.asarray(np.asarray(every)[:, :num_chains])
    check_dtype(target, position)
    check_starts(state_at(target, position))
    return target, every


def as_key(seed: Any) -> Key:
    """A typed PRNG key from an integer seed; a key is returned as it is. Raises ValueError for
    anything else.
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
