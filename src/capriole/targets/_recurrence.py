"""Linear recurrences without a loop over time."""

from jaxtyping import Array, Float

from .._types import Scalar


def linear_recurrence(inputs: Float[Array, "times *chains"], coefficient: Scalar) -> Float[Array, "times *chains"]:
    """``h_t = coefficient h_{t-1} + inputs_t``, h before the first time being 0, by doubling::

        h <- h + coefficient^k shift(h, k)    for k = 1, 2, 4, ...

    A few sweeps over all times and chains instead of one tiny step per time: log2(times) operations to compile,
    run and differentiate.
    """
    state, lag, power = inputs, 1, coefficient
    while lag < len(inputs):
        state = state.at[lag:].add(power * state[:-lag])
        lag, power = 2 * lag, power * power
    return state
