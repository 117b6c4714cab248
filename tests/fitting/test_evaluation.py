"""Kernels are measured in the user's coordinates."""

import jax
import numpy as np

from capriole.coordinates import (
    Whitened,
    estimate_whitening,
)
from capriole.fitting import evaluate
from capriole.kernels import hmc
from densities import Correlated


def test_the_judge_measures_in_the_users_coordinates():
    target = Correlated.of()
    white = Whitened(
        target, estimate_whitening(np.asarray(target.sample(jax.random.key(0), 10_000)))
    )
    kernel = hmc(white, step_size=0.5, num_leapfrogs=3)
    found = evaluate(
        jax.random.key(1), kernel, white.whitening.inverse(target.sample(jax.random.key(2), 32))
    )
    assert 0.05 < found.worst < 1
    assert found.worst == min(found.ess_per_gradient, found.ess_sq_per_gradient)
    assert found.num_gradients == 32 * 500 * 3
    assert found.rhat_max < 1.05
