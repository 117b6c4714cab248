"""In-painting and posterior draws where the answer can be summed: four pixels, one latent."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from capriole.kernels import Leapfrog
from capriole_lab.dlgm import (
    Classifier,
    Dataset,
    Decoder,
    Encoder,
    Feedforward,
    Inpainted,
    Model,
    bottom_half,
    draw_posterior,
    find_reference,
    image_leapfrog,
    importance_bound,
    inpaint,
    mixing,
    mixing_difference,
    posterior_shape,
    shape_summary,
    shares_by_ais,
    train_classifier,
)
from capriole_lab.dlgm.measures._burn_in import shortfall

NOTHING = np.zeros((0, 0))
BOTTOM = np.array([1.0, 0.0])
TOPS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)


def model(dynamics):
    """Logits linear in z, by a decoder whose softplus units come in pairs: s(a) - s(-a) = a."""
    sizes = {"latent": 1, "hidden": 2, "pixels": 4, "dtype": jnp.float64}
    decoder = Decoder(jax.random.key(0), **sizes)
    pair = jnp.asarray([[1.0, -1.0], [-1.0, 1.0]])
    weights = (
        jnp.asarray([[1.0], [-1.0]]),
        pair,
        jnp.asarray([[1.0, -1], [-1, 1], [2, -2], [1, -1]]) * 1.5,
    )
    decoder = eqx.tree_at(lambda d: d.network.weights, decoder, weights)
    decoder = eqx.tree_at(
        lambda d: d.network.biases[-1], decoder, jnp.asarray([1.0, 0.5, -0.5, 0.5])
    )
    return Model(Encoder(jax.random.key(1), **sizes), decoder, dynamics)


def learned():
    made = image_leapfrog(
        jax.random.key(2),
        latent=1,
        pixels=4,
        num_leapfrogs=3,
        step_size=0.4,
        width=6,
        embedding=4,
        dtype=jnp.dtype("float64"),
    )
    return eqx.tree_at(
        lambda d: (d.momentum_network.core.heads, d.position_network.core.heads),
        made,
        replace_fn=lambda w: 80 * w,
    )


def exact():
    """p(top | bottom) by quadrature, and mean and variance of z given the image (0, 1, 1, 0)."""
    z = np.linspace(-8, 8, 4001)
    logits = np.asarray(model(None).decoder(jnp.asarray(z[None])))
    p = 1 / (1 + np.exp(-logits))
    prior = np.exp(-(z**2) / 2)

    def weight(x):
        return prior * np.prod(np.where(np.asarray(x)[:, None] == 1, p, 1 - p), axis=0)

    joint = np.array([weight([*top, *BOTTOM]).sum() for top in TOPS])
    post = weight([0, 1, *BOTTOM])
    post /= post.sum()
    mean = post @ z
    return joint / joint.sum(), mean, post @ (z - mean) ** 2


READER = Classifier(
    # Log-odds of class 2 top[0] + top[1]: big enough to be certain.
    eqx.tree_at(
        lambda n: (n.weights, n.biases),
        Feedforward(jax.random.key(0), (4, 4)),
        ((jnp.asarray([[2 * a - 1, 2 * b - 1, 0, 0] for a, b in TOPS]) * 50.0,), (jnp.zeros(4),)),
    )
)


@pytest.mark.parametrize(
    ("dynamics", "draw_with"),
    [(Leapfrog(jnp.asarray(0.5), 3), "sampler"), (learned(), "sampler"), (None, "kept")],
    ids=["hmc", "l2hmc", "kept"],
)
def test_exact_in_painting_draws_from_the_conditional_of_the_missing_pixels(dynamics, draw_with):
    num = 4000
    images = jnp.asarray(np.repeat([[0.0], [0.0], [BOTTOM[0]], [BOTTOM[1]]], num, axis=1))
    kept = bottom_half(2)
    found = inpaint(
        jax.random.key(3),
        model(dynamics),
        images,
        kept,
        READER,
        num_sweeps=20,
        num_transitions=1,
        draw_with=draw_with,
    )
    share = np.bincount(found.classes[-1], minlength=4) / num
    expected = exact()[0]
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / num))
    assert np.abs(expected - 0.25).max() > 0.1, "uniform coins must not pass"
    assert np.all(found.pictures[20][kept] == images[kept])
    assert sorted(found.pictures) == [0, 1, 2, 5, 10, 20]
    last = 2 * np.asarray(found.last[0]) + np.asarray(found.last[1])
    assert np.all(last == found.classes[-1])


def test_the_reference_has_the_class_probabilities_of_every_image():
    images = jnp.asarray([[0.0, 1.0], [0.0, 1.0], [BOTTOM[0]] * 2, [BOTTOM[1]] * 2])
    heard = []
    found = find_reference(
        jax.random.key(6), model(None), images, bottom_half(2), READER,
        num_sweeps=100, num_chains=200, progress=heard.append,
    )  # fmt: skip
    assert [h.step for h in heard] == list(range(1, 101))
    assert found.shares.every == pytest.approx(np.tile(exact()[0], (2, 1)), abs=0.02)
    assert found.shares.sure == pytest.approx(found.shares.every * [0, 0, 0, 1]), (
        "of other tops the reader has ties"
    )
    assert np.all((found.error > 0) & (found.error < 0.04))


def test_weighted_draws_of_ais_know_the_classes_without_a_chain_that_mixes():
    images = jnp.asarray([[0.0, 1.0], [0.0, 1.0], [BOTTOM[0]] * 2, [BOTTOM[1]] * 2])
    effort = {"latent": 1, "num_temperatures": 20, "num_chains": 20_000, "num_leapfrogs": 3}
    found, worth = shares_by_ais(
        jax.random.key(7), model(None), images, bottom_half(2), READER, **effort
    )
    assert np.all(
        np.abs(found - exact()[0]) < 4 * np.sqrt(exact()[0] * (1 - exact()[0]) / worth[:, None])
    )
    assert np.all((worth > 5000) & (worth <= 20_000))


def test_posterior_draws_have_the_moments_of_the_posterior_and_are_told_from_a_gaussian():
    image = jnp.asarray([[0.0], [1.0], [BOTTOM[0]], [BOTTOM[1]]])
    both = jnp.concatenate([image, 1 - image], axis=1)
    found = draw_posterior(
        jax.random.key(4), model(learned()), both, num_chains=2000, num_steps=60, thin=3
    )
    assert found.draws.shape == (2, 2000, 10, 1)
    assert 0.5 < found.acceptance_rate < 1
    last = found.draws[0, :, -1, 0]
    _, mean, variance = exact()
    assert abs(last.mean() - mean) < 4 * np.sqrt(variance / 2000)
    assert abs(last.var() - variance) < 4 * variance * np.sqrt(2 / 2000)


def test_the_importance_bound_is_log_p_of_x_where_there_are_draws_enough():
    images = jnp.asarray([[0.0, 1.0], [1.0, 0.0], [BOTTOM[0]] * 2, [BOTTOM[1]] * 2])
    z = np.linspace(-8, 8, 4001)
    p = 1 / (1 + np.exp(-np.asarray(model(None).decoder(jnp.asarray(z[None])))))
    prior = stats.norm.pdf(z) * (z[1] - z[0])
    exact = [
        np.log(np.sum(prior * np.prod(np.where(x[:, None] == 1, p, 1 - p), axis=0)))
        for x in np.asarray(images.T)
    ]
    found = importance_bound(jax.random.key(8), model(None), images, num_samples=4000)
    np.testing.assert_allclose(found, exact, atol=0.05)
    assert abs(exact[0] - exact[1]) > 0.5


def test_the_shortfall_of_latents_shrinks_with_transitions():
    far = model(Leapfrog(jnp.asarray(1.0), 3))
    far = eqx.tree_at(lambda m: m.encoder.network.biases[-1], far, jnp.asarray([4.0, -2.0]))
    image = jnp.asarray([[0.0], [1.0], [BOTTOM[0]], [BOTTOM[1]]])
    found = shortfall(
        jax.random.key(5),
        far,
        jnp.repeat(image, 4, axis=1),
        num_chains=500,
        num_steps=60,
        curvature_pixels=4,
    )
    assert found["0"]["mean"] > 5
    assert found["0"]["mean"] > found["1"]["mean"] > found["3"]["mean"]
    assert abs(found["20"]["mean"]) < 0.2
    with pytest.raises(ValueError, match="at least 40 transitions, got 39"):
        shortfall(jax.random.key(5), far, image, num_chains=2, num_steps=39, curvature_pixels=4)


def test_the_shape_of_gaussian_draws_passes_and_that_of_skewed_draws_does_not():
    rng = np.random.default_rng(0)
    scale = np.array([3.0, 1.0, 0.5])
    gaussian = [posterior_shape(rng.normal(size=(40, 200, 3)) * scale) for _ in range(30)]
    assert not any(shape.is_non_gaussian for shape in gaussian)
    spread = np.std([shape.skewness for shape in gaussian])
    assert np.mean([shape.skewness_se for shape in gaussian]) == pytest.approx(spread, rel=0.4)
    draws = rng.normal(size=(40, 200, 3)) * scale
    draws[..., 0] = 3 * (rng.gamma(4.0, size=(40, 200)) - 4) / 2
    skewed = posterior_shape(draws)
    assert skewed.is_non_gaussian
    assert abs(skewed.skewness) == pytest.approx(1.0, abs=5 * skewed.skewness_se)  # 2 / sqrt(4)
    assert skewed.distance > 3 * np.median([shape.distance for shape in gaussian])
    assert shape_summary([*gaussian, skewed])["non_gaussian_share"] == pytest.approx(1 / 31)
    with pytest.raises(ValueError, match="at least 4"):
        posterior_shape(draws[:3])


def test_mixing_counts_classes_and_switches():
    classes = np.zeros((100, 3), int)
    classes[::2, 1] = 7  # switches every sweep
    classes[99, 2] = 3  # once, too rare to count
    sure = np.full((100, 3), 0.95)
    sure[:, 1] = 0.8
    found = mixing(Inpainted(classes, sure, {}, NOTHING))
    assert found["distinct_classes"]["mean"] == pytest.approx(4 / 3)
    assert found["confident_classes"]["mean"] == pytest.approx(2 / 3)
    assert found["switches_per_sweep"]["mean"] == pytest.approx((1 + 1 / 79) / 3)
    assert found["effective_classes"]["mean"] < 1.4


def test_differences_of_mixing_are_paired_over_images():
    rng = np.random.default_rng(2)
    busy = np.arange(40) % 4  # images go through 1 to 4 classes
    classes = np.arange(100)[:, None] % (1 + busy)
    more = classes.copy()
    more[::10, :10] = 9  # ten of 40 images see one class more
    confidence = rng.uniform(size=(100, 40))
    one, other = (
        Inpainted(more, confidence, {}, NOTHING),
        Inpainted(classes, confidence, {}, NOTHING),
    )
    found = mixing_difference(one, other)
    gained = found["distinct_classes"]
    assert gained == {"mean": 0.25, "se": pytest.approx(np.sqrt(0.25 * 0.75 / 39))}
    assert gained["se"] < mixing(other)["distinct_classes"]["se"]
    assert found["confidence"] == {"mean": 0.0, "se": 0.0}
    with pytest.raises(ValueError, match="got 40 and 39"):
        mixing_difference(one, Inpainted(classes[:, 1:], confidence[:, 1:], {}, NOTHING))


def test_the_classifier_learns_and_bad_methods_are_refused(standard_promotion):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 700)
    grey = np.where(np.arange(9)[:, None] % 3 == labels, 0.95, 0.05).astype(np.float32)
    data = Dataset(grey[:, :500], labels[:500], grey[:, 500:], labels[500:], 3)
    assert train_classifier(jax.random.key(0), data, num_epochs=8).accuracy > 0.95
    with pytest.raises(ValueError, match="'encoder' or 'kept', got 'magic'"):
        inpaint(
            jax.random.key(3), model(None), jnp.zeros((4, 2)), bottom_half(2), READER,
            num_sweeps=1, num_transitions=1, draw_with="magic",
        )  # fmt: skip
