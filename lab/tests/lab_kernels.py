"""The laboratory's dynamics, as rows of the table that the exactness tests run through."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from capriole_lab.baselines import nice
from capriole_lab.dlgm import (
    Decoder,
    Guide,
    Guided,
    ImageLikelihood,
    LatentPosterior,
    image_leapfrog,
)
from kernels import Case, mog, stirred


def additive(width: int = 16) -> Callable:
    """Factory of A-NICE-MC's proposal with random networks, whose shifts are of order 1."""
    return lambda dim, dtype: nice(jax.random.key(dim), dim=dim, width=width, dtype=dtype)


def on_images(steps: int) -> Callable:
    """Factory of the learned leapfrog of the latent-variable model, on images of 6 pixels."""

    def build(dim, dtype):
        made = image_leapfrog(
            jax.random.key(4),
            latent=dim,
            pixels=6,
            num_leapfrogs=steps,
            step_size=0.2,
            width=8,
            embedding=5,
            dtype=dtype,
        )
        return stirred(made, heads=1.0)

    return build


def guided(steps: int) -> Callable:
    """Factory of the same in the frame of a guide with large random weights."""

    def build(dim, dtype):
        guide = Guide(jax.random.key(8), latent=dim, pixels=6, hidden=5, dtype=dtype)
        guide = eqx.tree_at(lambda g: g.network.weights[-1], guide, replace_fn=lambda w: 50 * w)
        return Guided(guide, on_images(steps)(dim, dtype))

    return build


def latents(dim, dtype):
    """Posterior of a latent given one of two images, many chains each."""
    decoder = Decoder(jax.random.key(6), latent=dim, hidden=7, pixels=6, dtype=dtype)
    decoder = eqx.tree_at(lambda d: d.network.weights[-1], decoder, replace_fn=lambda w: 100 * w)
    images = jnp.asarray(np.random.default_rng(7).integers(0, 2, (6, 2)), dtype)
    return LatentPosterior(ImageLikelihood(decoder, images))


CASES = [
    Case("nice-2-mog", mog, additive(), dim=2),
    Case("learned-images", latents, on_images(5), dim=3, context=6),
    Case("guided-images", latents, guided(5), dim=3, context=6),
]
