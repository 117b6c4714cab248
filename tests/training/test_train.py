"""`capriole.train`: a frozen kernel, its history and its cost."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.kernels import StoppedForce
from capriole.sampling import run_hmc_warmup
from densities import hosted

pytestmark = pytest.mark.usefixtures("standard_promotion")
INIT = {"beta": jnp.zeros(2), "group": {"tau": jnp.asarray(0.0)}}
SMALL = {"num_leapfrogs": 2, "num_steps": 20, "num_chains": 16, "width": 8}


def model(p):
    return -jnp.sum((p["beta"] - 1) ** 2) / 2 - (p["group"]["tau"] + 2) ** 2 / 8


@pytest.fixture(scope="module")
def result():
    with jax.numpy_dtype_promotion("standard"):
        return capriole.train(model, INIT, seed=1, **SMALL)


def test_train_returns_a_frozen_kernel_with_its_history(result):
    assert isinstance(result.transition, capriole.kernels.Transition)
    assert result.history["loss"].shape == (20,)
    assert result.completed
    # The pilot's 500 steps of HMC are part of the cost.
    assert result.num_gradients == 16 * 2 * (20 + 500)


def normal(x):
    return -jnp.sum(x**2) / 2


def test_log_densities_without_second_derivatives_train_with_a_warning_in_the_log(
    caplog, monkeypatch
):
    few = partial(run_hmc_warmup, num_steps=20)
    monkeypatch.setattr("capriole.training._api.run_hmc_warmup", few)
    with caplog.at_level(logging.WARNING, logger="capriole"):
        result = capriole.train(
            hosted, np.zeros(2), step_size=0.3, num_leapfrogs=1, num_steps=3, num_chains=2, width=4
        )
    assert "no second derivative" in caplog.text
    assert "the kernel is exact" in caplog.text
    assert not isinstance(result.transition.logdensity, StoppedForce)
    assert result.completed


def test_tempered_training_through_the_front_door():
    result = capriole.train(normal, np.zeros(2), start_temperature=4.0, **SMALL)
    assert result.history["temperature"][0] == 4
    assert result.history["temperature"][-1] == pytest.approx(1, rel=1e-5)
