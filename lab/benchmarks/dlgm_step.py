"""Speed of one training step of the latent-variable model: useful FLOP/s of L2HMC-DLGM over the
machine's matmul.

    python lab/benchmarks/dlgm_step.py [--preset laptop|paper] [--batch N] [--out FILE]

Steps are timed ten at a time, the way training runs them. Useful operations are those of the matrix
products that the mathematics needs: per leapfrog and image the decoder forward and backward, both
once more for the Hessian-vector product, the kernel's networks forward and backward (for weights
and for inputs), embeddings, guide, encoder and decoder steps. Recomputation, softplus, the guide's
small triangular products and random numbers are not counted. The machine's rate is that of a 1024 x
1024 by 1024 x 512 float32 product, timed in turn with the steps; ``products`` has its share at the
decoder's own shapes, ``profile`` the milliseconds per step of the parts of a step of L2HMC-DLGM,
each timed alone.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from _bench import best_rates, options, store

from capriole.kernels import value_and_grad
from capriole_lab.dlgm import SCHEME_NAMES, ImageLikelihood, build, posterior_kernel, settings_for
from capriole_lab.dlgm import _schemes as schemes
from capriole_lab.dlgm._train import CHUNK, _chunk

PIXELS = 784
REPEATS = 20
SIZES = ("latent", "hidden", "batch", "elbo_batch", "width", "embedding", "guide",
         "num_transitions", "num_leapfrogs", "kernel_transitions", "kernel_leapfrogs")  # fmt: skip


def useful_flops(settings, model):
    """Per step of L2HMC-DLGM; a product of w weights with one column counts 2 w."""
    decoder = model.decoder.network.num_weights
    learned, guide = model.dynamics.dynamics, model.dynamics.guide
    networks = (learned.momentum_network, learned.position_network)
    kernel = sum(n.core.inputs.size + n.core.hidden.size + n.core.heads.size for n in networks)
    embedding = sum(trained(n.embedding) for n in networks)
    chain = settings.kernel_transitions * settings.kernel_leapfrogs
    per_image = (
        chain
        * (
            4 * decoder + 2 * 3 * kernel
        )  # forward, backward, both once more; two kicks and two drifts, 3 passes
        + settings.kernel_transitions * embedding
        + trained(guide.network)
        + 2 * decoder  # the chains' first gradient
        + trained(model.encoder.network)
        + 2 * decoder  # on the encoder's way to the ELBO
        + trained(model.decoder.network)
    )
    return 2 * per_image * settings.batch


def trained(network):
    """Forward, gradients of weights, gradients of inputs but for the first layer's."""
    return 3 * network.num_weights - network.weights[0].size


def matmul():
    a = jax.random.normal(jax.random.key(0), (1024, 1024), jnp.float32) / 32
    b = jax.random.normal(jax.random.key(1), (1024, 512), jnp.float32)
    run = jax.jit(lambda a, b: jax.lax.fori_loop(0, 20, lambda _, c: a @ c, b))
    return lambda: jax.block_until_ready(run(a, b)), 20 * 2 * 1024**2 * 512


def pieces_of(settings):
    pieces = {"matmul_flops": matmul()}
    for scheme in SCHEME_NAMES:
        batch = settings.batch_of(scheme)
        pixels = jax.random.uniform(jax.random.key(2), (PIXELS, CHUNK * batch))
        state, recipe = build(scheme, settings, PIXELS, 0)
        order, where = jnp.arange(CHUNK * batch), (jnp.asarray(0), jnp.asarray(CHUNK))
        run = (
            jax.random.key(3),
            schemes.SCHEMES[scheme],
            state,
            pixels,
            order,
            where,
            recipe,
            batch,
        )
        pieces[f"{scheme}_steps_per_second"] = (
            lambda run=run: jax.block_until_ready(_chunk(*run)[1]),
            CHUNK,
        )
    return pieces, useful_flops(settings, state.model)


def repeated(function, first, work=1.0):
    """REPEATS calls in one program, each waiting for the last, and their work."""

    @eqx.filter_jit
    def run(first):
        def body(_, carry):
            out = jax.tree.leaves(eqx.filter(function(carry), eqx.is_inexact_array))
            return carry + 1e-20 * sum(
                leaf.ravel()[0] for leaf in jax.lax.optimization_barrier(out)
            )

        return jax.lax.fori_loop(0, REPEATS, body, first)

    return lambda: jax.block_until_ready(run(first)), REPEATS * work


def parts_of(settings):
    """Products at the decoder's shapes; parts of a step, with how often a step has each."""
    state, recipe = build("l2hmc", settings, PIXELS, 0)
    model, batch, chain = (
        state.model,
        settings.batch,
        settings.kernel_transitions * settings.kernel_leapfrogs,
    )
    key = jax.random.key(4)
    images = schemes.binarise(key, jax.random.uniform(key, (PIXELS, batch)))
    latents = jax.random.normal(key, (settings.latent, batch))
    inner, last = model.decoder.network.weights[1:]
    likelihood, q = ImageLikelihood(model.decoder, images), model.encoder(images)
    network = model.dynamics.dynamics.momentum_network
    context, time_ = jnp.zeros((settings.width, batch)), jnp.zeros((2, batch))

    def force(z):
        return value_and_grad(likelihood, z)

    def curvature(z):
        out, pullback = jax.vjp(force, z)
        return out, pullback(out)

    def encode(x):
        elbo, grads, _, start = schemes._encode(model, x, key)
        return elbo, grads, start

    def kick(z):
        def total(both):
            return sum(jnp.sum(part) for part in both[0](both[1], latents, time_, context))

        return eqx.filter_value_and_grad(total)((network, z))

    def update(factor):
        parts = eqx.filter((model.encoder, model.decoder, model.dynamics), eqx.is_inexact_array)
        return schemes._update(state, recipe, jax.tree.map(lambda w: w * factor, parts)).model

    kernel = posterior_kernel(model, images, q)
    products = {}
    for weight in (inner, last):
        columns = jax.random.normal(key, (weight.shape[1], batch))
        name = f"{weight.shape[0]} x {weight.shape[1]} by {weight.shape[1]} x {batch}"
        products[name] = repeated(lambda x, w=weight: w @ x, columns, 2 * weight.size * batch)
    calls = {
        "all transitions and their gradient": (
            1, repeated(lambda z: schemes.follow_and_learn(key, kernel, z, q, recipe), latents)),
        "of it: decoder, gradient and Hessian-vector product": (
            chain, repeated(curvature, latents)),
        "of it: kernel networks": (4 * chain, repeated(kick, latents)),
        "of it: image embeddings": (2 * settings.kernel_transitions, repeated(
            lambda x: eqx.filter_grad(lambda n: jnp.sum(n(x)))(network.embedding), images)),
        "guide: frame": (1, repeated(model.dynamics.guide.frame, images)),
        "guide: gradient": (1, repeated(
            lambda z: eqx.filter_grad(lambda g: g.misfit(images, z))(model.dynamics.guide),
            latents)),
        "encoder and its way through the decoder": (1, repeated(encode, images)),
        "decoder": (1, repeated(lambda z: schemes._decode(model.decoder, images, z), latents)),
        "optimizers": (1, repeated(update, jnp.ones(()))),
        "binarisation": (1, repeated(lambda x: schemes.binarise(key, x), images)),
    }  # fmt: skip
    return products, calls


def main():
    # ``--batch``: images per step of the two samplers, instead of the preset's.
    args = options(__doc__, preset="laptop", batch=int, rounds=8)
    settings = settings_for(args.preset, batch=args.batch)
    pieces, flops = pieces_of(settings)
    products, calls = parts_of(settings)
    rates = best_rates(
        pieces | products | {name: piece for name, (_, piece) in calls.items()}, args.rounds
    )
    shares = {name: rates.pop(name) / rates["matmul_flops"] for name in products}
    profile = {name: 1e3 * times / rates.pop(name) for name, (times, _) in calls.items()}
    profile = {"the whole step": 1e3 / rates["l2hmc_steps_per_second"]} | profile
    useful = flops * rates["l2hmc_steps_per_second"]
    result = {
        "preset": args.preset,
        "settings": {name: getattr(settings, name) for name in SIZES},
        "rates": rates | {"l2hmc_useful_flops": useful},
        "ratios": {
            "l2hmc_useful_flops_over_matmul": useful / rates["matmul_flops"],
            "l2hmc_over_hmc_seconds": rates["hmc_steps_per_second"]
            / rates["l2hmc_steps_per_second"],
        },
        "products": shares,
        "profile": profile,
    }
    store(result, args.out)


if __name__ == "__main__":
    main()
