"""The frame of the curvature: it is the Hessian's, at the mode or quickly at q's mean, and the
posterior stays.
"""

import dataclasses
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_guide import guided
from test_schemes import (
    BATCH,
    KEY,
    LATENT,
    PIXELS,
    PLAIN,
    K,
    by_hand,
    change,
    learned,
    model,
    norm,
    pixels,
)

from capriole.kernels import Rotation, Transition
from capriole.training import PaperLoss
from capriole_lab.dlgm import (
    Curved,
    Guide,
    ImageLikelihood,
    LatentPosterior,
    Recipe,
    _schemes,
    build,
    init_state,
    l2hmc_step,
    posterior_kernel,
    refit_kernel,
    settings_for,
)
from capriole_lab.dlgm._curvature import factor_of, fresh_cost, newton, precision_at, quick_cost
from capriole_lab.dlgm._guide import Framed
from capriole_lab.dlgm._schemes import follow_and_learn
from capriole_lab.dlgm.measures._posterior import chains_from_q


def points():
    return jax.random.normal(jax.random.key(4), (LATENT, BATCH))


def test_where_the_picture_is_the_decoders_own_the_curvature_is_the_hessian():
    decoder, z = model(None).decoder, points()
    found = precision_at(decoder, z)
    for i in range(BATCH):
        image = jax.nn.sigmoid(decoder(z[:, i]))
        target = LatentPosterior(ImageLikelihood(decoder, image[:, None]))
        gradient = jax.grad(lambda point, target=target: target(point[:, None])[0])
        np.testing.assert_allclose(
            found[..., i], -jax.jacrev(gradient)(z[:, i]), rtol=1e-8, atol=1e-10
        )


def test_the_factor_is_lower_triangular_and_gives_the_precision_back():
    precision = precision_at(model(None).decoder, points())
    factor = np.asarray(factor_of(precision))
    np.testing.assert_allclose(np.einsum("kin,kjn->ijn", factor, factor), precision, rtol=1e-10)
    assert np.all(factor[np.triu_indices(LATENT, 1)] == 0)
    assert np.all(factor[np.arange(LATENT), np.arange(LATENT)] > 0)


def test_the_least_certain_pixels_say_most_and_all_of_them_everything():
    decoder, z = model(None).decoder, points()
    everything, some = precision_at(decoder, z), precision_at(decoder, z, 3)
    np.testing.assert_allclose(precision_at(decoder, z, PIXELS), everything, rtol=1e-12)
    missing = np.linalg.eigvalsh(np.moveaxis(np.asarray(everything - some), -1, 0))
    assert np.all(missing > -1e-10)
    assert missing.max() > 0.1, "three pixels of six are not all"
    share = jax.nn.sigmoid(decoder(z[:, 0]))
    chosen = np.argsort(-np.asarray(share * (1 - share)))[:3]
    rest = eqx.tree_at(lambda d: d.network.weights[-1], decoder, replace_fn=lambda w: w[chosen])
    rest = eqx.tree_at(lambda d: d.network.biases[-1], rest, replace_fn=lambda b: b[chosen])
    np.testing.assert_allclose(some[..., 0], precision_at(rest, z)[..., 0], rtol=1e-10)


def test_newton_finds_the_mode_and_never_goes_down():
    m, x, start = model(None), by_hand(KEY, model(None), 3)[0], 3 * points()
    target = LatentPosterior(ImageLikelihood(m.decoder, x))
    values = [target(newton(m.decoder, x, start, steps)[0]) for steps in range(12)]
    assert all(np.all(after >= before) for before, after in pairwise(values))
    mode, precision = newton(m.decoder, x, start, 30)
    gradient = jax.grad(lambda z: jnp.sum(target(z)))(mode)
    assert np.abs(gradient).max() < 1e-3
    np.testing.assert_allclose(precision, precision_at(m.decoder, mode), rtol=1e-12)


def test_a_curved_kernel_has_the_same_posterior_in_either_frame():
    m = model(Curved(Rotation(jnp.asarray(0.9), 2)))
    x, _, q, z0 = by_hand(KEY, m, 3)
    plain = posterior_kernel(model(Rotation(jnp.asarray(0.9), 2)), x, q)
    u = plain.target.units.standardise(z0)
    centres = []
    for number in (None, 4):
        kernel = posterior_kernel(m, x, q, curvature_pixels=number)
        assert isinstance(kernel.dynamics, Framed)
        frame = kernel.dynamics.frame
        np.testing.assert_allclose(kernel.target(u), plain.target(u), rtol=1e-12)
        np.testing.assert_allclose(frame.inner(frame.outer(u)), u, atol=1e-9)
        centres.append(frame.centre)
        mean = kernel.target.units.draw(frame.centre)
        sd = jnp.exp(kernel.target.units.log_sd)
        precision = precision_at(m.decoder, mean, number) * sd[:, None] * sd
        np.testing.assert_allclose(
            jnp.einsum("kin,kjn->ijn", frame.factor, frame.factor), precision, rtol=1e-8
        )
    np.testing.assert_allclose(centres[1], 0, atol=1e-12)
    assert np.abs(centres[0]).max() > 0.1, "the mode is not q's mean"


@pytest.mark.parametrize(
    ("number", "maker"), [(None, "fresh_frame"), (4, "quick_frame"), (None, "guide")]
)
def test_a_frame_is_made_once_per_image_and_is_that_of_its_chains(number, maker, monkeypatch):
    columns, inner = [], Rotation(jnp.asarray(0.9), 2)

    def counted(make):
        def made(*args):
            frame = make(*args)
            columns.append(frame.centre.shape[1])
            return frame

        return made

    place = (Guide, "frame") if maker == "guide" else (_schemes, maker)
    monkeypatch.setattr(*place, counted(getattr(*place)))
    m = model(guided(inner) if maker == "guide" else Curved(inner))
    x = by_hand(KEY, m, 3)[0]
    kernel, start, _ = chains_from_q(KEY, m, x, 3, curvature_pixels=number)
    assert columns == [BATCH]
    many = jnp.repeat(x, 3, axis=1)
    plain = posterior_kernel(m, many, m.encoder(many), curvature_pixels=number)
    ends = [
        each.move(KEY, each.init(each.target.units.standardise(start)))[0].position
        for each in (kernel, plain)
    ]
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-12)


def test_a_curved_kernel_without_its_frame_says_so():
    m = model(Curved(Rotation(jnp.asarray(0.9), 2)))
    x, _, q, z0 = by_hand(KEY, m, 3)
    bare = Transition(posterior_kernel(m, x, q).logdensity, m.dynamics)
    with pytest.raises(ValueError, match="make it with `posterior_kernel`"):
        bare.move(KEY, bare.init(z0))


def test_a_step_of_training_moves_in_the_quick_frame_from_q():
    m = model(Curved(learned()))
    rule = Recipe(PLAIN, PLAIN, PLAIN, K, PaperLoss(), curvature_pixels=4)
    after, metrics = eqx.filter_jit(l2hmc_step)(KEY, init_state(m, rule), pixels(), rule)
    x, _, q, z0 = by_hand(KEY, m, 3)
    kernel = posterior_kernel(m, x, q, curvature_pixels=4)
    latents, figures, loss, grads = eqx.filter_jit(follow_and_learn)(
        jax.random.split(KEY, 3)[2], kernel, z0, q, rule
    )
    assert float(metrics.loss) == pytest.approx(float(loss), rel=1e-6)
    assert float(metrics.acceptance_rate) == pytest.approx(float(figures[0]), rel=1e-6)
    moved = change(m.dynamics.dynamics, after.model.dynamics.dynamics)
    assert norm(moved) == pytest.approx(norm(grads), rel=1e-5)
    assert norm(moved) > 1e-6

    def fit(decoder):
        logits = decoder(latents)
        return jnp.mean(jnp.sum(x * logits - jnp.logaddexp(0, logits), axis=0))

    expected = jax.grad(fit)(m.decoder)
    assert norm(change(m.decoder, after.model.decoder)) == pytest.approx(norm(expected), rel=1e-6)


def test_costs_are_counted_in_gradients_of_as_many_multiplications():
    sizes = (20, 200, 200, 784)
    gradient = 2 * (20 * 200 + 200 * 200 + 200 * 784)
    forward_and_curvature = gradient / 2 + 20 * (200 * 200 + 128 * 200) + 128 * 20**2
    assert quick_cost(sizes, 128) == 4 == int(np.ceil(forward_and_curvature / gradient))
    assert quick_cost(sizes, 10**6) == quick_cost(sizes, 784) == 12
    assert fresh_cost(sizes) == 5 * 13
    assert model(None).decoder.sizes == (LATENT, 7, 7, PIXELS)


@pytest.mark.slow  # the whole of section 5.2 refits one, too (test_paper.py)
@pytest.mark.usefixtures("standard_promotion")
def test_a_kernel_fitted_anew_learns_on_a_decoder_that_stays_as_it_is():
    settings = settings_for(
        "smoke", latent=3, hidden=7, sampling_steps=8, sampling_chains=2, refit_steps=40
    )
    m = build("l2hmc", settings, 6, 0)[0].model
    m = eqx.tree_at(lambda m: m.decoder.network.weights[-1], m, replace_fn=lambda w: 100 * w)
    grey = np.asarray(jax.random.uniform(KEY, (6, 30), jnp.float32))
    start = refit_kernel(KEY, m, grey, dataclasses.replace(settings, refit_steps=0))
    found = refit_kernel(KEY, m, grey, settings)
    assert found.angle == start.angle
    assert isinstance(found.dynamics, Curved)
    first, last = (eqx.filter(each.dynamics, eqx.is_inexact_array) for each in (start, found))
    assert norm(jax.tree.map(jnp.subtract, first, last)) > 0.05
    frame, length = fresh_cost(m.decoder.sizes), found.dynamics.num_gradients
    assert found.num_gradients - start.num_gradients == 40 * 10 * (2 + frame + 2 * length)


@pytest.mark.usefixtures("standard_promotion")
def test_unknown_frames_are_refused():
    with pytest.raises(ValueError, match="unknown frame 'square'; choose guide, curvature or none"):
        build("l2hmc", settings_for("smoke", frame="square"), 6, 0)
