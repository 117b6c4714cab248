"""AIS where the answer is known in closed form: a linear decoder with Gaussian noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole import AbstractLogDensity
from capriole_lab.dlgm import plan_ais, run_ais, run_reverse_ais, sigmoid_schedule, weighted_draws
from capriole_lab.dlgm.measures._ais import compensated, log_mean_exp

LATENT, DATA, NOISE = 5, 12, 0.5


class LinearGaussian(AbstractLogDensity):
    """x | z ~ N(W z, s^2 I), for images side by side with their chains."""

    weight: jnp.ndarray
    images: jnp.ndarray
    noise: float = eqx.field(static=True, default=NOISE)

    def __call__(self, position):
        mean = (self.weight @ position).reshape(*self.images.shape, -1)
        square = jnp.sum((self.images[:, :, None] - mean) ** 2, axis=0).reshape(-1)
        return -square / (2 * self.noise**2) - DATA / 2 * jnp.log(2 * jnp.pi * self.noise**2)

    def exact(self):
        cov = self.weight @ self.weight.T + self.noise**2 * jnp.eye(DATA)
        density = stats.multivariate_normal(np.zeros(DATA), np.asarray(cov))
        return np.atleast_1d(density.logpdf(np.asarray(self.images.T)))


def simulated(num, noise=NOISE):
    keys = jax.random.split(jax.random.key(0), 3)
    weight = jax.random.normal(keys[0], (DATA, LATENT))
    latents = jax.random.normal(keys[1], (LATENT, num))
    images = weight @ latents + noise * jax.random.normal(keys[2], (DATA, num))
    return LinearGaussian(weight, images, noise), latents


def plan(likelihood, num, temperatures, leapfrogs=10):
    key = jax.random.key(1)
    sizes = {
        "latent": LATENT,
        "num_images": num,
        "num_temperatures": temperatures,
        "num_leapfrogs": leapfrogs,
    }
    return plan_ais(key, likelihood, **sizes)


def test_a_thousand_temperatures_recover_the_exact_likelihood_and_close_the_sandwich():
    likelihood, latents = simulated(6)
    ready = plan(likelihood, 6, 1000)
    lower = run_ais(jax.random.key(2), likelihood, ready, latent=LATENT, num_chains=64)
    upper = run_reverse_ais(jax.random.key(3), likelihood, ready, latents, num_chains=64)
    exact = likelihood.exact()
    for found in (lower, upper):
        assert found.error.max() < 0.15
        assert np.all(np.abs(found.log_likelihood - exact) < 4 * found.error)
    assert abs(np.mean(upper.log_likelihood - lower.log_likelihood)) < 0.1
    assert 0.4 < lower.acceptance_rate < 0.95
    assert lower.num_gradients == 6 * 64 * 1000 * 11


def test_weights_are_unbiased_both_ways_even_with_few_temperatures():
    likelihood, _ = simulated(1, noise=2.0)
    ready = plan(likelihood, 1, 6, leapfrogs=3)
    lower = run_ais(jax.random.key(4), likelihood, ready, latent=LATENT, num_chains=20_000)
    assert abs(lower.log_likelihood[0] - likelihood.exact()[0]) < 4 * lower.error[0] < 0.1
    # Reverse: each chain needs its own exact draw of the posterior.
    precision = likelihood.weight.T @ likelihood.weight / 2.0**2 + jnp.eye(LATENT)
    mean = jnp.linalg.solve(precision, likelihood.weight.T @ likelihood.images / 2.0**2)
    noise = jax.random.normal(jax.random.key(5), (LATENT, 20_000))
    draws = mean + jnp.linalg.solve(jnp.linalg.cholesky(precision).T, noise)
    many = LinearGaussian(likelihood.weight, jnp.repeat(likelihood.images, 20_000, axis=1), 2.0)
    wide = ready._replace(step_sizes=jnp.repeat(ready.step_sizes, 20_000, axis=1))
    each = run_reverse_ais(jax.random.key(6), many, wide, draws, num_chains=1).log_likelihood
    value, error, _ = log_mean_exp(-each[None])
    assert abs(-value[0] - likelihood.exact()[0]) < 4 * error[0] < 0.15


def test_weighted_draws_have_the_moments_of_the_posterior():
    likelihood, _ = simulated(2)
    draws, weights = weighted_draws(
        jax.random.key(8),
        likelihood,
        plan(likelihood, 2, 30, leapfrogs=3),
        latent=LATENT,
        num_chains=8000,
    )
    assert weights.shape == (2, 8000)
    assert weights.sum(axis=1) == pytest.approx(np.ones(2))
    precision = likelihood.weight.T @ likelihood.weight / NOISE**2 + jnp.eye(LATENT)
    mean = jnp.linalg.solve(precision, likelihood.weight.T @ likelihood.images / NOISE**2).T
    found = np.einsum("ic,lic->il", weights, np.asarray(draws).reshape(LATENT, 2, 8000))
    error = np.sqrt(np.diag(np.linalg.inv(precision)) * np.sum(weights**2, axis=1)[:, None])
    assert np.all(np.abs(found - mean) < 4 * error)
    assert error.max() < 0.05


def test_few_temperatures_show_as_a_gap():
    likelihood, latents = simulated(6)
    ready = plan(likelihood, 6, 8, leapfrogs=3)
    lower = run_ais(jax.random.key(2), likelihood, ready, latent=LATENT, num_chains=4)
    upper = run_reverse_ais(jax.random.key(3), likelihood, ready, latents, num_chains=4)
    assert lower.log_likelihood.mean() + 1 < likelihood.exact().mean() < upper.log_likelihood.mean()


def test_the_pilot_finds_step_sizes_that_fall_as_the_posterior_narrows():
    likelihood, _ = simulated(2)
    sizes = plan(likelihood, 2, 400).step_sizes
    assert sizes.shape == (400, 2)
    assert np.all(np.asarray(sizes[-1]) < 0.8 * np.asarray(sizes).max(axis=0))


def test_schedule_runs_from_0_to_1_and_is_symmetric():
    powers = sigmoid_schedule(10)
    assert powers[0] == 0
    assert powers[-1] == 1
    assert np.all(np.diff(powers) > 0)
    np.testing.assert_allclose(powers + powers[::-1], 1, atol=1e-15)
    with pytest.raises(ValueError, match="got 0"):
        sigmoid_schedule(0)


def test_log_mean_exp_keeps_its_digits_and_its_error_is_that_of_repetitions():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4000, 50)) * 0.5
    value, error, ess = log_mean_exp(weights - 900)
    np.testing.assert_allclose(value, np.log(np.mean(np.exp(weights), axis=1)) - 900, rtol=1e-12)
    assert error.mean() == pytest.approx(value.std(), rel=0.1)
    assert np.all((ess > 1) & (ess <= 50))
    assert log_mean_exp(np.zeros((1, 50)))[2][0] == pytest.approx(50)


def test_long_sums_lose_no_digits_in_float32():
    terms = jnp.concatenate([jnp.asarray([1.0], jnp.float32), jnp.full(20_000, 3e-8, jnp.float32)])
    zero = jnp.zeros((), jnp.float32)
    (found, _), _ = jax.lax.scan(
        lambda total, term: (compensated(total, term), None), (zero, zero), terms
    )
    assert float(found) == pytest.approx(1 + 20_000 * 3e-8, rel=2e-7)
    plain, _ = jax.lax.scan(lambda total, term: (total + term, None), zero, terms)
    assert float(plain) == 1, "each term alone is less than a last digit"


class Constant(AbstractLogDensity):
    """The same value everywhere: every weight is that value, whatever the temperatures."""

    value: jnp.ndarray

    def __call__(self, position):
        return self.value + 0 * position[0]


def test_weights_are_sums_without_loss_in_both_directions():
    flat = Constant(jnp.asarray(-12345.678, jnp.float32))
    ready = plan(flat, 1, 3000, leapfrogs=1)
    assert ready.step_sizes.dtype == jnp.float32
    lower = run_ais(jax.random.key(2), flat, ready, latent=LATENT, num_chains=2)
    upper = run_reverse_ais(
        jax.random.key(3), flat, ready, jnp.zeros((LATENT, 1), jnp.float32), num_chains=2
    )
    for found in (lower, upper):
        assert abs(found.log_likelihood[0] - float(flat.value)) < 0.003  # digits are 0.001 apart
