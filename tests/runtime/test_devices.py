"""Chains divided over devices."""

import jax
import jax.numpy as jnp
import pytest

import capriole
from capriole.sampling import draw_chains
from tiny import KERNEL, KEY, STATE


@pytest.mark.parametrize(
    "act", [lambda d: draw_chains(KEY, KERNEL, STATE, num_draws=1, devices=d), None]
)
def test_chains_that_cannot_be_divided_are_refused(act):
    devices = jax.devices() * 3
    act = act or (
        lambda d: capriole.train(
            KERNEL.logdensity, jnp.zeros(2), num_chains=8, num_steps=1, devices=d
        )
    )
    with pytest.raises(
        ValueError, match=r"8 chains cannot be divided evenly over 3 devices; take 6 or 9 chains"
    ):
        act(devices)
