"""The guide: it finds the Gaussian of correlated draws, its frame is that Gaussian's, and nobody
else moves it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_schemes import KEY, PLAIN, K, by_hand, learned, model, norm, pixels

from capriole.kernels import Leapfrog, Rotation, Transition
from capriole_lab.dlgm import (
    Guide,
    Guided,
    Model,
    Recipe,
    build,
    init_state,
    l2hmc_step,
    posterior_kernel,
    settings_for,
)
from capriole_lab.dlgm._schemes import follow, units_of

LOWER = np.array([[1.0, 0.0], [1.6, 0.5]])


def guide(hidden=8):
    made = Guide(jax.random.key(0), latent=2, pixels=1, hidden=hidden, dtype=jnp.float64)
    return eqx.tree_at(lambda g: g.network.weights[-1], made, replace_fn=lambda w: 50 * w)


@pytest.mark.usefixtures("standard_promotion")
def test_maximum_likelihood_finds_mean_and_covariance_of_two_images():
    num = 4000
    images = jnp.asarray(np.repeat([[0.0, 1.0]], num, axis=0).reshape(1, -1))
    noise = np.random.default_rng(0).normal(size=(2, 2 * num))
    draws = jnp.asarray(np.where(np.asarray(images) == 1, 3 + LOWER @ noise, noise))
    optimizer = optax.adam(0.05)
    fitted = Guide(jax.random.key(0), latent=2, pixels=1, hidden=8, dtype=jnp.float64)
    opt_state = optimizer.init(eqx.filter(fitted, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(g, opt_state):
        grads = eqx.filter_grad(lambda g: g.misfit(images, draws))(g)
        updates, opt_state = optimizer.update(grads, opt_state)
        return eqx.apply_updates(g, updates), opt_state

    for _ in range(300):
        fitted, opt_state = step(fitted, opt_state)
    frame = fitted.frame(jnp.asarray([[0.0, 1.0]]))
    found = [np.asarray(frame.inverse)[:, :, i] for i in (0, 1)]
    np.testing.assert_allclose(found[0] @ found[0].T, np.eye(2), atol=0.1)
    np.testing.assert_allclose(found[1] @ found[1].T, LOWER @ LOWER.T, rtol=0.1)
    np.testing.assert_allclose(frame.centre.T, [[0, 0], [3, 3]], atol=0.15)


def test_the_frame_is_undone_for_one_column_and_for_many():
    images, points = jax.random.normal(KEY, (1, 7)), jax.random.normal(jax.random.key(1), (2, 7))
    frame = guide().frame(images)
    np.testing.assert_allclose(frame.outer(frame.inner(points)), points, rtol=1e-12)
    one = guide().frame(images[:, 3])
    np.testing.assert_allclose(one.inner(points[:, 3]), frame.inner(points)[:, 3], rtol=1e-12)


def guided(inner):
    made = Guide(jax.random.key(2), latent=3, pixels=6, hidden=5, dtype=jnp.float64)
    return Guided(
        eqx.tree_at(lambda g: g.network.weights[-1], made, replace_fn=lambda w: 50 * w), inner
    )


def test_without_images_it_says_so():
    m = model(guided(Rotation(jnp.asarray(0.9), 2)))
    x, _, q, z0 = by_hand(KEY, m, 3)
    kernel = Transition(posterior_kernel(m, x, q).logdensity, m.dynamics)
    with pytest.raises(ValueError, match="context=images"):
        kernel.move(KEY, kernel.init(z0))


@pytest.mark.usefixtures("standard_promotion")
def test_the_guide_learns_from_the_last_latents_and_the_kernel_from_its_jumps():
    settings = settings_for("smoke", latent=3, hidden=7, kernel_leapfrogs=2, frame="guide")
    _, recipe = build("l2hmc", settings, 6, 0)
    rule = Recipe(PLAIN, PLAIN, PLAIN, K, recipe.objective)
    m = model(guided(learned()))
    after, _ = eqx.filter_jit(l2hmc_step)(KEY, init_state(m, rule), pixels(), rule)
    moved = jax.tree.map(
        jnp.subtract, *(eqx.filter(s.dynamics, eqx.is_inexact_array) for s in (after.model, m))
    )
    assert norm(moved.dynamics) > 1e-6
    x, _, q, z0 = by_hand(KEY, m, 3)
    chain_key = jax.random.split(KEY, 3)[2]
    last = eqx.filter_jit(follow)(chain_key, posterior_kernel(m, x, q), z0, q, K)[0]
    assert float(jnp.abs(last - z0).max()) > 0.1
    misfit = eqx.filter_jit(
        eqx.filter_grad(lambda guide, z: guide.misfit(x, units_of(q).standardise(z)))
    )
    assert norm(moved.guide) == pytest.approx(norm(misfit(m.dynamics.guide, last)), rel=1e-5)
    assert norm(moved.guide) != pytest.approx(norm(misfit(m.dynamics.guide, z0)), rel=1e-2), (
        "not from the first"
    )
    still = Model(m.encoder, m.decoder, Leapfrog(jnp.asarray(0.0), 2))
    assert posterior_kernel(still, x, q).context is None

    def moved_by(dynamics):
        kernel = posterior_kernel(eqx.tree_at(lambda m: m.dynamics, m, dynamics), x, q)
        start = posterior_kernel(m, x, q).init(z0)
        return jnp.sum(kernel.propose(KEY, start).end.position)

    grads = eqx.filter_grad(moved_by)(m.dynamics)
    assert norm(grads.dynamics) > 0
    assert norm(grads.guide) == 0, "only `misfit` moves the guide"
