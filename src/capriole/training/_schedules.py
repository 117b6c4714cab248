"""The optimizer, and how learning rate and temperature change over the iterations."""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float, Int

type Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


def adam(
    learning_rate: Schedule | float = 1e-3, *, clip: float = 5.0
) -> optax.GradientTransformation:
    """Adam on one flat vector, gradients clipped at global norm ``clip``, non-finite updates
    skipped and counted.
    """
    chain = optax.chain(optax.clip_by_global_norm(clip), optax.adam(learning_rate))
    return optax.apply_if_finite(optax.flatten(chain), max_consecutive_errors=2**30)


def decay(
    learning_rate: float, *, num_steps: int, hold: float = 0.6, final: float = 0.05
) -> Schedule:
    """Constant for the fraction ``hold`` of the steps, then falling geometrically to ``final``
    times as much.
    """
    held = int(hold * num_steps)
    fall = optax.exponential_decay(
        learning_rate, transition_steps=max(num_steps - held, 1), decay_rate=final
    )
    return optax.join_schedules([optax.constant_schedule(learning_rate), fall], [held])


def cooling(start: float, *, num_steps: int) -> Schedule:
    """Temperature falling geometrically from ``start`` to 1 over ``num_steps``, then 1."""
    return optax.exponential_decay(
        start, transition_steps=num_steps, decay_rate=1 / start, end_value=1.0
    )
