"""Far ends of a dimension from which steps fail: where, how often, and whether it is fatal."""

import numpy as np
import pytest

from capriole.diagnostics import ProblemKind, sticky_tails

RNG = np.random.default_rng(0)
DRAWS = RNG.normal(size=(16, 1000, 3))


def steps(dimension=1, edge=-2.6, rate=0.8, num_diverging=0):
    """Acceptance rates and divergences of steps; those from below ``edge`` are other ones.

    ``num_diverging`` of them diverge, the first in every chain's order.
    """
    rates, diverging = np.full((16, 1000), 0.8), np.zeros((16, 1000), int)
    values = DRAWS[:, :-1, dimension]
    there = values < edge if edge < 0 else values > edge
    rates[:, 1:][there] = rate
    chains, draws = np.nonzero(there)
    diverging[chains[:num_diverging], 1 + draws[:num_diverging]] = 1
    return rates, diverging


def found(**options):
    return sticky_tails(DRAWS, *steps(**options))


def test_steps_that_go_well_everywhere_say_nothing():
    assert found() == []
    assert sticky_tails(DRAWS, steps()[0]) == []


@pytest.mark.parametrize(
    ("dimension", "edge", "where"),
    [
        (1, -2.6, "x[1] is below -2."),
        (2, 2.6, "x[2] is above 2."),
        (0, -2.4, "x[0] is below -2."),
    ],
)
def test_divergences_that_sit_in_one_end_are_a_missed_tail(dimension, edge, where):
    (said,) = found(dimension=dimension, edge=edge, rate=0.3, num_diverging=20)
    assert said.kind is ProblemKind.TAIL_MISSED
    assert said.is_fatal
    assert where in said.message
    assert "20 divergent ones began there: what lies further out may be missed" in said.message
    assert 0.3 < said.reach < 0.5


@pytest.mark.parametrize(
    ("num", "kind", "is_fatal"),
    [(4, None, False), (6, ProblemKind.TAIL_MISSED, False), (10, ProblemKind.TAIL_MISSED, True)],
)
def test_it_depends_on_how_many_there_are(num, kind, is_fatal):
    said = found(rate=0.3, num_diverging=num)
    assert [problem.kind for problem in said] == ([] if kind is None else [kind])
    assert [problem.is_fatal for problem in said] == [is_fatal] * len(said)


def test_divergences_all_over_the_draws_are_in_no_tail():
    rates, diverging = steps(rate=0.3)
    diverging[:, ::10] = 1
    assert sticky_tails(DRAWS, rates, diverging) == []


def test_a_wall_from_which_half_of_the_steps_return_is_no_missed_tail():
    """Steps that cross a hard bound fail, the others go on as elsewhere."""
    assert found(rate=0.5, num_diverging=25) == []


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.22, []), (0.15, [False]), (0.07, [True]), (0.0, [True])]
)
def test_rejections_in_one_end_are_a_sticky_tail(rate, expected):
    said = found(rate=rate)
    assert [problem.is_fatal for problem in said] == expected
    assert all(problem.kind is ProblemKind.TAIL_STICKY for problem in said)


def test_a_short_end_is_seen_too():
    """Two thousandths of the draws, in which chains stand still: two visits of fifteen steps."""
    (said,) = found(edge=-2.87, rate=0.02)
    assert "(0.2% of the draws)" in said.message
    assert said.is_fatal


def test_where_modes_may_be_narrow_nothing_is_fatal():
    rates, diverging = steps(rate=0.02, num_diverging=20)
    (said,) = sticky_tails(DRAWS, rates, diverging, may_fail=False)
    assert not said.is_fatal


def test_divergences_of_thinned_draws_are_counted():
    rates, diverging = steps(rate=0.3, num_diverging=6)
    (said,) = sticky_tails(DRAWS, rates, 4 * diverging)
    assert " of 24 divergent ones" in said.message
    assert said.is_fatal


def test_few_draws_and_chains_that_never_move_say_nothing():
    rates, diverging = steps(rate=0.02)
    assert sticky_tails(DRAWS[:, :150], rates[:, :150], diverging[:, :150]) == []
    assert sticky_tails(DRAWS, 0 * rates, diverging) == []
