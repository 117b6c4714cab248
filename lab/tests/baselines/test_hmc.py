"""The baseline: the grid finds the step size that is best, and counts what it spends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole import diagnostics
from capriole_lab.baselines import tune_hmc
from capriole_lab.targets import IllConditionedGaussian


def score(draws):
    return float(np.min(diagnostics.bulk_ess_sq(draws, np.zeros(draws.shape[-1]))))


def tune(**options):
    target = IllConditionedGaussian(dim=2, low=1.0, high=4.0)
    starts = target.sample(jax.random.key(0), 8)
    return target, tune_hmc(
        jax.random.key(1), target, starts, score, num_leapfrogs=4, num_draws=200, **options
    )


def test_the_winner_has_the_best_score_and_is_no_worse_than_its_neighbours():
    target, tuning = tune(num_warmup=10)
    assert tuning.step_size in tuning.step_sizes
    assert (
        np.nanmax(tuning.scores) == tuning.scores[list(tuning.step_sizes).index(tuning.step_size)]
    )
    # Leapfrog on a Gaussian of smallest scale 1 is stable below 2: the grid must cover that and
    # find a large step.
    assert 0.2 < tuning.step_size < 2
    assert tuning.step_sizes.max() > 2
    assert np.isnan(tuning.scores[tuning.step_sizes > 2.2]).all()
    fine = np.sort(tuning.step_sizes)
    near = fine[(fine > tuning.step_size / 1.1) & (fine < tuning.step_size * 1.1)]
    assert len(near) >= 5
    state = tuning.transition.init(target.sample(jax.random.key(2), 100))
    _, info = tuning.transition.move(jax.random.key(3), state)
    assert float(jnp.mean(info.acceptance_rate)) > 0.3


def test_gradients_of_both_grids_are_counted():
    _, tuning = tune(num_warmup=10, step_sizes=[0.1, 0.5, 1.0])
    assert tuning.num_gradients == 2 * 3 * 8 * (200 + 10) * 4
    assert len(tuning.step_sizes) == 6


def test_jitter_gives_a_jittered_kernel():
    _, tuning = tune(num_warmup=10, step_sizes=[0.4, 0.8], jitter=0.2)
    assert type(tuning.transition).__name__ == "Jittered"


def test_no_usable_step_size_is_an_error():
    with pytest.raises(RuntimeError, match="no step size between 50 and 100"):
        tune(num_warmup=0, step_sizes=[50.0, 100.0])
