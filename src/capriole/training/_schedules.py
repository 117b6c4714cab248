"""The optimizer, and schedules of learning rate and temperature."""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float, Int

type Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]
"""Maps the iteration to a number."""


def adam(
    learning_rate: Schedule | float = 1e-3, *, clip: float = 5.0
) -> optax.GradientTransformation:
    """Adam with clipped gradients that skips and counts updates that are not finite.

    One proposal that is not finite makes the whole gradient NaN, while the chains stay finite.

    Args:
        learning_rate: a number, or a schedule of the iteration.
        clip: largest global norm of the gradient.

    Returns:
        An optimizer on one flat vector.

    References:
        Kingma and Ba 2015, algorithm 1.
    """
    chain = optax.chain(optax.clip_by_global_norm(clip), optax.adam(learning_rate))
    return optax.apply_if_finite(optax.flatten(chain), max_consecutive_errors=2**30)


def decay(
    learning_rate: float, *, num_steps: int, hold: float = 0.6, final: float = 0.05
) -> Schedule:
    """A learning rate that is constant first and then decays geometrically.

    Args:
        learning_rate: the rate at first.
        num_steps: iterations in all.
        hold: fraction of the iterations with the constant rate.
        final: the last rate, as a fraction of the first.

    Returns:
        The schedule.
    """
    held = int(hold * num_steps)
    fall = optax.exponential_decay(
        learning_rate, transition_steps=max(num_steps - held, 1), decay_rate=final
    )
    return optax.join_schedules([optax.constant_schedule(learning_rate), fall], [held])


def cooling(start: float, *, num_steps: int) -> Schedule:
    """A temperature that falls geometrically to 1 and stays there.

    Args:
        start: temperature at first.
        num_steps: iterations until it is 1.

    Returns:
        The schedule.
    """
    return optax.exponential_decay(
        start, transition_steps=num_steps, decay_rate=1 / start, end_value=1.0
    )
