"""Parts of the direct way, one by one: doubts, the number of draws, a pass that goes on."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import Whitened, identity
from capriole.fitting import Cost
from capriole.fitting._final_run import InMemory, PassState, draws_per_chain
from capriole.fitting.proposers import doubts
from capriole.kernels import Rotation, Transition, per_chain
from densities import Gaussian
from stored import candidate

RNG = np.random.default_rng(3)
PLAIN = RNG.normal(size=(16, 100, 3))
NECK = np.concatenate([3 * PLAIN[..., :1], PLAIN[..., 1:] * np.exp(1.5 * PLAIN[..., :1])], axis=2)


def measured(**figures):
    made = candidate(worst=0.3)
    usual = {"rhat_max": 1.01, "nonfinite": 0.0}
    return replace(made, metrics=made.metrics._replace(**(usual | figures)))


@pytest.mark.parametrize("draws", [PLAIN, np.exp(PLAIN / 2), PLAIN @ RNG.normal(size=(3, 3))])
def test_draws_without_a_funnel_raise_no_doubt(draws):
    assert doubts(measured(), draws) == []


@pytest.mark.parametrize(
    ("figures", "draws", "word"),
    [
        ({"rhat_max": 1.2}, PLAIN, "R-hat 1.2"),
        ({"rhat_max": float("nan")}, PLAIN, "R-hat nan"),
        ({"nonfinite": 0.02}, PLAIN, "2.0% of its proposals"),
        ({"ess_per_gradient": 1e-4}, PLAIN, "0.0001 effective draws"),
        ({}, NECK, "look like a funnel"),
    ],
)
def test_each_kind_of_doubt_is_told(figures, draws, word):
    (doubt,) = doubts(measured(**figures), draws)
    assert word in doubt


@pytest.mark.parametrize(("rate", "length", "expected"), [(0.5, 1, 150), (0.1, 3, 250)])
def test_as_many_draws_as_the_rate_asks_for(rate, length, expected):
    row = SimpleNamespace(name="rotation", worst=rate, num_leapfrogs=length)
    found = SimpleNamespace(rows=(row,), chosen="rotation", starts=np.zeros((3, 16)))
    settings = SimpleNamespace(num_effective=1000, num_chains=16)
    assert draws_per_chain(found, settings) == expected


def test_a_pass_that_goes_on_has_the_draws_of_one_that_was_longer():
    target = Whitened(Gaussian(jnp.array([1.0, 2.0])), identity(2, jnp.dtype("float64")))
    kernel = per_chain(Transition(target, Rotation(jnp.asarray(1.5), jnp.asarray(1))), 4)
    start = PassState(0, kernel.init(jnp.asarray(RNG.normal(size=(2, 4)))), Cost())
    key = jax.random.key(0)
    one, two = InMemory(), InMemory()
    one.draws(start, key, kernel, num_draws=30, progress=None)
    pieces = one.draws(start, key, kernel, num_draws=75, progress=None)
    whole = two.draws(start, key, kernel, num_draws=75, progress=None)
    for name, field in whole.record._asdict().items():
        np.testing.assert_array_equal(getattr(pieces.record, name), field, err_msg=name)
    assert pieces.num_gradients == whole.num_gradients
