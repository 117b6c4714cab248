"""Who learns from what: the gradient stops of the three schemes, and the loss over all K
transitions.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from capriole.kernels import Leapfrog, Rotation
from capriole.training import PaperLoss
from capriole_lab.dlgm import (
    Decoder,
    Encoder,
    Model,
    Recipe,
    elbo_step,
    hmc_step,
    image_leapfrog,
    init_state,
    l2hmc_step,
    posterior_kernel,
)
from capriole_lab.dlgm._schemes import binarise, follow, follow_and_learn

LATENT, PIXELS, BATCH, K = 3, 6, 8, 3
KEY = jax.random.key(9)
PLAIN = optax.sgd(1.0)  # an update is the negative gradient itself
FOLLOW = eqx.filter_jit(follow)
HMC = Leapfrog(jnp.asarray(0.3), 2)


def learned():
    made = image_leapfrog(
        jax.random.key(3),
        latent=LATENT,
        pixels=PIXELS,
        num_leapfrogs=2,
        step_size=0.3,
        width=5,
        embedding=4,
        dtype=jnp.dtype("float64"),
    )
    return eqx.tree_at(lambda d: d.momentum_network.core.heads, made, replace_fn=lambda w: 50 * w)


def model(dynamics):
    sizes = {"latent": LATENT, "hidden": 7, "pixels": PIXELS, "dtype": jnp.float64}
    decoder = Decoder(jax.random.key(1), **sizes)
    decoder = eqx.tree_at(lambda d: d.network.weights[-1], decoder, replace_fn=lambda w: 100 * w)
    return Model(Encoder(jax.random.key(0), **sizes), decoder, dynamics)


def recipe(kernel=PLAIN):
    return Recipe(PLAIN, PLAIN, kernel, K, PaperLoss())


def pixels():
    return jax.random.uniform(jax.random.key(2), (PIXELS, BATCH))


def change(before, after):
    """Minus the gradient that a step of plain descent took."""
    arrays = [eqx.filter(tree, eqx.is_inexact_array) for tree in (before, after)]
    return jax.tree.map(lambda a, b: np.asarray(b - a), *arrays)


def assert_same(a, b, rtol=1e-9):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-12), a, b)


def norm(tree):
    return float(optax.tree.norm(tree))


def by_hand(key, m, parts):
    """Images, the mean ELBO's gradient for ``parts`` of the model, q and z_0, as the schemes'
    docstrings say.
    """
    binary_key, encode_key = jax.random.split(key, parts)[:2]
    x = binarise(binary_key, pixels())

    def elbo(encoder, decoder):
        q = encoder(x)
        z = q.mean + jnp.exp(q.log_sd) * jax.random.normal(encode_key, q.mean.shape)
        logits = decoder(z)
        fit = jnp.sum(x * logits - jnp.logaddexp(0, logits), axis=0)
        kl = jnp.sum((q.mean**2 + jnp.exp(2 * q.log_sd) - 1) / 2 - q.log_sd, axis=0)
        return jnp.mean(fit - kl)

    q = m.encoder(x)
    return x, elbo, q, q.mean + jnp.exp(q.log_sd) * jax.random.normal(encode_key, q.mean.shape)


def test_vae_moves_encoder_and_decoder_up_the_elbo():
    m = model(None)
    after, metrics = eqx.filter_jit(elbo_step)(
        KEY, init_state(m, recipe(None)), pixels(), recipe(None)
    )
    _, elbo, _, _ = by_hand(KEY, m, 2)
    value, grads = jax.value_and_grad(elbo, argnums=(0, 1))(m.encoder, m.decoder)
    assert float(metrics.elbo) == pytest.approx(float(value), rel=1e-12)
    assert_same(change(m.encoder, after.model.encoder), grads[0])
    assert_same(change(m.decoder, after.model.decoder), grads[1])


@pytest.mark.parametrize("step", [hmc_step, l2hmc_step])
def test_with_a_sampler_the_encoder_sees_the_elbo_alone_and_the_decoder_the_last_latents_alone(
    step,
):
    m, rule = (
        model(HMC if step is hmc_step else learned()),
        recipe(None if step is hmc_step else PLAIN),
    )
    after, metrics = eqx.filter_jit(step)(KEY, init_state(m, rule), pixels(), rule)
    x, elbo, q, z0 = by_hand(KEY, m, 3)
    assert_same(change(m.encoder, after.model.encoder), jax.grad(elbo)(m.encoder, m.decoder))
    z, _ = FOLLOW(jax.random.split(KEY, 3)[2], posterior_kernel(m, x, q), z0, q, K)

    def fit(decoder):
        logits = decoder(z)
        return jnp.mean(jnp.sum(x * logits - jnp.logaddexp(0, logits), axis=0))

    value, grads = jax.value_and_grad(fit)(m.decoder)
    assert float(metrics.log_likelihood) == pytest.approx(float(value), rel=1e-9)
    assert_same(change(m.decoder, after.model.decoder), grads)
    assert norm(jax.tree.map(jnp.subtract, z, z0)) > 0.5
    if step is hmc_step:
        assert float(after.model.dynamics.step_size) == float(m.dynamics.step_size)


def test_the_kernel_learns_from_all_transitions_in_units_of_qs_deviation():
    m = model(learned())
    after, metrics = eqx.filter_jit(l2hmc_step)(KEY, init_state(m, recipe()), pixels(), recipe())
    x, _, q, z0 = by_hand(KEY, m, 3)
    chain_key, kernel = jax.random.split(KEY, 3)[2], posterior_kernel(m, x, q)
    params, static = eqx.partition(m.dynamics, eqx.is_inexact_array)
    unit = jnp.sqrt(jnp.exp(2 * q.log_sd) + 1e-4)
    state, losses, grads = kernel.init((z0 - q.mean) / unit), [], []
    for k in range(K):
        propose_key, decide_key = jax.random.split(jax.random.fold_in(chain_key, k))

        def loss(params, state=state, propose_key=propose_key):
            here = eqx.tree_at(lambda t: t.dynamics, kernel, eqx.combine(params, static))
            p = here.propose(propose_key, state)
            jump = p.acceptance * jnp.sum((p.end.position - state.position) ** 2, axis=0) + 1e-4
            return jnp.mean(1 / jump - jump), p

        (value, proposal), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        state, _ = kernel.decide(decide_key, state, proposal)
        losses.append(value)
        grads.append(grad)
    assert float(metrics.loss) == pytest.approx(float(np.mean(losses)), rel=1e-9)
    expected = jax.tree.map(lambda *g: -sum(g) / K, *grads)
    assert_same(change(m.dynamics, after.model.dynamics), expected, rtol=1e-6)
    last = jax.tree.map(lambda g: -g, grads[-1])
    assert norm(jax.tree.map(jnp.subtract, last, expected)) > 0.1 * norm(expected), (
        "all K must matter"
    )


def test_learning_does_not_change_where_the_chains_go():
    m = model(learned())
    x, _, q, z0 = by_hand(KEY, m, 3)
    plain, figures = FOLLOW(KEY, posterior_kernel(m, x, q), z0, q, K)
    learning, means, _, _ = eqx.filter_jit(follow_and_learn)(
        KEY, posterior_kernel(m, x, q), z0, q, recipe()
    )
    np.testing.assert_allclose(plain, learning, rtol=1e-10)
    np.testing.assert_allclose([f.mean() for f in figures], means, rtol=1e-10)


@pytest.mark.parametrize(
    "dynamics", [Rotation(jnp.asarray(0.9), 2), learned()], ids=["unit_hmc", "l2hmc"]
)
def test_in_units_of_q_the_target_is_the_same_posterior(dynamics):
    m = model(dynamics)
    x, _, q, z0 = by_hand(KEY, m, 3)
    kernel, plain = posterior_kernel(m, x, q), posterior_kernel(model(HMC), x, q)
    units = kernel.target.units
    u = units.standardise(z0)
    assert_same(units.draw(u), z0)
    assert_same(kernel.target(u), plain.target(z0))
    np.testing.assert_array_equal(plain.target.units.draw(z0), z0)
    _, (_, jump) = FOLLOW(KEY, kernel, z0, q, 1)
    _, info = kernel.move(jax.random.fold_in(KEY, 0), kernel.init(u))
    squared = jnp.sum(
        (units.draw(info.proposal.position) - z0) ** 2 / (jnp.exp(2 * q.log_sd) + 1e-4), axis=0
    )
    assert_same(jump, info.acceptance_rate * squared)


def test_a_model_without_a_sampler_says_so():
    with pytest.raises(ValueError, match="trained on the ELBO alone"):
        posterior_kernel(model(None), pixels(), model(None).encoder(pixels()))


def test_an_image_kernel_without_images_says_so():
    m = model(learned())
    x, _, q, z0 = by_hand(KEY, m, 3)
    kernel = eqx.tree_at(lambda t: t.context, posterior_kernel(m, x, q), None)
    with pytest.raises(ValueError, match="context=images"):
        kernel.move(KEY, kernel.init(z0))
