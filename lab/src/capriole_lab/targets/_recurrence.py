"""Linear recurrences over time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capriole.kernels import Scalar


def linear_recurrence(
    inputs: Float[Array, "times *chains"], coefficient: Scalar
) -> Float[Array, "times *chains"]:
    """``h_t = coefficient h_{t-1} + inputs_t``, h before the first time being 0.

    A loop: for 200 times and 200 chains it was measured 3 to 7 times faster, forward and back, than
    doubling sweeps.
    """

    def step(state: Scalar, value: Scalar) -> tuple[Scalar, Scalar]:
        state = coefficient * state + value
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(inputs[0]), inputs)[1]
