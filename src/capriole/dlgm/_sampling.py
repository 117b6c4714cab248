"""What the trained kernel is worth on posteriors of held-out images: effective draws per gradient against tuned HMC."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._dynamics import AbstractDynamics, Leapfrog, Rotation
from .._types import Key
from ..diagnostics import bulk_ess, bulk_ess_sq, rhat
from ._model import Images
from ._posterior import draw_posterior
from ._schemes import Model
from ._settings import Settings

GRIDS: dict[type[Leapfrog | Rotation], tuple[tuple[int, ...], tuple[float, ...]]] = {
    Leapfrog: ((2, 5, 10, 20), tuple(float(size) for size in np.geomspace(0.03, 0.3, 8))),
    Rotation: ((1, 2, 3, 5), tuple(float(angle) for angle in np.linspace(0.6, 2.0, 8))),
}
"""Numbers of leapfrogs and, for each of them, step sizes (HMC on latents) or angles (HMC in units of q)."""

TUNING_IMAGES = 8


def compare_samplers(key: Key, model: Model, images: Images, settings: Settings) -> dict[str, Any]:
    """Trained kernel, HMC on the latents, and HMC in units of q, on the posterior that one decoder gives each image.

    Both kinds of HMC get the number of leapfrogs and the step size with the most effective draws per gradient on the
    first images of those it is then judged on, which favours them. All start from q and drop the first half.
    """
    s = settings
    run_key, *tune_keys = jax.random.split(key, 1 + len(GRIDS))
    contenders: dict[str, AbstractDynamics | None] = {"kernel": model.dynamics}
    for name, kind, tune_key in zip(("hmc", "unit_hmc"), GRIDS, tune_keys, strict=True):
        contenders[name] = tune_hmc(tune_key, model, images[:, :TUNING_IMAGES], kind, s)
    out: dict[str, Any] = {"num_images": images.shape[1], "num_chains": s.sampling_chains, "steps": s.sampling_steps}
    for name, dynamics in contenders.items():
        assert dynamics is not None  # draw_posterior has raised
        moved = Model(model.encoder, model.decoder, dynamics)
        sizes = {"num_chains": s.sampling_chains, "num_steps": s.sampling_steps}
        found = draw_posterior(run_key, moved, images, **sizes)
        out[name] = _described(dynamics) | {"acceptance_rate": found.acceptance_rate}
        out[name] |= worth(found.draws, int(dynamics.num_gradients))
    for other in ("hmc", "unit_hmc"):
        for figure in ("ess_per_gradient", "ess_sq_per_gradient", "worse_per_gradient"):
            out[f"{figure}_over_{other}"] = out["kernel"][figure] / out[other][figure]
    return out


def _described(dynamics: AbstractDynamics) -> dict[str, Any]:
    match dynamics:
        case Leapfrog():
            return {"num_leapfrogs": dynamics.num_leapfrogs, "step_size": float(dynamics.step_size)}
        case Rotation():
            return {"num_leapfrogs": int(dynamics.num_leapfrogs), "angle": float(dynamics.angle)}
    return {"num_leapfrogs": int(dynamics.num_gradients)}


def tune_hmc(
    key: Key, model: Model, images: Images, kind: type[Leapfrog | Rotation], settings: Settings
) -> Leapfrog | Rotation:
    """The best of `GRIDS`, by the smaller of ESS of z and of z^2 per gradient; every length costs as many gradients."""
    lengths, sizes = GRIDS[kind]
    chains, num = settings.sampling_chains, images.shape[1]
    best, most = None, -1.0
    for length in lengths:
        by_chain = jnp.tile(jnp.repeat(jnp.asarray(sizes, images.dtype), chains), num)
        trial = Model(model.encoder, model.decoder, kind(by_chain, length))
        steps = max(32, settings.sampling_steps // length)
        found = draw_posterior(key, trial, images, num_chains=len(sizes) * chains, num_steps=steps)
        for draws, size in zip(np.split(found.draws, len(sizes), axis=1), sizes, strict=True):
            score = worth(draws, length)["worse_per_gradient"]
            if score > most:
                best, most = kind(jnp.asarray(size, images.dtype), length), score
    if best is None:
        raise ValueError(f"no step size of {sizes} moves any chain; widen the grid")
    return best


def worth(draws: Float[np.ndarray, "images chains draws latent"], num_gradients: int) -> dict[str, float]:
    """Means over images of the worst latent's bulk ESS per gradient: of z, of z^2, and of the smaller; worst R-hat.

    A latent that no chain moves has no effective draws at all.
    """
    total = draws.shape[1] * draws.shape[2] * num_gradients
    plain, squared = (np.asarray([_worst(f(each)) for each in draws]) / total for f in (bulk_ess, bulk_ess_sq))
    worse = np.minimum(plain, squared)
    figures = {"ess_per_gradient": plain, "ess_sq_per_gradient": squared, "worse_per_gradient": worse}
    out = {name: float(np.mean(value)) for name, value in figures.items()}
    spread = np.std(worse, ddof=1) if len(worse) > 1 else np.nan
    return out | {
        "worse_per_gradient_se": float(spread / np.sqrt(len(worse))),
        "max_rhat": float(np.max([np.nan_to_num(rhat(each), nan=np.inf).max() for each in draws])),
    }


def _worst(ess: Array | np.ndarray) -> float:
    return float(np.nan_to_num(ess, nan=0.0).min())
