"""Diagnostics against hand calculations, slow direct versions, known laws and ArviZ itself."""

import subprocess
import sys

import numpy as np
import pytest

from capriole import diagnostics


def autoregressive(coefficient, *, chains, num, dim=1, seed=0):
    """Stationary AR(1) chains of unit variance, shape (chains, num, dim)."""
    noise = np.random.default_rng(seed).standard_normal((num, chains, dim))
    draws = noise.copy()
    for t in range(1, num):
        draws[t] = coefficient * draws[t - 1] + np.sqrt(1 - coefficient**2) * noise[t]
    return draws.transpose(1, 0, 2)


def sticky(*, chains, num, dim, seed=0):
    """Float32 chains that repeat their value, as rejections make them: ties and odd lengths for the
    ranks.
    """
    rng = np.random.default_rng(seed)
    draws = (
        autoregressive(0.7, chains=chains, num=num, dim=dim, seed=seed).astype(np.float32).copy()
    )
    for t in range(1, num):
        stay = rng.random(chains) < 0.4
        draws[stay, t] = draws[stay, t - 1]
    return draws


def slow_autocorrelation(draws, mean):
    centred = draws.astype(float) - mean
    num = draws.shape[1]
    products = [
        np.sum(centred[:, : num - lag] * centred[:, lag:], axis=2).mean() for lag in range(num)
    ]
    return np.array(products) / products[0]


def test_autocorrelation_by_hand():
    # One chain 1, 2, 3 about 0: products 14/3, (2 + 6)/2, 3.
    rho = diagnostics.autocorrelation(np.array([[[1.0], [2.0], [3.0]]]), np.zeros(1))
    np.testing.assert_allclose(rho, [1, 4 / (14 / 3), 3 / (14 / 3)], rtol=1e-14)


@pytest.mark.parametrize("num", [1, 2, 7, 64])
def test_autocorrelation_equals_the_direct_sum(num):
    draws = sticky(chains=3, num=num, dim=4) * np.array([1e3, 1.0, 1e-3, 10.0])
    mean = np.array([1.0, -0.5, 0.0, 2.0])
    slow = slow_autocorrelation(draws, mean)
    np.testing.assert_allclose(diagnostics.autocorrelation(draws, mean), slow, atol=1e-12)
    np.testing.assert_allclose(
        diagnostics.autocorrelation(draws, mean, max_lag=5), slow[:6], atol=1e-12
    )
    expected = 1 / (1 + 2 * sum(value for value in slow[1:] if value > 0.05))
    assert diagnostics.paper_ess(draws, mean) == pytest.approx(expected, rel=1e-10)
    assert diagnostics.paper_ess(draws * 1e200, mean * 1e200) == pytest.approx(expected, rel=1e-10)


def test_paper_ess_of_a_known_chain():
    coefficient = 0.8
    rho = coefficient ** np.arange(1, 14)  # 0.8^13 = 0.055 is the last above 0.05
    assert rho[-1] > 0.05 > coefficient**14
    draws = autoregressive(coefficient, chains=4000, num=100, dim=3)
    assert diagnostics.paper_ess(draws, np.zeros(3)) == pytest.approx(
        1 / (1 + 2 * rho.sum()), rel=0.03
    )


def test_paper_ess_is_at_most_one_and_cuts_antithetic_gains():
    noise = np.random.default_rng(0).standard_normal((4000, 41, 1))
    antithetic = noise[:, 1:] - noise[:, :-1]  # autocorrelation 1, -1/2, 0, 0, ...
    assert diagnostics.autocorrelation(antithetic, np.zeros(1))[1] == pytest.approx(-0.5, abs=0.01)
    assert diagnostics.paper_ess(antithetic, np.zeros(1)) == 1


def test_paper_ess_punishes_strongly_antithetic_chains():
    # Its cut keeps the positive even lags of (-0.9)^tau and drops the odd ones; the true value is
    # 19.
    draws = autoregressive(-0.9, chains=2000, num=100)
    even = 0.81 ** np.arange(1, 15)
    assert diagnostics.paper_ess(draws, np.zeros(1)) == pytest.approx(
        1 / (1 + 2 * even.sum()), rel=0.05
    )
    assert diagnostics.bulk_ess(draws[:8])[0] > 8 * 100


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_paper_ess_of_what_cannot_be_judged_is_nan(bad):
    draws = autoregressive(0.5, chains=4, num=50)
    draws[1, 2] = bad
    assert np.isnan(diagnostics.paper_ess(draws, np.zeros(1)))
    assert np.isnan(diagnostics.paper_ess(np.full((4, 50, 1), 3.0), np.full(1, 3.0)))


@pytest.mark.parametrize(("chains", "num"), [(4, 200), (5, 57), (1, 100), (8, 8)])
def test_ess_and_rhat_equal_arviz(chains, num):
    import arviz_base
    import arviz_stats

    single = sticky(chains=chains, num=num, dim=3)
    draws = single.astype(float)
    tree = arviz_base.from_dict({"posterior": {"x": draws, "sq": (draws - 0.5) ** 2}})
    ess = arviz_stats.ess(tree, method="bulk")
    np.testing.assert_array_equal(diagnostics.bulk_ess(draws), ess["x"])
    np.testing.assert_array_equal(diagnostics.bulk_ess_sq(draws, np.full(3, 0.5)), ess["sq"])
    np.testing.assert_array_equal(
        diagnostics.rhat(draws), arviz_stats.rhat(tree, method="rank")["x"]
    )
    np.testing.assert_array_equal(
        diagnostics.bulk_ess(single), ess["x"]
    )  # float32 draws are ranked in float64
    own = diagnostics.bulk_ess_sq(draws, draws.mean(axis=(0, 1)))
    np.testing.assert_array_equal(diagnostics.bulk_ess_sq(draws), own)


@pytest.mark.parametrize(
    "statistic", [diagnostics.bulk_ess, diagnostics.bulk_ess_sq, diagnostics.rhat]
)
def test_constant_and_nonfinite_coordinates_are_nan_alone(statistic):
    draws = autoregressive(0.0, chains=4, num=100, dim=4)
    draws[:, :, 0] = 1.0
    draws[2, 3, 1] = np.nan
    draws[0, 0, 2] = -np.inf
    np.testing.assert_array_equal(np.isnan(statistic(draws)), [True, True, True, False])
    assert np.isnan(statistic(draws[:, :7])).all()
    apart = np.broadcast_to(
        np.arange(4.0)[:, None, None], (4, 100, 1)
    )  # every chain frozen, each elsewhere
    assert diagnostics.bulk_ess(apart)[0] < 10
    assert diagnostics.rhat(apart)[0] > 1e6


def test_z_scores_of_exact_draws_are_standard():
    rng = np.random.default_rng(0)
    mean, variance = np.array([3.0, -1.0, 0.0]), np.array([4.0, 1e-4, 100.0])
    runs = (mean + np.sqrt(variance) * rng.standard_normal((100, 20, 3)) for _ in range(300))
    scores = np.array(
        [diagnostics.z_scores(draws, mean, variance) for draws in runs]
    )  # (runs, which moment, dim)
    assert np.abs(scores).max() < 5
    assert (
        np.abs(scores.mean(axis=0)).max() < 4 / np.sqrt(300) + 0.15
    )  # squares are skewed: t-like bias
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=0.2)


def test_z_scores_detect_a_shift_and_a_wrong_scale():
    draws = autoregressive(0.5, chains=100, num=200, dim=2)
    draws[:, :, 0] += 0.1
    draws[:, :, 1] *= 1.1
    z_mean, z_var = diagnostics.z_scores(draws, np.zeros(2), np.ones(2))
    assert z_mean[0] > 5 > abs(z_mean[1])
    assert z_var[1] > 5


def test_z_scores_by_hand():
    draws = np.array(
        [[[0.0]], [[1.0]], [[2.0]], [[3.0]]]
    )  # chain means 0..3: mean 1.5, sd sqrt(5/3)
    z_mean, z_var = diagnostics.z_scores(draws, np.array([1.0]), np.array([2.0]))
    assert z_mean[0] == pytest.approx(0.5 / np.sqrt(5 / 3 / 4))
    squares = np.array([1.0, 0.0, 1.0, 4.0])
    assert z_var[0] == pytest.approx((squares.mean() - 2) / (squares.std(ddof=1) / 2))
    with pytest.raises(ValueError, match=r"at least 4 chains .* got 3"):
        diagnostics.z_scores(draws[:3], np.zeros(1), np.ones(1))


def test_z_scores_without_a_standard_error():
    nan = np.nan
    draws = autoregressive(0.0, chains=4, num=10, dim=5)
    draws[:, :, 3] = 1.0
    draws[:, :, 4] = 0.0
    z_mean, z_var = diagnostics.z_scores(
        draws, np.array([nan, 0, 0, 0, 0]), np.array([1, nan, 1, 1, 0])
    )
    assert np.isnan(z_mean[0])
    assert np.isnan(z_var[:2]).all()
    assert np.isfinite([z_mean[1], z_mean[2], z_var[2]]).all()
    assert (z_mean[3], z_var[3]) == (np.inf, 0)  # frozen beside the mean
    assert (z_mean[4], z_var[4]) == (0, 0)
    draws[0, 0, 2] = np.inf
    assert np.isnan(diagnostics.z_scores(draws, np.zeros(5), np.ones(5))[0][2])


def test_mode_summary_by_hand():
    labels = np.array([[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [2, 2, 0, 1]])
    summary = diagnostics.mode_occupation(labels, 3)
    occupation = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [1, 0, 0], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(summary.weights, occupation.mean(axis=0))
    np.testing.assert_allclose(summary.errors, occupation.std(axis=0, ddof=1) / 2)
    assert summary.switches_per_step == pytest.approx((1 + 3 + 0 + 2) / 12)
    assert summary.saw_all == 0.25
    assert np.isnan(diagnostics.mode_occupation(labels[:1], 3).errors).all()


@pytest.mark.parametrize("label", [-1, 2])
def test_mode_summary_refuses_labels_out_of_range(label):
    labels = np.zeros((4, 10), int)
    labels[1, 2] = label
    with pytest.raises(ValueError, match=f"0 to 1, got .*{label}"):
        diagnostics.mode_occupation(labels, 2)


def test_mode_rhat():
    rng = np.random.default_rng(0)
    mixing = rng.integers(0, 3, (8, 500))
    assert diagnostics.mode_rhat(mixing, 3) < 1.02
    stuck = np.broadcast_to(np.arange(8)[:, None] % 3, (8, 500))
    assert diagnostics.mode_rhat(stuck, 3) == np.inf
    halves = np.repeat([[0, 1]], 250, axis=1).repeat(4, axis=0)
    assert diagnostics.mode_rhat(halves, 2) == np.inf
    assert np.isnan(diagnostics.mode_rhat(mixing[:1], 3))


def test_efficiency_divides_the_worst_dimension_by_total_cost():
    draws = np.concatenate(
        [autoregressive(c, chains=8, num=200, seed=i) for i, c in enumerate((0.0, 0.9))], axis=2
    )
    figures = diagnostics.efficiency(
        draws, num_gradients_total=16_000, seconds=2.0, centre=np.zeros(2)
    )
    worst, worst_sq = (
        diagnostics.bulk_ess(draws).min(),
        diagnostics.bulk_ess_sq(draws, np.zeros(2)).min(),
    )
    assert figures[:3] == pytest.approx((worst / 1600, worst / 16_000, worst / 2))
    assert figures[3:] == pytest.approx((worst_sq / 1600, worst_sq / 16_000, worst_sq / 2))
    with pytest.raises(ValueError, match="positive, got 0 and 2"):
        diagnostics.efficiency(draws, num_gradients_total=0, seconds=2.0)


def well(chains=4, num=1000):
    """Acceptance, decisions and divergences of a healthy run."""
    decisions = np.random.default_rng(0).random((chains, num)) < 0.8
    return np.full((chains, num), 0.8), decisions, np.zeros((chains, num), bool)


def test_a_healthy_run_has_no_warning():
    assert (
        diagnostics.health(
            *well(), 0, rhat_max=1.005, mode_weights=np.array([0.4, 0.6]), mode_rhat=1.01
        )
        == []
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_nonfinite": 40}, ["1 %", "not finite", "float64"]),
        ({"num_nonfinite": 400}, ["10 %", "cut off", "float64"]),
        ({"rhat_max": 1.02}, ["R-hat is 1.020", "run longer"]),
        ({"rhat_max": np.nan}, ["R-hat is not defined", "at least 2 chains"]),
        ({"mode_weights": np.array([0.5, 0.0, 0.5])}, ["modes [1]", "never visited", "tempering"]),
        ({"mode_weights": np.array([0.5, 0.5]), "mode_rhat": np.inf}, ["inf", "tempering"]),
    ],
)
def test_health_says_value_and_remedy(change, words):
    acceptance, accepted, divergent = well()
    num_nonfinite = change.pop("num_nonfinite", 0)
    divergent.ravel()[:num_nonfinite] = True  # the kernel counts them as divergent too
    (message,) = diagnostics.health(acceptance, accepted, divergent, num_nonfinite, **change)
    assert all(word in str(message) for word in words), message
    assert message.is_fatal == ("cut off" in words or "rhat_max" in change)


def test_health_thresholds():
    acceptance, accepted, divergent = well()
    assert diagnostics.health(acceptance, accepted, divergent, 4) == []  # 1e-3 of 4000 steps
    divergent[0, :5] = True
    (message,) = diagnostics.health(acceptance, accepted, divergent, 0)
    assert "5 of 4000 proposals diverged" in message.message
    assert "step size" in message.remedy


def test_health_sees_one_slow_chain_among_good_ones():
    acceptance, accepted, divergent = well()
    acceptance[2] = 0.03
    (message,) = diagnostics.health(acceptance, accepted, divergent, 0)
    assert "1 of 4 chains (worst 0.030, median 0.800)" in message.message
    (message,) = diagnostics.health(np.full_like(acceptance, np.nan), accepted, divergent, 0)
    assert "4 of 4 chains" in message.message


@pytest.mark.parametrize(("frozen", "warned"), [(199, False), (200, True)])
def test_health_sees_a_stuck_chain(frozen, warned):
    acceptance, accepted, divergent = well()
    accepted[1] = True
    accepted[1, 300 : 300 + frozen] = False
    messages = diagnostics.health(acceptance, accepted, divergent, 0)
    assert len(messages) == warned
    assert all("1 of 4 chains rejected 200 proposals" in str(message) for message in messages)
    assert all(message.is_fatal for message in messages)


@pytest.mark.parametrize(("frozen", "is_fatal"), [(399, False), (400, True)])
def test_a_stuck_chain_is_an_error_from_a_fifth_of_its_steps_on(frozen, is_fatal):
    acceptance, accepted, divergent = (np.tile(array, 2) for array in well())
    accepted[1] = True
    accepted[1, 300 : 300 + frozen] = False
    (message,) = diagnostics.health(acceptance, accepted, divergent, 0)
    assert message.is_fatal == is_fatal
    assert f"at most {frozen} of 2000" in message.message


def test_health_of_thinned_draws_counts_proposals():
    """Sixteen steps between two draws: each figure is that of the steps, not of the draws."""
    acceptance, _, _ = well()
    accepted, diverging = np.full((4, 1000), 13), np.zeros((4, 1000), int)
    assert diagnostics.health(acceptance, accepted, diverging, 64, thin=16) == []  # 1e-3 of 64,000
    (message,) = diagnostics.health(acceptance, accepted, diverging + 1, 4000, thin=16)
    assert "6.2 % of proposals" in message.message
    assert not diagnostics.health(acceptance, accepted, diverging, 100, thin=16)[0].is_fatal
    diverging[0, :5] = 13
    (message,) = diagnostics.health(acceptance, accepted, diverging, 0, thin=16)
    assert "65 of 64000 proposals diverged" in message.message
    diverging[0, :5] = 0
    for draws, stuck in ((12, False), (13, True)):  # 192 rejections in a row, or a few more; 208
        accepted[1, 300 : 300 + draws] = 0
        assert len(diagnostics.health(acceptance, accepted, diverging, 0, thin=16)) == stuck


@pytest.mark.parametrize("num", [1000, 2000])
def test_a_chain_frozen_a_fifth_of_the_time_is_caught(num):
    # A fifth of 1000 draws is STUCK_STEPS. In shorter runs a chain frozen near the mean can pass
    # both checks.
    for seed in range(20):
        draws = autoregressive(0.5, chains=4, num=num, dim=2, seed=seed)
        accepted = np.ones((4, num), bool)
        start = np.random.default_rng(seed).integers(1, num - num // 5)
        draws[0, start : start + num // 5] = draws[0, start - 1]
        accepted[0, start : start + num // 5] = False
        stuck = diagnostics.health(accepted.astype(float), accepted, ~accepted & False, 0)
        assert stuck or diagnostics.rhat(draws).max() > 1.05


@pytest.mark.parametrize(
    ("chains", "num", "dim"), [(4, 100, 10), (16, 8, 2), (4, 9, 1), (16, 50, 10)]
)
def test_few_independent_draws_are_below_the_limit_of_their_rhat(chains, num, dim):
    """At 1.01 a perfect sampler would fail more often than not."""
    rng = np.random.default_rng(chains + num)
    found = np.asarray(
        [diagnostics.rhat(rng.normal(size=(chains, num, dim))).max() for _ in range(20)]
    )
    limit = diagnostics.rhat_limit(chains, num, dim)
    assert (found > limit).sum() <= 1
    assert (found > 1.01).sum() > 5
    draws = rng.normal(size=(chains, num, dim))
    draws[0] += 1.5
    assert num < 20 or diagnostics.rhat(draws).max() > limit


def test_the_limit_of_rhat_is_the_usual_one_for_many_draws():
    assert diagnostics.rhat_limit(16, 1000, 200) == diagnostics.rhat_limit(4, 500, 10) == 1.01
    assert diagnostics.rhat_limit(1, 2, 1) == diagnostics.rhat_limit(4, 3, 1) == 1.01


def test_health_refuses_arrays_of_different_shape():
    acceptance, accepted, divergent = well()
    with pytest.raises(ValueError, match=r"\(4, 1000\), \(4, 1000\) and \(4, 999\)"):
        diagnostics.health(acceptance, accepted, divergent[:, 1:], 0)


def test_ess_rewards_failure_and_the_modes_tell():
    """All chains in one of two modes: ESS and R-hat are fine, the weights of the modes are not."""
    draws = -2 + 0.3 * autoregressive(0.2, chains=8, num=500, dim=2)
    labels = (draws[:, :, 0] > 0).astype(int)
    assert diagnostics.bulk_ess(draws).min() > 0.5 * 8 * 500
    assert diagnostics.rhat(draws).max() < 1.01
    summary = diagnostics.mode_occupation(labels, 2)
    np.testing.assert_array_equal(summary.weights, [1, 0])
    assert (summary.switches_per_step, summary.saw_all) == (0, 0)
    assert diagnostics.mode_rhat(labels, 2) == 1  # blind to it: no chain disagrees
    (message,) = diagnostics.health(*well(8, 500), 0, rhat_max=1.005, mode_weights=summary.weights)
    assert "modes [1] were never visited" in message.message


@pytest.mark.parametrize(
    "statistic", [diagnostics.bulk_ess, diagnostics.bulk_ess_sq, diagnostics.rhat]
)
def test_draws_must_have_three_axes(statistic):
    with pytest.raises(ValueError, match=r"\(chains, draws, dim\), got \(4, 100\)"):
        statistic(np.zeros((4, 100)))


def test_importing_diagnostics_does_not_import_arviz():
    code = (
        "import sys, capriole.diagnostics; "
        "sys.exit(any(m.startswith(('arviz', 'scipy')) for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_health_names_a_chain_that_never_moved():
    acceptance, accepted, divergent = well()
    accepted[2], acceptance[2] = False, 0
    (message,) = diagnostics.health(acceptance, accepted, divergent, 0)
    assert "1 of 4 chains accepted none of 1000 proposals" in message.message
    assert "smaller step size" in message.remedy


def test_health_sees_modes_never_left():
    (message,) = diagnostics.health(
        *well(), 0, mode_weights=np.array([0.5, 0.5]), mode_rhat=np.inf, mode_switches=0.0
    )
    assert "no chain ever left the mode" in message.message


@pytest.mark.parametrize(
    ("dtype", "size", "warned"),
    [("float32", 2e5, True), ("float32", 5e4, False), ("float64", 2e5, False)],
)
def test_health_knows_what_single_precision_costs(dtype, size, warned):
    """Twice |U| 2^-24 is 2.4 % at 2e5 and 0.6 % at 5e4."""
    logdensity = np.full((4, 1000), -size, dtype)
    messages = diagnostics.health(*well(), 0, logdensity=logdensity)
    assert len(messages) == warned
    assert all("2.4 %" in m.message and "float64" in m.remedy for m in messages)


def test_a_tally_in_blocks_is_the_tally_of_the_whole():
    rng = np.random.default_rng(0)
    acceptance, lp = rng.random((4, 900)), rng.normal(size=(4, 900))
    accepted, divergent = rng.random((4, 900)) < 0.3, rng.random((4, 900)) < 0.1
    accepted[1, 250:520] = False  # across two borders
    whole = diagnostics.tally(acceptance, accepted, divergent, 7, logdensity=lp)
    blocks = None
    for part in (slice(0, 300), slice(300, 310), slice(310, 900)):
        blocks = diagnostics.tally(
            acceptance[:, part],
            accepted[:, part],
            divergent[:, part],
            7 if part.start == 300 else 0,
            logdensity=lp[:, part],
            before=blocks,
        )
    for a, b in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert whole.longest[1] >= 270


def test_training_health():
    rng = np.random.default_rng(0)
    loss, rate, skipped = rng.normal(size=100), np.full(100, 0.8), np.zeros(100, bool)
    assert diagnostics.training_health(loss, rate, skipped) == []
    (message,) = diagnostics.training_health(np.full(100, 3.0), rate, skipped)
    assert "stayed at exactly 3 over the last 50 steps" in message.message
    loss[3] = np.nan
    (message,) = diagnostics.training_health(loss, rate, skipped)
    assert "not finite in 1 of 100" in message.message
    (message,) = diagnostics.training_health(np.arange(100.0), rate, np.arange(100) < 5)
    assert "5 of 100 updates" in message.message
    (message,) = diagnostics.training_health(np.arange(100.0), rate / 20, skipped)
    assert "rate of 0.040" in message.message
