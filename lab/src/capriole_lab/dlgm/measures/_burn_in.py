"""How far from the posterior the latents are that the decoder learns from."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from capriole.kernels import Key, State

from .._model import Images
from .._schemes import Model
from ..report._words import mean_and_se
from ._inpaint import mean_and_error
from ._posterior import chains_from_q

AFTER = (0, 1, 2, 3, 5, 10, 20)
"""Transitions after which the shortfall is measured."""

BURN_IN_HEADER = [
    "model",
    "seed",
    *("z from q" if n == 0 else f"{n} transition{'s' * (n > 1)}" for n in AFTER),
]


def burn_in_row(label: str, seed: int, stored: dict[str, Any]) -> list[str]:
    """A row under `BURN_IN_HEADER`."""
    cells = (stored["shortfall"][str(after)] for after in AFTER)
    return [label, str(seed), *(mean_and_se(cell) for cell in cells)]


def shortfall(
    key: Key,
    model: Model,
    images: Images,
    *,
    num_chains: int,
    num_steps: int,
    curvature_pixels: int,
) -> dict[str, Any]:
    """Mean log p(x, z) over the second half of long chains less that after a few transitions from z
    ~ q, in nats.

    The kernel is that of training, a `Curved` one in its quick frames. 0 for exact draws; at K
    transitions it is what training's latents fall short of. Means and standard errors over images,
    by number of transitions. Raises ValueError if the chains are too short for that.
    """
    if num_steps < 2 * AFTER[-1]:
        raise ValueError(
            f"the long run needs at least {2 * AFTER[-1]} transitions, got {num_steps}"
        )
    kernel, start, chain_key = chains_from_q(
        key, model, images, num_chains, curvature_pixels=curvature_pixels
    )
    values = np.asarray(_along(chain_key, kernel, start, num_steps), np.float64)
    by_image = values.reshape(num_steps + 1, images.shape[1], num_chains).mean(axis=2)
    settled = by_image[num_steps // 2 :].mean(axis=0)
    return {str(after): mean_and_error(settled - by_image[after]) for after in AFTER}


@eqx.filter_jit
def _along(key: Key, kernel: Any, start: Array, num_steps: int) -> Array:
    """Log densities (1 + steps, chains) at ``start`` and after every step."""

    def step(state: State, t: Array) -> tuple[State, Array]:
        new, _ = kernel.move(jax.random.fold_in(key, t), state)
        return new, new.logdensity

    first = kernel.init(kernel.target.units.standardise(start))
    return jnp.concatenate(
        [first.logdensity[None], jax.lax.scan(step, first, jnp.arange(num_steps))[1]]
    )
