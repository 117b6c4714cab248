"""Objectives: each is the formula it states, and has finite gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.training import LogESJD, LogJump, PaperLoss

# Two chains in two dimensions: jumps (1, 2) and (2, 0), accepted with probability 1 and 1/4.
START = jnp.asarray([[0.0, 1.0], [0.0, 1.0]])
PROPOSAL = jnp.asarray([[1.0, 3.0], [2.0, 1.0]])
ACCEPTANCE = jnp.asarray([1.0, 0.25])
ARGS = (START, PROPOSAL, ACCEPTANCE)


def test_paper_loss():
    a, b = 5 + 1e-4, 1 + 1e-4
    assert float(PaperLoss()(*ARGS)) == pytest.approx((1 / a - a + 1 / b - b) / 2, rel=1e-12)
    assert float(PaperLoss(scale=3.0)(*ARGS)) == pytest.approx(
        (9 / a - a / 9 + 9 / b - b / 9) / 2, rel=1e-12
    )


def test_log_jump():
    assert float(LogJump()(*ARGS)) == pytest.approx(
        -(math.log(5.01) + math.log(1.01)) / 2, rel=1e-12
    )
    expected = -(math.log(5 / 4 + 0.1) + math.log(1 / 4 + 0.1)) / 2
    assert float(LogJump(scale=2.0, floor=0.1)(*ARGS)) == pytest.approx(expected, rel=1e-12)


def test_log_jump_of_squares():
    # Squares jump by (1, 4) and (8, 0).
    expected = -(math.log(5 + 17 / 2 + 0.01) + math.log((4 + 64 / 2) / 4 + 0.01)) / 2
    assert float(LogJump(squares=1.0)(*ARGS)) == pytest.approx(expected, rel=1e-12)


def test_a_flip_is_worth_an_independent_draw_and_not_two():
    x, y = jax.random.normal(jax.random.key(0), (2, 200, 400))
    flip, fresh = (float(LogJump(squares=1.0)(x, end, jnp.ones(400))) for end in (-x, y))
    assert flip == pytest.approx(fresh, abs=0.05)
    assert float(LogJump()(x, -x, jnp.ones(400))) == pytest.approx(
        float(LogJump()(x, y, jnp.ones(400))) - math.log(2), abs=0.05
    )


def esjd(**options):
    plain = {"squares": 0.0, "reciprocal": 0.0, "acceptance": 0.0, "ceiling": 1e9}
    return LogESJD(
        mean=jnp.asarray([0.0, 1.0]), variance=jnp.asarray([1.0, 4.0]), **(plain | options)
    )


# Standardised: x0: 0 -> 1 and 1 -> 3;  x1: -1/2 -> 1/2 and 0 -> 0.  D = ((1 + 4/4)/2, (1 + 0)/2) =
# (1, 1/2).
JUMPS = -(math.log(1 + 1e-6) + math.log(0.5 + 1e-6))


def test_log_esjd_of_x():
    assert float(esjd()(*ARGS)) == pytest.approx(JUMPS, rel=1e-12)


def test_log_esjd_of_squares():
    # x0^2: 0 -> 1 and 1 -> 9 gives (1 + 64/4) / 2 / 2;  x1^2: 1/4 -> 1/4 and 0 -> 0 gives 0.
    squares = -(math.log(17 / 4 + 1e-6) + math.log(1e-6))
    assert float(esjd(squares=0.5)(*ARGS)) == pytest.approx(JUMPS + 0.5 * squares, rel=1e-12)


def test_log_esjd_reciprocal_acceptance_and_ceiling():
    # Per chain J = A mean_i jump_i^2: chain 0: (1 + 1) / 2 = 1; chain 1: (4 + 0) / 2 / 4 = 1/2.
    reciprocal = (1 / 1.01 + 1 / 0.51) / 2
    assert float(esjd(reciprocal=0.1)(*ARGS)) == pytest.approx(JUMPS + 0.1 * reciprocal, rel=1e-12)
    rates = -(math.log(1.01) + math.log(0.26)) / 2
    assert float(esjd(acceptance=3.0)(*ARGS)) == pytest.approx(JUMPS + 3 * rates, rel=1e-12)
    # D_0 = 1 lies above a ceiling of 0.8: log D is folded down by twice the excess; D_1 = 1/2 does
    # not.
    folded = JUMPS + 2 * (math.log(1 + 1e-6) - math.log(0.8))
    assert float(esjd(ceiling=0.8)(*ARGS)) == pytest.approx(folded, rel=1e-12)


@pytest.mark.parametrize(
    "objective",
    [
        PaperLoss(),
        LogJump(),
        LogJump(squares=1.0),
        esjd(squares=1.0, reciprocal=0.1, acceptance=1.0, ceiling=4.0),
    ],
)
def test_objectives_have_finite_gradients_where_nothing_moves_or_is_accepted(objective):
    for proposal, rate in ((START, 1.0), (PROPOSAL, 0.0)):
        gradient = jax.grad(lambda p, r: objective(START, p, jnp.full(2, r)), argnums=(0, 1))(
            proposal, rate
        )
        assert all(np.isfinite(g).all() for g in gradient)


def test_objectives_do_not_depend_on_the_order_of_chains():
    for objective in (PaperLoss(), LogJump(), esjd(squares=1.0, reciprocal=0.1)):
        swapped = objective(*(a[..., ::-1] for a in ARGS))
        assert float(swapped) == pytest.approx(float(objective(*ARGS)), rel=1e-13)


def test_the_objective_sees_features_and_its_sharpness_weighs_the_worst():
    start = jax.random.normal(jax.random.key(0), (2, 500))
    proposal = jnp.stack([-start[0], start[1] + 0.1])  # the second coordinate hardly moves
    ones, moments = jnp.ones(500), (jnp.zeros(2), jnp.ones(2))
    better = proposal.at[1].set(start[1] + 1.0)
    gains = []
    for sharpness in (0.0, 4.0):
        loss = LogESJD(*moments, squares=0.0, reciprocal=0.0, sharpness=sharpness)
        gains.append(float(loss(start, proposal, ones) - loss(start, better, ones)))
    assert gains[1] > gains[0] > 0
    featured = LogESJD(*moments, feature=jnp.arcsinh)
    plain = LogESJD(*moments)
    np.testing.assert_allclose(
        featured(start, proposal, ones),
        plain(jnp.arcsinh(start), jnp.arcsinh(proposal), ones),
        rtol=1e-12,
    )
