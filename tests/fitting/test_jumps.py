"""Jumps between modes in ``capriole.fit``: maxima found, Gaussians made of them, and the kernel."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole import PerChain
from capriole.diagnostics import ModeSummary, ProblemKind, reference_check
from capriole.fitting import Kind
from capriole.fitting._thresholds import THRESHOLDS
from capriole.fitting.proposers import (
    ModeJumps,
    Rotations,
    TransportMaps,
    WeighedModeJumps,
    _mode_jumps,
)
from capriole.fitting.proposers._mode_jumps import Gaussians, find_maxima, made, refined
from stored import candidate, context, exploration, metrics

pytestmark = pytest.mark.usefixtures("standard_promotion")

CENTRES = np.array([[-20.0, 0.0], [20.0, 5.0]])
SCALES = np.array([[3.0, 1.0], [0.2, 0.5]])


def two(x):
    """A wide mode with a quarter of the mass, and one 30 times as narrow with the rest."""
    parts = [
        -jnp.sum(((x - c) / s) ** 2) / 2 - jnp.sum(jnp.log(s))
        for c, s in zip(CENTRES, SCALES, strict=True)
    ]
    return jnp.logaddexp(parts[0] + jnp.log(0.25), parts[1] + jnp.log(0.75))


def one(x):
    return -jnp.sum(x**2) / 2


def raising(x):
    return eqx.error_if(one(x), jnp.sum(x**2) > 0, "too far out")


def starts(num=32):
    return np.random.default_rng(0).normal(size=(2, num)) * 20


def test_maxima_are_found_with_their_shapes_and_masses():
    found, spent = find_maxima(PerChain(two), starts())
    order = np.argsort(found.centre[:, 0])
    np.testing.assert_allclose(found.centre[order], CENTRES, atol=1e-3)
    np.testing.assert_allclose(
        np.diagonal(found.covariance[order], axis1=1, axis2=2), SCALES**2, rtol=1e-3
    )
    np.testing.assert_allclose(found.share()[order], [0.25, 0.75], rtol=1e-3)
    assert spent > 64


@pytest.mark.parametrize(
    "density",
    [
        one,
        lambda x: -jnp.sum(x**2) / 200 - 5 * jnp.sum(jnp.cos(x)),  # a rough surface
        lambda x: jnp.where(jnp.sum(x**2) < 1e-9, 0.0, jnp.nan),
        lambda x: -jnp.sum(x[:1] ** 2),  # a ridge
        raising,
    ],
    ids=["one", "rough", "nan", "ridge", "raising"],
)
def test_there_may_be_no_modes_to_jump_between(density):
    assert find_maxima(PerChain(density), starts())[0] is None


def test_there_are_none_where_a_density_has_no_maximum():
    assert find_maxima(PerChain(lambda x: x[0]), starts(3))[0] is None


def test_spreads_and_masses_are_those_of_the_modes_not_of_their_tops():
    """Student's t with 5 degrees of freedom: the curvature at the top says 5/6, the variance is
    5/3.
    """

    def heavy(x):
        parts = [-3.5 * jnp.log1p(jnp.sum((x - c) ** 2) / 5) for c in (-30.0, 30.0)]
        return jnp.logaddexp(parts[0] + jnp.log(0.25), parts[1] + jnp.log(0.75))

    found, _ = find_maxima(PerChain(heavy), starts())
    better = refined(np.random.default_rng(0), PerChain(heavy), found, jnp.zeros((2, 64)))
    order = np.argsort(better.centre[:, 0])
    assert np.diagonal(found.covariance, axis1=1, axis2=2).max() < 0.8
    np.testing.assert_allclose(np.diagonal(better.covariance, axis1=1, axis2=2), 5 / 3, rtol=0.3)
    np.testing.assert_allclose(better.share()[order], [0.25, 0.75], atol=0.05)


def test_weights_worth_nothing_change_nothing():
    far = Gaussians(np.array([[500.0, 0.0], [-500.0, 0.0]]), np.stack([np.eye(2)] * 2), np.zeros(2))
    same = refined(
        np.random.default_rng(0),
        PerChain(lambda x: -100 * jnp.sum(jnp.abs(x))),
        far,
        jnp.zeros((2, 64)),
    )
    jax.tree.map(np.testing.assert_array_equal, same, far)


SEPARATION = exploration(position=jnp.asarray(starts(16)), max_separation=100.0)


@pytest.mark.parametrize(
    "warmup",
    [
        exploration(THRESHOLDS.most_jump_dim + 1, max_separation=100.0),
        exploration(max_separation=1.0),
    ],
    ids=["many dimensions", "chains agreed"],
)
def test_no_maxima_are_climbed_to(monkeypatch, warmup):
    monkeypatch.setattr(_mode_jumps, "find_maxima", None)
    before = context([candidate()], target=PerChain(one), warmup=warmup)
    assert ModeJumps().propose(before) is before


def test_what_was_climbed_for_nothing_counts():
    before = context([candidate()], target=PerChain(one), warmup=SEPARATION)
    after = ModeJumps().propose(before)
    assert after.candidates == before.candidates
    assert after.budget.total.num_gradients == after.budget.common.cost.num_gradients > 16


def test_jumps_come_with_small_hmc_steps_and_an_account_of_their_own():
    after = ModeJumps().propose(context([candidate()], target=PerChain(two), warmup=SEPARATION))
    rotation, jump = after.candidates
    assert rotation.kind is Kind.ROTATION
    assert jump.name == "jumps between modes and HMC"
    assert jump.shared == ()
    spent = jump.account.cost.num_gradients
    assert spent == after.budget.total.num_gradients > 4096 + jump.metrics.spent_gradients


WEIGHED = tuple(
    ModeSummary(tuple(c.tolist()), tuple(s.tolist()), share)
    for c, s, share in zip(CENTRES[::-1], SCALES[::-1], (0.75, 0.25), strict=True)
)


def test_jumps_come_first_where_modes_were_weighed_and_end_the_search():
    before = context(target=PerChain(two), warmup=SEPARATION)
    assert WeighedModeJumps().propose(before) is before
    weighed = exploration(position=SEPARATION.position, weighed=WEIGHED)
    assert not weighed.agreed
    after = WeighedModeJumps().propose(context(target=PerChain(two), warmup=weighed))
    (jump,) = after.candidates
    assert jump.kind is Kind.MODE_JUMP
    assert after.jumps_suffice
    for proposer in (Rotations(), TransportMaps(), ModeJumps()):
        assert proposer.propose(after) is after
    slow = replace(jump, metrics=metrics(THRESHOLDS.good_jump_rate / 2))
    assert not after.with_candidates([slow]).jumps_suffice


def test_weighed_modes_are_those_of_the_verdict():
    facts = context(warmup=exploration(weighed=WEIGHED)).facts
    assert facts.modes == WEIGHED
    assert facts.is_multimodal
    assert not facts.agreed
    draws = np.full((4, 10, 2), CENTRES[0]) + np.random.default_rng(0).normal(size=(4, 10, 2))
    (problem,) = reference_check(draws, None, facts.modes, judges_moments=True).problems
    assert problem.kind is ProblemKind.MODE_MISSED
    assert problem.is_fatal


def test_a_narrow_maximum_within_a_wide_one_is_another():
    def nested(x):
        wide, narrow = -jnp.sum(x**2) / 2, -jnp.sum((x - 0.4) ** 2) / 2 / 0.05**2
        return jnp.logaddexp(wide, narrow - 2 * jnp.log(0.05))

    found, _ = find_maxima(PerChain(nested), np.array([[-1.0, 0.41, -0.9], [-1.0, 0.39, -0.8]]))
    np.testing.assert_allclose(found.share(), 0.5, atol=0.02)


def test_the_jump_is_between_the_modes_in_order():
    dynamics = made(
        Gaussians(CENTRES, np.stack([np.diag(s**2) for s in SCALES]), np.log([0.25, 0.75])),
        1.0,
        np.float64,
    )
    np.testing.assert_allclose(np.exp(dynamics.log_share), [0.25, 0.75])
    np.testing.assert_allclose(dynamics.factor, np.stack([np.diag(s) for s in SCALES]))


def test_fit_jumps_between_modes_that_hmc_does_not_connect(tmp_path):
    """The narrow mode is one that the warm-up's steps do not enter; with the right share of the
    draws, and saved.
    """
    options = {"seed": 1, "num_draws": 500, "num_warmup_chains": 32, "compare": False}
    found = capriole.fit(two, np.zeros(2), spread=20.0, **options)
    verdict = found.verdict
    assert verdict.row(verdict.chosen).kind is Kind.MODE_JUMP, verdict.table()
    assert not verdict.failed, verdict.problems
    assert any("no network was trained" in note.text for note in verdict.notes)
    draws = found.tree["posterior"]["x"].values
    assert (draws[..., 0] > 0).mean() == pytest.approx(0.75, abs=0.03)
    assert draws[draws[..., 0] > 0].std(axis=0) == pytest.approx(SCALES[1], rel=0.1)
    assert draws[draws[..., 0] < 0].std(axis=0) == pytest.approx(SCALES[0], rel=0.1)
    path = capriole.save(tmp_path / "kernel.safetensors", found.transition, dim=2)
    again = capriole.load(path, two, np.zeros(2))
    trees = [
        capriole.sample(k, np.zeros(2), num_chains=4, num_draws=20, seed=5)
        for k in (found.transition, again)
    ]
    np.testing.assert_array_equal(
        trees[0]["posterior"]["x"].values, trees[1]["posterior"]["x"].values
    )


def spheres(weights, centres, scales):
    """A mixture of round Gaussians."""
    centres, scales = np.array(centres, float), np.array(scales, float)
    constants = np.log(weights) - centres.shape[1] * np.log(scales)

    def logdensity(x):
        return jax.nn.logsumexp(constants - jnp.sum((x - centres) ** 2, axis=1) / 2 / scales**2)

    return logdensity, centres, scales


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("parts", "spread"),
    [
        (([0.5, 0.5], [[-1.8] * 10, [1.8] * 10], [1.0, 0.35]), 1.0),
        (([0.5, 0.5], [[0.0], [10.0]], [1.0, 0.05]), 10.0),
        (([0.5, 0.5], [[0.0], [10.0]], [1.0, 0.01]), 5.0),
        (([0.5, 0.5], [[-1.8] * 20, [1.8] * 20], [1.0, 0.5]), 1.0),
        (([0.95, 0.05], [[0.0] * 3, [6.0] * 3], [1.0, 0.3]), 1.0),
    ],
    ids=["ten dimensions", "0.05 wide", "0.01 wide", "twenty dimensions", "rare"],
)
def test_fit_finds_a_mode_that_no_start_is_near(parts, spread, seed):
    """With the right weights, at no more than 1.5 times the gradients that one mode takes."""
    density, centres, scales = spheres(*parts)
    dim = centres.shape[1]
    found = capriole.fit(density, np.zeros(dim), spread=spread, seed=seed, compare=False)
    verdict = found.verdict
    assert not verdict.failed, verdict.problems
    assert verdict.search is not None
    assert "Searched: " in verdict.table()
    draws = found.tree["posterior"]["x"].values
    away = np.sum((draws[:, :, None] - centres) ** 2, axis=3) / scales**2
    label = np.argmax(np.log(parts[0]) - dim * np.log(scales) - away / 2, axis=2)
    weights = [np.mean(label == k) for k in range(len(scales))]
    np.testing.assert_allclose(weights, parts[0], atol=0.03)
    settings = verdict.settings
    if settings["warmup"]["windows"] == 2:  # the chains had agreed, on one mode
        assert settings["preparation"]["num_gradients"] < 1.5 * 376_192
