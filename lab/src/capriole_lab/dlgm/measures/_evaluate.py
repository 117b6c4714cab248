"""How good a decoder is: log p(x) by AIS, its error by the sandwich, a cheap bound."""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import Key
from capriole.runtime import Progress

from .._model import Decoder, ImageLikelihood, Images, log_bernoulli
from .._schemes import Model, binarise
from .._settings import Settings
from ._ais import AISResult, log_mean_exp, plan_ais, run_ais, run_reverse_ais

BINARISATION_SEED = 20180430
"""One binarisation of as many images for all models and seeds."""

IMAGES_AT_ONCE = 50

type OnProgress = Callable[[Progress], None]


def fixed_binary(pixels: np.ndarray, num: int) -> Images:
    """The first ``num`` images, binarised by the same bits in every call: shape (pixels, num).

    The bits are those of the whole shape, so that the first 100 of 300 images are not binarised as
    100 by themselves.
    """
    return binarise(jax.random.key(BINARISATION_SEED), jnp.asarray(pixels[:, :num]))


def log_likelihood(
    key: Key,
    decoder: Decoder,
    images: Images,
    *,
    latent: int,
    num_temperatures: int,
    num_chains: int,
    num_leapfrogs: int,
    progress: OnProgress | None = None,
) -> AISResult:
    """AIS of every image, in batches of 50, with step sizes from a pilot pass for each batch."""
    results, num = [], images.shape[1]
    started = time.perf_counter()
    for first in range(0, num, IMAGES_AT_ONCE):
        plan_key, run_key = jax.random.split(jax.random.fold_in(key, first))
        batch = images[:, first : first + IMAGES_AT_ONCE]
        likelihood = ImageLikelihood(decoder, batch)
        plan = plan_ais(
            plan_key,
            likelihood,
            latent=latent,
            num_images=batch.shape[1],
            num_temperatures=num_temperatures,
            num_chains=_pilot_chains(num_chains),
            num_leapfrogs=num_leapfrogs,
        )
        result = run_ais(run_key, likelihood, plan, latent=latent, num_chains=num_chains)
        results.append(result._replace(num_gradients=result.num_gradients + plan.num_gradients))
        if progress is not None:
            done = first + batch.shape[1]
            figures = {"acceptance_rate": result.acceptance_rate}
            progress(Progress("AIS", done, num, time.perf_counter() - started, figures))
    joined = [
        np.concatenate([getattr(r, name) for r in results])
        for name in ("log_likelihood", "error", "ess")
    ]
    rate = float(np.mean([r.acceptance_rate for r in results]))
    return AISResult(joined[0], joined[1], joined[2], rate, sum(r.num_gradients for r in results))


def sandwich(
    key: Key,
    decoder: Decoder,
    *,
    latent: int,
    num_images: int,
    num_temperatures: int,
    num_chains: int,
    num_leapfrogs: int,
) -> tuple[AISResult, AISResult]:
    """Lower and upper estimates of log p(x) on images drawn from the model."""
    latent_key, image_key, plan_key, forward_key, reverse_key = jax.random.split(key, 5)
    dtype = decoder.network.biases[0].dtype
    latents = jax.random.normal(latent_key, (num_images, latent), dtype).T
    images = binarise(image_key, jax.nn.sigmoid(decoder(latents)))
    likelihood = ImageLikelihood(decoder, images)
    plan = plan_ais(
        plan_key,
        likelihood,
        latent=latent,
        num_images=num_images,
        num_temperatures=num_temperatures,
        num_chains=_pilot_chains(num_chains),
        num_leapfrogs=num_leapfrogs,
    )
    lower = run_ais(forward_key, likelihood, plan, latent=latent, num_chains=num_chains)
    return lower, run_reverse_ais(reverse_key, likelihood, plan, latents, num_chains=num_chains)


def _pilot_chains(num_chains: int) -> int:
    return max(2, num_chains // 4)


def importance_bound(
    key: Key, model: Model, images: Images, *, num_samples: int
) -> Float[np.ndarray, " images"]:
    """``log mean_S p(x, z_s) / q(z_s | x)``, z_s ~ q: a lower bound."""
    chunk = 50
    columns = []
    for first in range(0, num_samples, chunk):
        size = min(chunk, num_samples - first)
        columns.append(
            np.asarray(
                _log_weights(jax.random.fold_in(key, first), model, images, size), np.float64
            )
        )
    return log_mean_exp(np.concatenate(columns, axis=1))[0]


@eqx.filter_jit
def _log_weights(key: Key, model: Model, images: Images, num: int) -> Array:
    q = jax.tree.map(lambda a: jnp.repeat(a, num, axis=1), model.encoder(images))
    z = q.draw(jax.random.normal(key, q.mean.shape, q.mean.dtype))
    constant = z.shape[0] * jnp.log(2 * jnp.pi).astype(z.dtype) / 2
    prior = -jnp.sum(z**2, axis=0) / 2 - constant
    return (log_bernoulli(images, model.decoder(z)) + prior - q.logpdf(z)).reshape(
        images.shape[1], num
    )


def evaluate(
    key: Key,
    model: Model,
    train: np.ndarray,
    test: np.ndarray,
    settings: Settings,
    *,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """The figures of one model: AIS on train and test images, the sandwich, the cheap bound."""
    s = settings
    keys = jax.random.split(key, 4)
    effort = {
        "num_temperatures": s.ais_temperatures,
        "num_chains": s.ais_chains,
        "num_leapfrogs": s.ais_leapfrogs,
    }
    out: dict[str, Any] = {"ais": effort}
    for name, pixels, num, ais_key in (
        ("train", train, s.ais_train_images, keys[0]),
        ("test", test, s.ais_images, keys[1]),
    ):
        images = fixed_binary(pixels, min(num, pixels.shape[1]))
        found = log_likelihood(
            ais_key, model.decoder, images, latent=s.latent, progress=progress, **effort
        )
        bound = importance_bound(
            jax.random.fold_in(keys[3], len(out)), model, images, num_samples=s.importance_samples
        )
        out[name] = summary(found) | {"importance_bound": float(np.mean(bound))}
    lower, upper = sandwich(
        keys[2], model.decoder, latent=s.latent, num_images=s.simulated_images, **effort
    )
    gap = upper.log_likelihood - lower.log_likelihood
    out["sandwich"] = {
        "num_images": s.simulated_images,
        "lower": float(np.mean(lower.log_likelihood)),
        "upper": float(np.mean(upper.log_likelihood)),
        "gap": float(np.mean(gap)),
        "gap_se": float(np.std(gap, ddof=1) / np.sqrt(len(gap))),
    }
    return out


def summary(found: AISResult) -> dict[str, Any]:
    """Means over images; ``ais_error`` is the mean standard error of one image's estimate."""
    values = found.log_likelihood
    return {
        "num_images": len(values),
        "log_likelihood": float(np.mean(values)),
        "se": float(np.std(values, ddof=1) / np.sqrt(len(values))),
        "ais_error": float(np.mean(found.error)),
        "ais_ess": float(np.mean(found.ess)),
        "acceptance_rate": found.acceptance_rate,
        "num_gradients": found.num_gradients,
        "per_image": values.tolist(),
    }


def curve_point(
    key: Key, model: Model, train: np.ndarray, validation: np.ndarray, settings: Settings
) -> dict[str, float]:
    """Quick AIS on a few images: figure 2's curves, and the choice of the epoch."""
    s, out = settings, {}
    for i, (name, pixels) in enumerate((("train", train), ("validation", validation))):
        found = log_likelihood(
            jax.random.fold_in(key, i),
            model.decoder,
            fixed_binary(pixels, min(s.curve_images, pixels.shape[1])),
            latent=s.latent,
            num_temperatures=s.curve_temperatures,
            num_chains=s.curve_chains,
            num_leapfrogs=s.curve_leapfrogs,
        )
        out[f"{name}_log_likelihood"] = float(np.mean(found.log_likelihood))
    return out
