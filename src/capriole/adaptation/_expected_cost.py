"""What a search will take, said before it begins: gradients that it needs, times one of them."""

import time

import jax

from ..kernels import AbstractLogDensity, Vector, state_at
from ..runtime import duration
from ._thresholds import EXPECTED, WARMUP

SLOW_SECONDS = 600
"""Seconds of the whole from which on it is said what makes it shorter: nobody waits that long
without asking.
"""


def gradient_seconds(logdensity: AbstractLogDensity, position: Vector) -> float:
    """Seconds that the gradients of all chains at once take, without compilation.

    Args:
        logdensity: The log density.
        position: Positions (dim, chains).

    Returns:
        The shortest of up to three evaluations.
    """
    times = list[float]()
    while len(times) < 3 and sum(times) < 0.5:  # the first may have to compile
        begun = time.perf_counter()
        jax.block_until_ready(state_at(logdensity, position))
        times.append(time.perf_counter() - begun)
    return min(times)


def expected_cost(seconds: float, num_chains: int, num_exploratory: int) -> str:
    """What a search will take, in words.

    Args:
        seconds: Seconds of the gradients of all chains at once.
        num_chains: Chains of the warm-up.
        num_exploratory: Exploratory chains in all.

    Returns:
        A line: of a gradient, of the warm-up at least, of warm-up and search as a rule.
    """
    batches = num_exploratory // num_chains * WARMUP.exploratory_steps
    least = (EXPECTED.least_windows * WARMUP.steps + batches) * WARMUP.leapfrogs * seconds
    low, high = (max(least, number * seconds) for number in EXPECTED.search)
    text = (
        f"{num_chains} gradients at once take {duration(seconds)}: the warm-up takes "
        f"{duration(least)} or more, warm-up and search {duration(low)} to {duration(high)} as a "
        "rule, and compiling comes on top"
    )
    if low < SLOW_SECONDS:
        return text
    return f"{text}; num_warmup_chains=16, train_steps=0 and compare=False make it shorter"
