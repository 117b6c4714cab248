"""The rule of agreement on reference draws of posteriordb."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.diagnostics import Z_LIMIT, agreement
from capriole.kernels import PerChain, hmc
from capriole.sampling import draw_chains
from capriole_lab.targets import POSTERIORS, PosteriordbError, make_target, reference_draws
from checkout import missing, needs_checkout

NAMES = [full.removeprefix("posteriordb/") for full in POSTERIORS]


@needs_checkout
@pytest.mark.parametrize("name", NAMES)
def test_halves_of_a_reference_agree_and_shifted_halves_do_not(name):
    draws = np.stack(list(reference_draws(name).values()), axis=-1)
    scale = draws.std(axis=(0, 1))
    first, second = draws[:5], draws[5:]
    result = agreement(first, second)
    assert result.passed
    assert (result.ess > 3000).all()
    shifted = agreement(first + 0.25 * scale, second)
    assert not shifted.passed
    assert (np.abs(shifted.z_mean) > Z_LIMIT).all()
    wide = agreement(1.15 * (first - first.mean(axis=(0, 1))) + first.mean(axis=(0, 1)), second)
    assert (np.abs(wide.z_square) > 2).all()
    assert not wide.passed


@needs_checkout
def test_draws_of_hmc_agree_and_those_of_a_wrong_density_do_not():
    """The rule on a sampler: eight schools, and the same without the Jacobian of tau."""
    name = NAMES[0]
    target = make_target("posteriordb/" + name)
    reference = np.stack(list(reference_draws(name).values()), axis=-1)
    start = target.start(jax.random.key(1), 64)
    verdicts = []
    for density in (target, PerChain(lambda x: target(x) - x[-1])):
        kernel = hmc(density, step_size=0.35, num_leapfrogs=9, jitter=0.3)
        draws = draw_chains(
            jax.random.key(2), kernel, kernel.init(start), num_draws=700
        ).record.position[:, 200:]
        parameters = target.constrain(jnp.moveaxis(jnp.asarray(draws), -1, 0))
        verdicts.append(agreement(np.stack(list(parameters.values()), axis=-1), reference))
    right, wrong = verdicts
    assert right.passed
    assert (right.ess > 3000).all()
    assert np.abs(wrong.z_mean[-1]) > Z_LIMIT
    assert not wrong.passed


def test_a_checkout_that_is_named_but_missing_is_no_reason_to_skip(monkeypatch, tmp_path):
    monkeypatch.setenv("CAPRIOLE_POSTERIORDB", str(tmp_path))
    with pytest.raises(PosteriordbError, match="holds no posteriordb checkout"):
        missing()
    monkeypatch.delenv("CAPRIOLE_POSTERIORDB")
    monkeypatch.chdir(tmp_path)
    assert "no posteriordb checkout found" in missing()
