"""Whole fits of densities with far ends that are hard to reach: right there, or said to be not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.diagnostics import ProblemKind
from capriole.fitting import NutsSampler, fit, run_until_mixed

pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.slow]

ENDS = {ProblemKind.TAIL_MISSED, ProblemKind.TAIL_STICKY}
LEVEL = 0.001


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def parabolas(num):
    """x1 ~ N(0, 3^2),  x_k ~ N(x_{k-1}^2 / 8, 0.4^2): its log density, and exact draws."""

    def logdensity(x):
        rest = x[1:] - x[:-1] ** 2 / 8
        return -((x[0] / 3) ** 2) / 2 - jnp.sum((rest / 0.4) ** 2) / 2

    rng = np.random.default_rng(0)
    exact = [3 * rng.normal(size=1_000_000)]
    for _ in range(num - 1):
        exact.append(exact[-1] ** 2 / 8 + 0.4 * rng.normal(size=exact[0].size))
    return logdensity, np.stack(exact)


def banana():
    """x1 ~ N(0, 1),  x2 ~ N(x1^2, 0.5^2)."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=1_000_000)
    exact = np.stack([first, first**2 + 0.5 * rng.normal(size=first.size)])
    return lambda x: -(x[0] ** 2) / 2 - ((x[1] - x[0] ** 2) / 0.5) ** 2 / 2, exact


def wrong_ends(draws, exact):
    """Dimensions in which draws (..., dim) beyond the exact 99.9 % points are a third or thrice."""
    found = set()
    for k, values in enumerate(exact):
        low, high = np.quantile(values, [LEVEL, 1 - LEVEL])
        for share in (np.mean(draws[..., k] < low), np.mean(draws[..., k] > high)):
            if not LEVEL / 3 < share < 3 * LEVEL:
                found.add(k)
    return found


@pytest.mark.parametrize(("num", "seed"), [(3, 1), (4, 1), (4, 2)])
def test_the_end_of_a_chain_of_parabolas_is_reached_or_said_to_be_missed(num, seed):
    logdensity, exact = parabolas(num)
    found = fit(logdensity, jnp.zeros(num), seed=seed, train_steps=0, compare=False)
    draws = np.asarray(found.tree["posterior"]["x"])
    said = ENDS & {problem.kind for problem in found.verdict.problems}
    assert said or not wrong_ends(draws, exact)


def test_nuts_reaches_the_ends_of_a_banana_with_smaller_steps():
    """With a target acceptance of 0.8 it has a quarter of the draws beyond the 99 % point."""
    logdensity, exact = banana()
    starts = jax.random.normal(jax.random.key(3), (2, 16))
    target = capriole.PerChain(logdensity)
    sampler = NutsSampler(jax.random.key(1), target, starts, 1000, ())
    final = run_until_mixed(sampler)
    assert sampler.acceptance > 0.8
    assert not wrong_ends(final.position, exact)


def test_a_horseshoe_regression_does_not_fail():
    """Ten coefficients, 60 rows, non-centred: NUTS mixes with a target acceptance of 0.95."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 10))
    y = rows[:, :3] @ np.array([2.0, -1.5, 1.0]) + rng.normal(size=60)

    def half_cauchy(log_scale):
        return log_scale - jnp.log1p(jnp.exp(2 * log_scale))

    def logdensity(x):
        z, local, total, noise = x[:10], x[10:20], x[20], x[21]
        rest = y - rows @ (z * jnp.exp(local + total))
        prior = -z @ z / 2 + jnp.sum(half_cauchy(local)) + half_cauchy(total) - noise**2 / 2
        return prior - jnp.sum(rest**2) * jnp.exp(-2 * noise) / 2 - len(y) * noise

    verdict = fit(logdensity, jnp.zeros(22), seed=1, train_steps=0).verdict
    assert not verdict.failed, verdict.table()
