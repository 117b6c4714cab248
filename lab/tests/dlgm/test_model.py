"""The model against SciPy, plain autodiff, and itself in another layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from capriole.kernels import value_and_grad
from capriole_lab.dlgm import (
    Decoder,
    Diagonal,
    Encoder,
    Feedforward,
    ImageLikelihood,
    LatentPosterior,
    log_bernoulli,
)
from capriole_lab.dlgm._model import softplus
from capriole_lab.dlgm._schemes import binarise

F64 = jnp.float64


@pytest.fixture
def decoder():
    made = Decoder(jax.random.key(0), latent=3, hidden=8, pixels=5, dtype=F64)
    return jax.tree.map(lambda w: 3 * w, made)


def images(num):
    return jnp.asarray(np.random.default_rng(1).integers(0, 2, (5, num)), F64)


def test_softplus_and_two_derivatives_without_overflow():
    x = jnp.asarray([-800.0, -3.0, 0.0, 0.5, 40.0, 800.0])
    np.testing.assert_allclose(softplus(x), np.logaddexp(0, x), rtol=1e-15)
    sigma = 1 / (1 + np.exp(-np.clip(x, -700, None)))
    np.testing.assert_allclose(jax.vmap(jax.grad(softplus))(x), sigma, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(jax.grad(softplus)))(x), sigma * (1 - sigma), rtol=1e-9, atol=1e-15
    )


def test_log_bernoulli_is_scipys():
    x, logits = images(4), 3 * jax.random.normal(jax.random.key(2), (5, 4))
    expected = stats.bernoulli.logpmf(np.asarray(x), 1 / (1 + np.exp(-logits))).sum(axis=0)
    np.testing.assert_allclose(log_bernoulli(x, logits), expected, rtol=1e-12)
    np.testing.assert_allclose(log_bernoulli(x[:, 0], logits[:, 0]), expected[0], rtol=1e-12)


def test_softplus_has_all_of_float32s_digits():
    x = np.concatenate([np.linspace(-20, 20, 4001), [-80.0, 80.0]]).astype(np.float32)
    found = np.asarray(softplus(jnp.asarray(x)), np.float64)
    np.testing.assert_allclose(found, np.logaddexp(0, x.astype(np.float64)), rtol=4e-7)


@pytest.mark.parametrize(
    "pixels", [16, 17, 33, 785]
)  # 17 and 785 leave some over from 16 equal parts
def test_log_bernoulli_has_float32s_digits_whatever_the_number_of_pixels(pixels):
    rng = np.random.default_rng(pixels)
    x = rng.integers(0, 2, (pixels, 3)).astype(np.float32)
    logits = (5 * rng.normal(size=(pixels, 6))).astype(np.float32)
    many, exact = np.repeat(x, 2, axis=1), logits.astype(np.float64)
    terms = many * exact - np.logaddexp(0, exact)
    found = log_bernoulli(jnp.asarray(x), jnp.asarray(logits))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, terms.sum(axis=0), rtol=0, atol=1e-6 * np.abs(terms).sum(axis=0).max()
    )


def test_chains_of_one_image_lie_side_by_side(decoder):
    x = images(2)
    z = jax.random.normal(jax.random.key(3), (3, 6))
    together = ImageLikelihood(decoder, x)(z)
    apart = [ImageLikelihood(decoder, x[:, i // 3])(z[:, i]) for i in range(6)]
    np.testing.assert_allclose(together, apart, rtol=1e-13)
    with pytest.raises(
        ValueError, match=r"\(5,\) columns .* do not divide among images of shape \(5, 2\)"
    ):
        ImageLikelihood(decoder, x)(z[:, :5])


def test_gradient_and_curvature_of_the_posterior_are_plain_autodiffs(decoder):
    x, z = images(1), jax.random.normal(jax.random.key(4), (3,))
    w, b = decoder.network.weights, decoder.network.biases

    def plain(z):
        h = jnp.logaddexp(0, w[1] @ jnp.logaddexp(0, w[0] @ z + b[0]) + b[1])
        logits = w[2] @ h + b[2]
        return jnp.sum(x[:, 0] * logits - jnp.logaddexp(0, logits)) - z @ z / 2

    posterior = LatentPosterior(ImageLikelihood(decoder, x))
    value, grad = value_and_grad(posterior, z[:, None])
    np.testing.assert_allclose(value[0], plain(z), rtol=1e-12)
    np.testing.assert_allclose(grad[:, 0], jax.grad(plain)(z), rtol=1e-11)
    hessian = jax.jacrev(lambda z: value_and_grad(posterior, z[:, None])[1][:, 0])(z)
    np.testing.assert_allclose(hessian, jax.jacrev(jax.grad(plain))(z), rtol=1e-10, atol=1e-12)


def test_power_scales_the_likelihood_and_not_the_prior(decoder):
    z = jax.random.normal(jax.random.key(5), (3, 2))
    likelihood = ImageLikelihood(decoder, images(2))
    prior = LatentPosterior(likelihood, 0.0)(z)
    np.testing.assert_allclose(prior, -jnp.sum(z**2, axis=0) / 2, rtol=1e-15)
    np.testing.assert_allclose(
        LatentPosterior(likelihood, 0.3)(z) - prior, 0.3 * likelihood(z), rtol=1e-13
    )


def test_kl_is_the_integral_of_its_definition():
    q = Diagonal(jnp.asarray([[0.7]]), jnp.asarray([[-0.4]]))

    def integrand(z):
        log_q = float(q.logpdf(jnp.asarray([[z]]))[0])
        return np.exp(log_q) * (log_q - stats.norm.logpdf(z))

    assert float(q.kl()[0]) == pytest.approx(integrate.quad(integrand, -8, 8)[0], abs=1e-9)


def test_encoder_starts_near_the_prior_and_splits_mean_and_deviation():
    q = Encoder(jax.random.key(0), latent=4, hidden=16, pixels=5)(images(7).astype(jnp.float32))
    assert q.mean.shape == q.log_sd.shape == (4, 7)
    assert jnp.abs(q.log_sd).max() < 0.1
    np.testing.assert_allclose(q.draw(jnp.zeros((4, 7), jnp.float32)), q.mean)


def test_binarisation_has_the_grey_values_as_its_mean():
    grey = jnp.asarray(np.linspace(0, 1, 5)[:, None] * np.ones((5, 40_000)))
    drawn = binarise(jax.random.key(0), grey)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    error = np.abs(drawn.mean(axis=1) - grey[:, 0])
    assert np.all(error <= 4 * np.sqrt(grey[:, 0] * (1 - grey[:, 0]) / 40_000))


def test_sizes_that_make_no_network_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 0, 2\)"):
        Feedforward(jax.random.key(0), (3, 0, 2))
