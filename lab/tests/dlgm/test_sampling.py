"""Effective draws per gradient, and the goals read from stored results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.kernels import Leapfrog
from capriole_lab.dlgm import PosteriorDraws, build, settings_for
from capriole_lab.dlgm.files._files import plain
from capriole_lab.dlgm.measures._sampling import SAMPLERS, compare_samplers, sampling_row, worth
from capriole_lab.dlgm.report._goals import GAUSSIAN_SHARE, verdicts


def test_worth_of_independent_draws_is_one_over_the_gradients_and_of_stuck_chains_nothing():
    draws = np.random.default_rng(0).normal(size=(3, 4, 500, 2))
    found = worth(draws, 5)
    assert found["worse_per_gradient"] == pytest.approx(1 / 5, rel=0.15)
    assert found["max_rhat"] < 1.02
    draws[1, :, :, 1] = 0.3
    stuck = worth(draws, 5)
    assert stuck["worse_per_gradient"] == pytest.approx(
        found["worse_per_gradient"] * 2 / 3, rel=0.1
    )
    assert stuck["max_rhat"] == np.inf


def test_samplers_that_never_move_leave_ratios_that_are_not_finite(monkeypatch):
    stuck = PosteriorDraws(np.zeros((1, 4, 40, 3)), 0.0)
    monkeypatch.setattr(
        "capriole_lab.dlgm.measures._sampling.draw_posterior", lambda *_, **__: stuck
    )
    monkeypatch.setattr(
        "capriole_lab.dlgm.measures._sampling.tune_hmc", lambda *_: Leapfrog(jnp.asarray(9.0), 2)
    )
    model = build("hmc", settings_for("smoke", latent=3, hidden=4), 6, 0)[0].model
    found = compare_samplers(
        jax.random.key(0), model, model.dynamics, jnp.zeros((6, 1)), settings_for("smoke")
    )
    stored = plain(found)
    assert stored["worse_per_gradient_over_hmc"] is None
    row = sampling_row(stored, "hmc", SAMPLERS["hmc"])
    assert row[-2:] == ["0.0000 ± not finite", "not finite"], "one image has no standard error"


def test_the_cost_of_a_frame_is_shared_by_the_draws_of_its_image():
    draws = np.random.default_rng(2).normal(size=(2, 4, 500, 2))
    plain, framed = worth(draws, 3), worth(draws, 3, 6000)
    assert framed["ess_per_gradient"] == pytest.approx(plain["ess_per_gradient"] / 2, rel=1e-12)


def test_worth_takes_the_worst_latent_and_the_squares():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(2, 4, 500, 2))
    draws[:, :, 1::2, 0] = -draws[:, :, ::2, 0]  # antithetic: squares repeat themselves
    found = worth(draws, 1)
    assert found["ess_per_gradient"] > 0.85
    assert found["worse_per_gradient"] == pytest.approx(0.5, rel=0.15)


def results(gain=1.0, error=0.2, gap=0.5, ratio=4.0, rhat=1.01, classes=3.0, worse=3.5, share=0.5):
    difference = {
        "of": "l2hmc",
        "less": "hmc",
        "mean": gain,
        "se_over_images": error,
        "se_over_seeds": None,
    }
    one = {"mean": 2.0, "se": 0.1}
    return {
        "differences": [difference | {"by_seed": [gain]}],
        "models": [
            {
                "scheme": "l2hmc",
                "evaluation": {"sandwich": {"gap": gap}},
                "sampling": {
                    "ess_per_gradient_over_hmc": ratio,
                    "worse_per_gradient_over_hmc": worse,
                    "kernel": {
                        "ess_per_gradient": 0.1, "worse_per_gradient": 0.1, "max_rhat": rhat
                    },
                    "hmc": {"ess_per_gradient": 0.02, "worse_per_gradient": 0.02},
                },
                "inpainting": {
                    "sampler": {"distinct_classes": one | {"mean": classes}},
                    "encoder": {"distinct_classes": one},
                    "difference": {"distinct_classes": {"mean": classes - 2.0, "se": 0.15}},
                },
                "posterior": {
                    "many_images": {
                        "num_images": 9, "non_gaussian_share": share,
                        "non_gaussian_share_se": 0.1 * share,
                    }
                },
            }
        ],
    }  # fmt: skip


def test_goals_are_met_by_good_results():
    found = verdicts(results())
    assert len(found) == 7
    assert all(v.passed for v in found)


@pytest.mark.parametrize(
    ("change", "index"),
    [({"gain": 0.3}, 0), ({"gain": -1.0}, 0), ({"gap": 1.2}, 1), ({"ratio": 2.9}, 2),
     ({"worse": 2.0}, 3), ({"ratio": None}, 2), ({"worse": None}, 3), ({"rhat": 1.06}, 4),
     ({"rhat": None}, 4), ({"classes": 2.2}, 5), ({"share": 1.1 * GAUSSIAN_SHARE}, 6)],
)  # fmt: skip
def test_each_goal_can_be_missed(change, index):
    assert [i for i, v in enumerate(verdicts(results(**change))) if not v.passed] == [index]
