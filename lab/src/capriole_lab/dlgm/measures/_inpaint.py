"""In-painting by block Gibbs: latents given the image, missing pixels given latents."""

import time
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from capriole.kernels import Key, Leapfrog, Transition
from capriole.runtime import Progress

from .._model import ImageLikelihood, Images, KeptPixels, LatentPosterior
from .._schemes import Model, follow, posterior_kernel
from ._classify import Classifier
from ._evaluate import OnProgress

KEPT = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Sweeps after which the picture is kept."""

CONFIDENT = 0.9
"""Share of the classifier above which a class counts for ``confident_classes``."""

VISITED = 0.05
"""Share of an image's sweeps from which on a class counts."""

KEPT_HMC = (0.1, 10, 4)
"""Step size, leapfrogs and transitions per sweep of the plain HMC that moves z given the kept
pixels alone.
"""

type DrawWith = Literal["sampler", "encoder", "kept"]


class Inpainted(NamedTuple):
    """Classes seen after every sweep, pictures after `KEPT` sweeps, the last images."""

    classes: Int[np.ndarray, "sweeps images"]
    confidence: Float[np.ndarray, "sweeps images"]
    pictures: dict[int, Float[np.ndarray, "pixels images"]]
    last: Images


def bottom_half(side: int) -> Bool[np.ndarray, " pixels"]:
    """Marks the pixels that are kept: the lower half of a square image."""
    return np.arange(side * side) >= side * (side // 2)


def inpaint(
    key: Key,
    model: Model,
    images: Images,
    kept: Bool[np.ndarray, " pixels"],
    classifier: Classifier,
    *,
    num_sweeps: int,
    num_transitions: int,
    draw_with: DrawWith,
    progress: OnProgress | None = None,
) -> Inpainted:
    """Block Gibbs on binary ``images`` of shape (pixels, images); the other pixels start from fair
    coins.

    ``sampler``: ``num_transitions`` steps of the model's kernel, from the current z, invariant for
    p(z | x), so the whole is exact. ``encoder``: z ~ q(z | x), which is not. ``kept``: plain HMC on
    p(z | kept pixels), exact as well, and quick to go from one digit to another, since the last
    drawing of the others does not hold z. All start from q.
    """
    if draw_with not in ("sampler", "encoder", "kept"):
        raise ValueError(f"draw_with must be 'sampler', 'encoder' or 'kept', got {draw_with!r}")
    if draw_with != "sampler":
        model = Model(
            model.encoder, model.decoder, None
        )  # so that models of all kinds share one compiled program
    known = jnp.asarray(kept)[:, None]
    start_key, noise_key, sweep_key = jax.random.split(key, 3)
    coins = jax.random.bernoulli(start_key, 0.5, images.shape).astype(images.dtype)
    image = jnp.where(known, images, coins)
    q = model.encoder(image)
    latents = q.draw(jax.random.normal(noise_key, q.mean.shape, q.mean.dtype))
    classes, confidence, pictures = [], [], {0: np.asarray(image)}
    started = time.perf_counter()
    for t in range(num_sweeps):
        sweep_t = jax.random.fold_in(sweep_key, t)
        image, latents, picture, seen = _sweep(
            sweep_t, model, image, latents, known, classifier, num_transitions, draw_with
        )
        classes.append(np.asarray(seen[0]))
        confidence.append(np.asarray(seen[1]))
        if t + 1 in KEPT or t + 1 == num_sweeps:
            pictures[t + 1] = np.asarray(picture)
        if progress is not None:
            phase = f"in-paint {image.shape[1]} columns by {draw_with}"
            progress(Progress(phase, t + 1, num_sweeps, time.perf_counter() - started, {}))
    return Inpainted(np.stack(classes), np.stack(confidence), pictures, image)


@eqx.filter_jit
def _sweep(
    key: Key,
    model: Model,
    image: Array,
    latents: Array,
    known: Array,
    classifier: Classifier,
    num_transitions: int,
    draw_with: DrawWith,
) -> tuple[Array, Array, Array, tuple[Array, Array]]:
    """New image and latents, probabilities of missing pixels, the class seen and its share."""
    latent_key, pixel_key = jax.random.split(key)
    if draw_with == "kept":
        latents = _given_kept(latent_key, model, image, latents, known)
    else:
        latents = _new_latents(
            latent_key, model, image, latents, num_transitions, draw_with == "sampler"
        )
    means = jax.nn.sigmoid(model.decoder(latents))
    image = fill_in(pixel_key, image, known, means)
    log_p = classifier(image)
    seen = (jnp.argmax(log_p, axis=0), jnp.exp(jnp.max(log_p, axis=0)))
    return image, latents, jnp.where(known, image, means), seen


def _new_latents(
    key: Key, model: Model, image: Array, latents: Array, num_transitions: int, exact: bool
) -> Array:
    q = model.encoder(image)
    if exact:
        return follow(key, posterior_kernel(model, image, q), latents, q, num_transitions)[0]
    return q.draw(jax.random.normal(key, q.mean.shape, q.mean.dtype))


def kept_likelihood(model: Model, image: Array, known: Array) -> ImageLikelihood:
    """Log p(kept pixels | z), the missing ones integrated out; ``known`` of shape (pixels, 1)."""
    return ImageLikelihood(KeptPixels(model.decoder, known), jnp.where(known, image, 0))


def fill_in(key: Key, image: Array, known: Array, means: Array) -> Array:
    """The image with its missing pixels drawn from their ``means``."""
    drawn = jax.random.uniform(key, image.shape, image.dtype) < means
    return jnp.where(known, image, drawn.astype(image.dtype))


def _given_kept(key: Key, model: Model, image: Array, latents: Array, known: Array) -> Array:
    step_size, num_leapfrogs, num_transitions = KEPT_HMC
    likelihood = kept_likelihood(model, image, known)
    kernel = Transition(
        LatentPosterior(likelihood), Leapfrog(jnp.asarray(step_size, latents.dtype), num_leapfrogs)
    )
    state = kernel.init(latents)
    for k in range(num_transitions):
        state, _ = kernel.move(jax.random.fold_in(key, k), state)
    return state.position


def class_shares(
    found: Inpainted, num_classes: int, *, above: float = 0.0
) -> Float[np.ndarray, "images classes"]:
    """Share of sweeps, without the first fifth, that show a class with more than ``above``."""
    settled = _settled(found)
    seen, sure = found.classes[settled], found.confidence[settled] > above
    return np.stack([np.mean((seen == c) & sure, axis=0) for c in range(num_classes)], axis=1)


def _settled(found: Inpainted) -> slice:
    return slice(len(found.classes) // 5, None)


def mixing(found: Inpainted) -> dict[str, Any]:
    """How many classes an image goes through: means and standard errors over images, without the
    first fifth of sweeps.

    ``distinct_classes`` counts those seen in 5 % of the sweeps (`VISITED`), ``confident_classes``
    those that the classifier was sure of (`CONFIDENT`) in as many; ``effective_classes`` is the
    exponential of the entropy of their shares; ``switches_per_sweep`` is the share of sweeps that
    change the class.
    """
    return {name: mean_and_error(values) for name, values in _mixing_by_image(found).items()}


def mixing_difference(found: Inpainted, other: Inpainted) -> dict[str, Any]:
    """`mixing` of ``found`` less that of ``other``, both from the same images: errors are those of
    paired differences.

    Raises ValueError if the numbers of images differ.
    """
    if found.classes.shape[1] != other.classes.shape[1]:
        numbers = f"{found.classes.shape[1]} and {other.classes.shape[1]}"
        raise ValueError(
            f"paired differences need the same images, got {numbers} of them; in-paint the same "
            "ones"
        )
    first, second = _mixing_by_image(found), _mixing_by_image(other)
    return {name: mean_and_error(first[name] - second[name]) for name in first}


def _mixing_by_image(found: Inpainted) -> dict[str, np.ndarray]:
    settled = _settled(found)
    seen, num_classes = found.classes[settled], int(found.classes.max()) + 1
    shares, confident = (
        class_shares(found, num_classes),
        class_shares(found, num_classes, above=CONFIDENT),
    )
    entropy = -np.sum(np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-300)), 0), axis=1)
    return {
        "distinct_classes": np.sum(shares >= VISITED, axis=1),
        "confident_classes": np.sum(confident >= VISITED, axis=1),
        "effective_classes": np.exp(entropy),
        "switches_per_sweep": np.mean(seen[1:] != seen[:-1], axis=0),
        "confidence": np.mean(found.confidence[settled], axis=0),
    }


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """Over images."""
    return {
        "mean": float(np.mean(values)),
        "se": float(np.std(values, ddof=1) / np.sqrt(len(values))),
    }
