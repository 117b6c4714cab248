"""`fit` with two and three chains in its final run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole


def normal(x):
    return -jnp.sum((x - 1) ** 2) / 2


@pytest.mark.parametrize("num_chains", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_chains_are_enough_for_rhat(num_chains):
    """Under a setting that forbids what the library does by design, on top."""
    with jax.numpy_rank_promotion("raise"):
        found = capriole.fit(
            normal,
            np.zeros(2),
            num_chains=num_chains,
            num_draws=200,
            train_steps=0,
            compare=False,
            num_warmup_chains=16,
        )
    assert found.tree["posterior"]["x"].shape == (num_chains, 200, 2)
    assert not found.verdict.failed
    assert np.isfinite(found.verdict.final.rhat_max)
    assert float(found.tree["posterior"]["x"].mean()) == pytest.approx(1, abs=0.2)
