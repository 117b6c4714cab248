"""The kernels of section 5.2 on exact draws: in the frame of a guide and in that of the mode, and
with bugs planted.

The posterior of two latents given four pixels has exact draws: those of the prior, kept with
probability p(x | z).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.kernels import Phase, Transition
from capriole_lab.dlgm import (
    Curved,
    Decoder,
    Encoder,
    Guide,
    Guided,
    Model,
    image_leapfrog,
    posterior_kernel,
)
from capriole_lab.dlgm._guide import Framed, InFrame, _transposed
from capriole_lab.dlgm._schemes import binarise, repeated
from invariance import check_invariance
from kernels import stirred

LATENT, PIXELS, IMAGES, CHAINS = 2, 4, 200, 200
F64 = jnp.dtype("float64")
SIZES = {"latent": LATENT, "hidden": 6, "pixels": PIXELS, "dtype": F64}


def logits(network, z):
    """Of the decoder, by NumPy: numbers of columns that differ would each be compiled."""
    *hidden, last = zip(network.weights, network.biases, strict=True)
    for weight, bias in hidden:
        z = np.logaddexp(0, np.asarray(weight) @ z + np.asarray(bias)[:, None])
    return np.asarray(last[0]) @ z + np.asarray(last[1])[:, None]


class Posteriors:
    """Exact draws of the posteriors of a kernel's images, in its coordinates."""

    def __init__(self, kernel, model, images):
        self.kernel, self.model, self.images = kernel, model, np.asarray(repeated(images, CHAINS))

    def draw(self, rng, n):
        latents, missing = np.zeros((LATENT, n)), np.arange(n)
        while len(missing):
            z = rng.normal(size=(LATENT, len(missing)))
            p = 1 / (1 + np.exp(-logits(self.model.decoder.network, z)))
            kept = rng.uniform(size=len(missing)) < np.prod(
                np.where(self.images[:, missing] == 1, p, 1 - p), axis=0
            )
            latents[:, missing[kept]] = z[:, kept]
            missing = missing[~kept]
        return np.asarray(self.kernel.target.units.standardise(jnp.asarray(latents)))

    def __call__(self, position):
        return self.kernel.target(position)


def learned():
    made = image_leapfrog(
        jax.random.key(3),
        latent=LATENT,
        pixels=PIXELS,
        num_leapfrogs=2,
        step_size=0.5,
        width=6,
        embedding=4,
        dtype=F64,
    )
    return stirred(made, heads=0.4)


def guided():
    guide = Guide(jax.random.key(2), latent=LATENT, pixels=PIXELS, hidden=5, dtype=F64)
    return Guided(
        eqx.tree_at(lambda g: g.network.weights[-1], guide, replace_fn=lambda w: 50 * w), learned()
    )


def production(dynamics):
    """The kernel that `posterior_kernel` makes of the dynamics, and its target."""
    decoder, encoder = Decoder(jax.random.key(0), **SIZES), Encoder(jax.random.key(1), **SIZES)
    decoder = eqx.tree_at(lambda d: d.network.weights[-1], decoder, replace_fn=lambda w: 200 * w)
    encoder = eqx.tree_at(lambda e: e.network.weights[-1], encoder, replace_fn=lambda w: 50 * w)
    model = Model(encoder, decoder, dynamics)
    latents = jax.random.normal(jax.random.key(4), (LATENT, IMAGES))
    images = binarise(
        jax.random.key(5), jax.nn.sigmoid(decoder(latents))
    )  # of others p(x) may be next to nothing
    kernel = posterior_kernel(model, images, encoder(images), num_chains=CHAINS)
    return kernel, Posteriors(kernel, model, images)


MAKERS = {"guided": guided, "at the mode": lambda: Curved(learned())}


@pytest.mark.parametrize("name", list(MAKERS))
def test_exact_draws_of_posteriors_stay_exact_draws(name):
    kernel, target = production(MAKERS[name]())
    assert isinstance(kernel.dynamics, Framed)
    assert np.ptp(np.asarray(kernel.dynamics.frame.factor), axis=-1).max() > 0.3, (
        "images have frames of their own"
    )
    check_invariance(kernel, target)


BUGS = ("", "no log-det", "frame from the state")


class Spoilt(Framed):
    """A copy of `Framed` with one bug; it is data, so that all share one compilation."""

    bug: jax.Array

    def __call__(self, logdensity, phase, forward, context=None):
        def wrong(name, value, right):
            return jnp.where(self.bug == BUGS.index(name), value, right)

        frame = self.frame
        lead = wrong("frame from the state", 0.5 * jnp.tanh(phase.position), 0.0)
        frame = eqx.tree_at(lambda f: f.centre, frame, frame.centre + lead)
        grad = _transposed(frame.inverse, phase.logdensity_grad)
        start = Phase(frame.inner(phase.position), phase.momentum, phase.logdensity, grad)
        end, log_det = self.dynamics(InFrame(logdensity, frame), start, forward, context)
        back = _transposed(frame.factor, end.logdensity_grad)
        out = Phase(frame.outer(end.position), end.momentum, end.logdensity, back)
        return out, wrong("no log-det", 0.0, log_det)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_the_frame_is_found_out(bug):
    kernel, target = production(MAKERS["at the mode"]())
    framed = kernel.dynamics
    spoilt = Spoilt(framed.frame, framed.dynamics, jnp.asarray(BUGS.index(bug)))
    kernel = Transition(kernel.target, spoilt, kernel.context)
    if not bug:
        check_invariance(kernel, target)
        return
    with pytest.raises(AssertionError, match="not invariant"):
        check_invariance(kernel, target)
