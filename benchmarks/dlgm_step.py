"""Speed of one training step of the latent-variable model: useful FLOP/s of L2HMC-DLGM over the machine's matmul.

    python benchmarks/dlgm_step.py [--preset laptop|paper] [--batch N] [--out results/paper-dlgm/step.json]

Useful operations are those of the matrix products that the mathematics needs: per leapfrog and image the decoder
forward and backward, both once more for the Hessian-vector product, the kernel's networks forward and backward (for
weights and for inputs), embeddings, guide, encoder and decoder steps. Recomputation, softplus, the guide's small
triangular products and random numbers are not counted. The machine's rate is that of a 1024 x 1024 by 1024 x 512
float32 product, timed in turn with the steps.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

from capriole._io import versions
from capriole.dlgm import SCHEME_NAMES, build, settings_for
from capriole.dlgm._schemes import SCHEMES

PIXELS = 784
SIZES = ("latent", "hidden", "batch", "elbo_batch", "width", "embedding", "guide", "num_transitions", "num_leapfrogs")


def useful_flops(settings, model):
    """Per step of L2HMC-DLGM; a product of w weights with one column counts 2 w."""
    decoder = model.decoder.network.num_weights
    learned, guide = model.dynamics.dynamics, model.dynamics.guide
    networks = (learned.momentum_network, learned.position_network)
    kernel = sum(n.core.inputs.size + n.core.hidden.size + n.core.heads.size for n in networks)
    embedding = sum(trained(n.embedding) for n in networks)
    chain = settings.num_transitions * settings.num_leapfrogs
    per_image = (
        chain * (4 * decoder + 2 * 3 * kernel)  # forward, backward, both once more; two kicks and two drifts, 3 passes
        + settings.num_transitions * embedding
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
        pixels = jax.random.uniform(jax.random.key(2), (PIXELS, settings.batch_of(scheme)))
        state, recipe = build(scheme, settings, PIXELS, 0)
        step = eqx.filter_jit(SCHEMES[scheme])
        pieces[f"{scheme}_steps_per_second"] = (
            lambda step=step, state=state, recipe=recipe, pixels=pixels: jax.block_until_ready(
                step(jax.random.key(3), state, pixels, recipe)[1]
            ),
            1,
        )
    return pieces, useful_flops(settings, state.model)


def measure(pieces, rounds):
    """Best rate of each piece over ``rounds`` rounds in turn, after one call that compiles."""
    rates = dict.fromkeys(pieces, 0.0)
    for run, _ in pieces.values():
        run()
    for _ in range(rounds):
        for name, (run, work) in pieces.items():
            start = time.perf_counter()
            run()
            rates[name] = max(rates[name], work / (time.perf_counter() - start))
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--batch", type=int, help="images per step of the two samplers, instead of the preset's")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    settings = settings_for(options.preset, batch=options.batch)
    pieces, flops = pieces_of(settings)
    rates = measure(pieces, options.rounds)
    useful = flops * rates["l2hmc_steps_per_second"]
    result = {
        "preset": options.preset,
        "settings": {name: getattr(settings, name) for name in SIZES},
        "rates": rates | {"l2hmc_useful_flops": useful},
        "ratios": {
            "l2hmc_useful_flops_over_matmul": useful / rates["matmul_flops"],
            "l2hmc_over_hmc_seconds": rates["hmc_steps_per_second"] / rates["l2hmc_steps_per_second"],
        },
        "versions": versions() | {"python": platform.python_version()},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
