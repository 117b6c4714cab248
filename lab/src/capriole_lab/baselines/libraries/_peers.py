"""Peers under one protocol: other libraries' samplers, their own adaptation, gradients counted."""

import difflib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import AbstractLogDensity, Key
from capriole.sampling import CountedDraws, check_batch_starts, nuts, nuts_dense

from . import _peers_blackjax as _blackjax
from . import _peers_flowmc as _flowmc
from . import _peers_mclmc as _mclmc
from . import _peers_numpyro as _numpyro
from . import _peers_nutpie as _nutpie

MIN_WARMUP = 20
"""Fewer warm-up steps leave no window for a peer's adaptation."""


class Peer(NamedTuple):
    """A line of the registry: how to run a peer, its name, source and package."""

    run: Callable[..., CountedDraws]
    label: str
    source: str
    package: str = "blackjax"


PEERS: dict[str, Peer] = {
    "nuts": Peer(nuts, "NUTS, diagonal metric", "BlackJAX"),
    "nuts-dense": Peer(nuts_dense, "NUTS, dense metric", "BlackJAX"),
    "chees": Peer(_blackjax.chees, "ChEES-HMC", "BlackJAX"),
    "mclmc": Peer(_mclmc.mclmc, "MCLMC (unadjusted)", "BlackJAX"),
    "numpyro-nuts": Peer(_numpyro.numpyro_nuts, "NUTS, diagonal metric", "NumPyro", "numpyro"),
    "nutpie": Peer(_nutpie.nutpie, "NUTS, diagonal metric from gradients", "nutpie", "nutpie"),
    "flowmc": Peer(_flowmc.flowmc, "MALA and a normalising flow", "flowMC", "flowMC"),
}


def run_peer(
    name: str,
    key: Key,
    logdensity: AbstractLogDensity,
    starts: Float[Array, "dim chains"],
    *,
    num_draws: int,
    num_warmup: int = 1000,
    draw_from: Float[Array, "dim chains"] | None = None,
) -> CountedDraws:
    """Warm up and run the peer called ``name`` (see `PEERS`) from ``starts``, one chain per column,
    in their dtype.

    ``draw_from``, for flowmc alone, is where its chains are put after the warm-up.

    No global setting of JAX changes: 32 or 64 bits and standard type promotion hold inside the call
    only. Raises ValueError for an unknown name, numbers that are too small and starts that cannot
    be started from, and ImportError if the peer's package is missing.
    """
    if name not in PEERS:
        close = difflib.get_close_matches(name, PEERS, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown peer {name!r}; {hint}known are {', '.join(PEERS)}")
    peer = PEERS[name]
    if importlib.util.find_spec(peer.package) is None:
        raise ImportError(
            f"peer {name!r} needs {peer.package}: pip install 'capriole[peers]'", name=peer.package
        )
    if num_draws < 1 or num_warmup < MIN_WARMUP:
        raise ValueError(
            f"need num_draws >= 1 and num_warmup >= {MIN_WARMUP}, got {num_draws} and {num_warmup}"
        )
    if draw_from is not None and name != "flowmc":
        raise ValueError(f"{name} draws from where its warm-up ended: draw_from is for flowmc")
    moved = {} if draw_from is None else {"draw_from": draw_from}
    starts = jnp.asarray(starts)
    with jax.numpy_dtype_promotion("standard"):
        check_batch_starts(logdensity, starts)
        with jax.enable_x64(starts.dtype == np.float64):
            draws = peer.run(
                key, logdensity, starts, num_draws=num_draws, num_warmup=num_warmup, **moved
            )
    library = f"{peer.package} {importlib.metadata.version(peer.package)}"
    return draws._replace(settings=draws.settings | {"library": library})
