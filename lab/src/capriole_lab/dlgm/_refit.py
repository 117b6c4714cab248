"""The learned kernel for the posteriors of a finished decoder: fitted anew in the frames of the
curvature.

While the decoder learns, a frame must cost next to nothing. Afterwards each image's chains are
long, the mode and the curvature there are cheap beside them, and better than any guide
(`_curvature`).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from capriole.kernels import Key, Rotation, rotation_step_sizes
from capriole.training import adam, decay

from ._curvature import Curved, fresh_cost
from ._kernel import image_leapfrog
from ._schemes import Model, Recipe, binarise, init_state, l2hmc_step
from ._settings import Settings
from ._train import objective_of
from .measures._sampling import GRIDS, TUNING_IMAGES, tune_hmc


class Refitted(NamedTuple):
    """The kernel, the rotation it started as, and what both cost in gradients of log p(x | z)."""

    dynamics: Curved
    angle: float
    num_gradients: int


def refit_kernel(key: Key, model: Model, pixels: np.ndarray, settings: Settings) -> Refitted:
    """A learned kernel in the frame of each image's mode and curvature, for the model as it is;
    nothing else learns.

    Starts as the rotation with the most effective draws per gradient on a few of the images, and
    takes ``refit_steps`` steps on the objective, over ``refit_transitions`` transitions from q.
    Give it images that the kernel is not judged on.
    """
    s = settings
    build_key, tune_key, binary_key, order_key, step_key = jax.random.split(key, 5)
    some = binarise(binary_key, jnp.asarray(pixels[:, :TUNING_IMAGES]))
    plain = Model(model.encoder, model.decoder, Curved(Rotation(jnp.ones(()), 1)))
    tuned = tune_hmc(tune_key, plain, some, "guided_hmc", s)
    match tuned:
        case Curved(dynamics=Rotation(angle=angle, num_leapfrogs=num_leapfrogs)):
            turn, length = float(angle), int(num_leapfrogs)
    learned = image_leapfrog(
        build_key,
        latent=s.latent,
        pixels=len(pixels),
        num_leapfrogs=length,
        step_size=rotation_step_sizes(turn, length),
        width=s.width,
        embedding=s.embedding,
    )
    recipe = Recipe(
        encoder=None,
        decoder=None,
        kernel=adam(decay(s.kernel_learning_rate, num_steps=s.refit_steps), clip=s.clip),
        num_transitions=s.refit_transitions,
        objective=objective_of(s),
        curvature_pixels=None,
    )
    state = init_state(Model(model.encoder, model.decoder, Curved(learned)), recipe)
    step = eqx.filter_jit(l2hmc_step)
    batch = min(s.refit_batch, pixels.shape[1])
    for i in range(s.refit_steps):
        chosen = jax.random.choice(
            jax.random.fold_in(order_key, i), pixels.shape[1], (batch,), replace=False
        )
        state, _ = step(
            jax.random.fold_in(step_key, i),
            state,
            jnp.asarray(pixels[:, np.asarray(chosen)]),
            recipe,
        )
    return Refitted(state.model.dynamics, turn, _cost(model, length, batch, s))  # type: ignore[arg-type]


def _cost(model: Model, num_leapfrogs: int, batch: int, s: Settings) -> int:
    """Gradients of the tuning and of the steps."""
    frame = fresh_cost(model.decoder.sizes)
    lengths, angles = GRIDS["guided_hmc"]
    chains = TUNING_IMAGES * s.sampling_chains * len(angles)
    tuning = sum(chains * max(32, s.sampling_steps // length) * length for length in lengths)
    steps = s.refit_steps * batch * (2 + frame + s.refit_transitions * num_leapfrogs)
    return int(tuning + len(lengths) * TUNING_IMAGES * frame + steps)


def described(found: Refitted) -> dict[str, Any]:
    """Plain values for a stage's file."""
    return {"angle": found.angle, "num_gradients": found.num_gradients}
