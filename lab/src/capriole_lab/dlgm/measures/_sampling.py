"""The trained kernel on posteriors of held-out images: ESS per gradient against HMC."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.diagnostics import bulk_ess, bulk_ess_sq, rhat
from capriole.kernels import AbstractDynamics, Key, Leapfrog, Rotation

from .._curvature import Curved, fresh_cost
from .._guide import Guided
from .._model import Images
from .._schemes import Model
from .._settings import Settings
from ..report._words import number, plus_minus
from ._posterior import draw_posterior

GRIDS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "hmc": ((5, 10, 20), tuple(float(size) for size in np.geomspace(0.04, 0.2, 8))),
    "guided_hmc": ((2, 3, 5), tuple(float(angle) for angle in np.linspace(0.8, 1.9, 8))),
}
"""Numbers of leapfrogs and, for each of them, step sizes (HMC on latents) or angles (HMC in the
kernel's frame).
"""

TUNING_IMAGES = 8

SAMPLERS = {
    "kernel": "trained kernel, fitted anew after training",
    "in_training": "trained kernel, as training left it",
    "hmc": "HMC, tuned",
    "guided_hmc": "HMC in the kernel's frame, tuned",
}

SAMPLING_HEADER = [
    "sampler", "M", "acceptance", "ESS of z/gradient", "ESS of z²/gradient", "smaller of both",
    "R-hat",
]  # fmt: skip


def compare_samplers(
    key: Key, model: Model, kernel: AbstractDynamics, images: Images, settings: Settings
) -> dict[str, Any]:
    """``kernel``, the model's own, HMC on the latents and HMC in the frame of ``kernel``, on every
    image's posterior.

    Both kinds of HMC get the number of leapfrogs and the step size with the most effective draws
    per gradient on the first images of those it is then judged on, which favours them. All start
    from q and drop the first half. What the frames of the images cost is shared by the draws that
    are kept.
    """
    if model.dynamics is None:
        raise ValueError("this model has no sampler: it was trained on the ELBO alone")
    s = settings
    run_key, *tune_keys = jax.random.split(key, 3)
    contenders: dict[str, AbstractDynamics] = {"kernel": kernel, "in_training": model.dynamics}
    framed = Model(model.encoder, model.decoder, kernel)
    for name, tune_key in zip(GRIDS, tune_keys, strict=True):
        contenders[name] = tune_hmc(tune_key, framed, images[:, :TUNING_IMAGES], name, s)
    out: dict[str, Any] = {
        "num_images": images.shape[1],
        "num_chains": s.sampling_chains,
        "steps": s.sampling_steps,
    }
    for name, dynamics in contenders.items():
        moved = Model(model.encoder, model.decoder, dynamics)
        sizes = {"num_chains": s.sampling_chains, "num_steps": s.sampling_steps}
        found = draw_posterior(run_key, moved, images, **sizes)
        out[name] = _described(dynamics) | {"acceptance_rate": found.acceptance_rate}
        frame = fresh_cost(model.decoder.sizes) if isinstance(dynamics, Curved) else 0
        out[name] |= {"frame_gradients": frame} | worth(
            found.draws, int(dynamics.num_gradients), frame
        )
    for other in ("hmc", "guided_hmc"):
        for figure in ("ess_per_gradient", "ess_sq_per_gradient", "worse_per_gradient"):
            out[f"{figure}_over_{other}"] = ratio(out["kernel"][figure], out[other][figure])
    return out


def ratio(figure: float, other: float) -> float:
    """NaN over 0: a sampler that never moves is no measure of another."""
    return figure / other if other else float("nan")


def sampling_row(stored: dict[str, Any], name: str, shown: str) -> list[str]:
    """A row under `SAMPLING_HEADER`."""
    found = stored[name]
    worse = plus_minus(found["worse_per_gradient"], found["worse_per_gradient_se"], 4)
    figures = [f"{found[figure]:.4f}" for figure in ("ess_per_gradient", "ess_sq_per_gradient")]
    rate, rhat = number(found["acceptance_rate"]), number(found["max_rhat"], 3)
    return [shown, str(found["num_leapfrogs"]), rate, *figures, worse, rhat]


def _described(dynamics: AbstractDynamics) -> dict[str, Any]:
    match dynamics:
        case Leapfrog():
            return {"num_leapfrogs": dynamics.num_leapfrogs, "step_size": float(dynamics.step_size)}
        case Guided(dynamics=Rotation() as inner) | Curved(dynamics=Rotation() as inner):
            return {"num_leapfrogs": int(inner.num_leapfrogs), "angle": float(inner.angle)}
    return {"num_leapfrogs": int(dynamics.num_gradients)}


def _plain(model: Model, name: str, size: Array, num_leapfrogs: int | Array) -> AbstractDynamics:
    match model.dynamics:
        case Guided() as guided if name == "guided_hmc":
            return Guided(guided.guide, Rotation(size, num_leapfrogs))
        case Curved() if name == "guided_hmc":
            return Curved(Rotation(size, num_leapfrogs))
    return Leapfrog(size, num_leapfrogs)


def tune_hmc(
    key: Key, model: Model, images: Images, name: str, settings: Settings
) -> AbstractDynamics:
    """The best of `GRIDS` by the smaller ESS of z and z^2 per gradient."""
    lengths, sizes = GRIDS[name]
    chains, num = settings.sampling_chains, images.shape[1]
    scores = {}
    for length in lengths:
        by_chain = jnp.tile(jnp.repeat(jnp.asarray(sizes, images.dtype), chains), num)
        trial = Model(
            model.encoder, model.decoder, _plain(model, name, by_chain, jnp.asarray(length))
        )
        steps = max(32, settings.sampling_steps // length)
        found = draw_posterior(key, trial, images, num_chains=len(sizes) * chains, num_steps=steps)
        for draws, size in zip(np.split(found.draws, len(sizes), axis=1), sizes, strict=True):
            scores[length, size] = worth(draws, length)["worse_per_gradient"]
    length, size = max(scores, key=scores.__getitem__)
    return _plain(model, name, jnp.asarray(size, images.dtype), length)


def worth(
    draws: Float[np.ndarray, "images chains draws latent"],
    num_gradients: int,
    frame_gradients: int = 0,
) -> dict[str, float]:
    """Means over images of the worst latent's bulk ESS per gradient: of z, of z^2, and of the
    smaller; worst R-hat.

    A draw costs ``num_gradients``, an image ``frame_gradients`` more. A latent that no chain moves
    has no effective draws at all.
    """
    total = draws.shape[1] * draws.shape[2] * num_gradients + frame_gradients
    plain, squared = (
        np.asarray([_worst(f(each)) for each in draws]) / total for f in (bulk_ess, bulk_ess_sq)
    )
    worse = np.minimum(plain, squared)
    figures = {
        "ess_per_gradient": plain,
        "ess_sq_per_gradient": squared,
        "worse_per_gradient": worse,
    }
    out = {name: float(np.mean(value)) for name, value in figures.items()}
    spread = np.std(worse, ddof=1) if len(worse) > 1 else np.nan
    return out | {
        "worse_per_gradient_se": float(spread / np.sqrt(len(worse))),
        "max_rhat": float(np.max([np.nan_to_num(rhat(each), nan=np.inf).max() for each in draws])),
    }


def _worst(ess: Array | np.ndarray) -> float:
    return float(np.nan_to_num(ess, nan=0.0).min())
