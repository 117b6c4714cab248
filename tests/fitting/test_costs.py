"""What proposers say that they may cost: nothing where they would do nothing."""

import jax.numpy as jnp
import pytest

from capriole.coordinates import Whitened, identity
from capriole.fitting import PROPOSERS, Cost, Kind, Rotations
from capriole.kernels import Rotation, Transition
from stored import PLANE, candidate, context, exploration

KERNEL = Transition(
    Whitened(PLANE, identity(2, jnp.zeros(()).dtype)), Rotation(jnp.asarray(1.4), jnp.asarray(1))
)


def names(known):
    """The proposers that say that they would do something."""
    asked = [p for p in PROPOSERS if not isinstance(p, Rotations)]
    return [type(p).__name__ for p in asked if p.cost(known) != Cost()]


def known(worst, **changes):
    made = candidate(Kind.ROTATION, worst, KERNEL)
    return context([made], **{"train_steps": 3000} | changes)


@pytest.mark.parametrize(
    ("worst", "changes", "expected"),
    [
        (0.6, {}, []),
        (0.3, {"criterion": "seconds"}, ["Nuts"]),
        (0.15, {}, ["TransportMaps", "Networks", "Nuts"]),
        (0.15, {"train_steps": 0, "compare": False}, ["TransportMaps"]),
        (0.02, {}, ["TransportMaps", "LongerRotations", "Networks", "LongRuns", "Nuts"]),
        (0.6, {"warmup": exploration(rhat_max=1.5)}, ["ModeJumps", "LongRuns", "Nuts"]),
    ],
)
def test_proposers_cost_nothing_where_they_would_do_nothing(worst, changes, expected):
    there = known(worst, **changes)
    assert names(there) == expected
    idle = [p for p in PROPOSERS if type(p).__name__ not in ("Rotations", *expected)]
    for proposer in idle:
        if type(proposer).__name__ != "LongRuns":
            assert proposer.propose(there).candidates == there.candidates


def test_an_expected_cost_has_the_seconds_of_the_warmups_gradients():
    there = context(warmup=exploration(num_gradients=1000, seconds=2.0))
    cost = Rotations().cost(there)
    assert cost.num_gradients > 64 * 550
    assert cost.seconds == pytest.approx(cost.num_gradients * 0.002)
    assert cost.compile_seconds == 0
