"""Training: a host loop over chunks of a scheme's step, one checkpoint per epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from capriole.kernels import AbstractDynamics, Key, Leapfrog, LearnedLeapfrog, rotation_step_sizes
from capriole.runtime import CompileClock, Progress
from capriole.training import AbstractObjective, LogESJD, LogJump, PaperLoss, adam, decay

from ._curvature import Curved, quick_cost
from ._guide import Guide, Guided
from ._kernel import image_leapfrog
from ._model import Decoder, Encoder
from ._schemes import (
    SCHEMES,
    DLGMState,
    Model,
    Recipe,
    StepMetrics,
    binarise,
    follow,
    init_state,
    posterior_kernel,
)
from ._settings import SCHEME_NAMES, Settings, settings_from
from .files._data import Dataset
from .files._files import CheckpointError, load_checkpoint, save_checkpoint, write_lines

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
CHUNK = 10
"""Steps between two signs of life."""

STEP_SIZES = tuple(float(size) for size in np.geomspace(0.02, 1.5, 14))

PURPOSES = (
    "build", *SCHEME_NAMES, "curve", "evaluate", "inpaint", "posterior", "sampling", "burn_in",
    "refit", "reference",
)  # fmt: skip

type OnEpoch = Callable[[Model, int], dict[str, float]]


class Trained(NamedTuple):
    """A model and the record of every epoch."""

    model: Model
    history: list[dict[str, Any]]


def key_for(seed: int, purpose: str) -> Key:
    """The key of one of `PURPOSES`: all are folded from the seed's, which is never split."""
    return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))


def build(
    scheme: str, settings: Settings, pixels: int, seed: int, *, num_steps: int = 10**9
) -> tuple[DLGMState, Recipe]:
    """A fresh training state and the recipe; encoder and decoder start alike in all schemes of one
    seed.

    Learning rates are constant for 60 % of ``num_steps`` and then fall to a twentieth.
    """
    if scheme not in SCHEME_NAMES:
        raise ValueError(f"unknown scheme {scheme!r}; choose one of {', '.join(SCHEME_NAMES)}")
    s = settings
    keys = jax.random.split(key_for(seed, "build"), 3)
    encoder = Encoder(keys[0], latent=s.latent, hidden=s.hidden, pixels=pixels)
    decoder = Decoder(keys[1], latent=s.latent, hidden=s.hidden, pixels=pixels)
    encoder_rate, decoder_rate = s.learning_rates_of(scheme)
    recipe = Recipe(
        encoder=optax.adam(decay(encoder_rate, num_steps=num_steps)),
        decoder=optax.adam(decay(decoder_rate, num_steps=num_steps)),
        kernel=adam(decay(s.kernel_learning_rate, num_steps=num_steps), clip=s.clip)
        if scheme == "l2hmc"
        else None,
        num_transitions=s.kernel_transitions if scheme == "l2hmc" else s.num_transitions,
        objective=objective_of(s),
        curvature_pixels=s.curvature_pixels,
    )
    return init_state(
        Model(encoder, decoder, _dynamics(keys[2], scheme, s, pixels)), recipe
    ), recipe


def _dynamics(key: Key, scheme: str, s: Settings, pixels: int) -> AbstractDynamics | None:
    """What moves the latents; the untrained kernel turns by ``rotation`` in its frame."""
    match scheme:
        case "hmc":
            return Leapfrog(jnp.asarray(s.step_size, jnp.float32), s.num_leapfrogs)
        case "l2hmc":
            kernel_key, guide_key = jax.random.split(key)
            plain = s.frame == "none"
            learned = image_leapfrog(
                kernel_key,
                latent=s.latent,
                pixels=pixels,
                num_leapfrogs=s.kernel_leapfrogs,
                step_size=s.step_size
                if plain
                else rotation_step_sizes(s.rotation, s.kernel_leapfrogs),
                width=s.width,
                embedding=s.embedding,
            )
            if plain:
                return learned
            if s.frame == "curvature":
                return Curved(learned)
            if s.frame != "guide":
                raise ValueError(f"unknown frame {s.frame!r}; choose guide, curvature or none")
            return Guided(Guide(guide_key, latent=s.latent, pixels=pixels, hidden=s.guide), learned)
    return None


def objective_of(s: Settings) -> AbstractObjective:
    """The objective by its name in the settings. Raises ValueError for another name."""
    match s.objective:
        case "paper":
            return PaperLoss()
        case "log_jump":
            return LogJump(scale=(2 * s.latent) ** 0.5, squares=1.0)
        case "log_esjd":  # in units of q, whose mean and variance are 0 and 1
            return LogESJD(jnp.zeros(s.latent, jnp.float32), jnp.ones(s.latent, jnp.float32))
    raise ValueError(f"unknown objective {s.objective!r}; choose paper, log_jump or log_esjd")


def gradients_per_image(scheme: str, settings: Settings, pixels: int) -> int:
    """Gradients of log p(x | z) that one image costs in one step, with respect to latents or to the
    decoder.

    VAE: 1. With K transitions of M leapfrogs: 1 for the ELBO, 1 + K M for the chain, 1 for the
    decoder. A frame of the curvature is counted in gradients of as many multiplications
    (`quick_cost`). The learned kernel differentiates its trajectories, K M Hessian-vector products
    on top (not counted here).
    """
    s = settings
    if scheme == "elbo":
        return 1
    if scheme == "hmc":
        return 3 + s.num_transitions * s.num_leapfrogs
    frame = (
        quick_cost((s.latent, s.hidden, s.hidden, pixels), s.curvature_pixels)
        if s.frame == "curvature"
        else 0
    )
    return 3 + frame + s.kernel_transitions * s.kernel_leapfrogs


def train_dlgm(
    scheme: str,
    settings: Settings,
    data: Dataset,
    *,
    seed: int,
    folder: Path,
    on_epoch: OnEpoch | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train one model by one scheme, from its checkpoint in ``folder`` if there is one.

    ``on_epoch(model, epoch)`` may add figures to the epoch's record. Metrics go to
    ``metrics.jsonl``, one line per epoch. Everything random is a function of seed, epoch and step,
    so an interrupted run ends where an uninterrupted one would. Raises ValueError for a batch
    larger than the training set and for an epoch whose state or ELBO is not finite,
    `CheckpointError` for a checkpoint that is damaged or of another run.
    """
    state, recipe = fresh(scheme, settings, data, seed)
    num_images, batch, epochs = (
        data.train.shape[1],
        settings.batch_of(scheme),
        settings.epochs_of(scheme),
    )
    per_epoch, history = num_images // batch, list[dict[str, Any]]()
    if (folder / CHECKPOINT).exists():
        state, facts = load_checkpoint(folder / CHECKPOINT, state)
        if odd := differing(facts, scheme, settings, seed):
            raise CheckpointError(
                f"{folder / CHECKPOINT} is of another run: {odd}; choose another folder or remove "
                "it"
            )
        history = facts["history"]
        _check_finite(scheme, state, history[-1], f"{folder} holds a state that is not sound")
        write_lines(
            folder / METRICS, history
        )  # the last line is missing if the run ended just before it
    pixels = jnp.asarray(data.train)
    order_key, step_key, tune_key = jax.random.split(key_for(seed, scheme), 3)
    for epoch in range(len(history), epochs):
        before = history[-1] if history else {"seconds": 0.0, "num_gradients": 0}
        cost = gradients_per_image(scheme, settings, len(pixels)) * per_epoch * batch
        skipped = _skipped(state, recipe)
        with CompileClock() as clock:
            if scheme == "hmc":
                tuned, spent = tune_step_size(
                    jax.random.fold_in(tune_key, epoch), state.model, pixels, settings
                )
                state, cost = state._replace(model=tuned), cost + spent
            order = jax.random.permutation(jax.random.fold_in(order_key, epoch), num_images)
            chunks: list[StepMetrics] = []
            for first in range(0, per_epoch, CHUNK):
                length = min(CHUNK, per_epoch - first)
                where = (jnp.asarray(first), jnp.asarray(length))
                state, metrics = _chunk(
                    step_key, SCHEMES[scheme], state, pixels, order, where, recipe, batch
                )
                chunks.append(
                    jax.tree.map(lambda kept, length=length: np.asarray(kept)[:length], metrics)
                )
                if progress is not None:
                    done = epoch * per_epoch + first + length
                    elapsed = before["seconds"] + clock.elapsed
                    progress(
                        Progress(
                            f"train {scheme}",
                            done,
                            epochs * per_epoch,
                            elapsed,
                            _means(chunks[-1:]),
                        )
                    )
        record = {"epoch": epoch + 1, "step": (epoch + 1) * per_epoch} | _means(chunks)
        record["num_gradients"] = before["num_gradients"] + cost
        record["seconds"] = before["seconds"] + clock.seconds
        if state.model.dynamics is not None:
            record["step_size"] = _step_size(state.model)
        if recipe.kernel is not None:
            record["skipped_updates"] = _skipped(state, recipe) - skipped
        _check_finite(
            scheme,
            state,
            record,
            f"{folder} holds epoch {epoch}" if epoch else f"{folder} holds none",
        )
        if on_epoch is not None:
            record |= on_epoch(state.model, epoch + 1)
        history.append(record)
        facts = {"scheme": scheme, "seed": seed, "settings": settings.as_dict(), "history": history}
        save_checkpoint(folder / CHECKPOINT, state, facts)
        write_lines(folder / METRICS, history)
    return Trained(state.model, history)


def fresh(scheme: str, settings: Settings, data: Dataset, seed: int) -> tuple[DLGMState, Recipe]:
    """The state that training starts from. Raises ValueError for impossible settings."""
    num_images, batch = data.train.shape[1], settings.batch_of(scheme)
    if batch > num_images:
        raise ValueError(
            f"a batch of {batch} is larger than the training set of {num_images} images"
        )
    num_steps = settings.epochs_of(scheme) * (num_images // batch)
    return build(scheme, settings, data.train.shape[0], seed, num_steps=num_steps)


def differing(stored: dict[str, Any], scheme: str, settings: Settings, seed: int) -> str:
    """In what a stored run trains otherwise, in words."""
    ours: dict[str, Any] = {"scheme": scheme, "seed": seed}
    theirs = {name: stored[name] for name in ours}
    if ours == theirs:
        ours |= settings.training_of(scheme)
        theirs |= settings_from(stored["settings"]).training_of(scheme)
    names = sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )
    return ", ".join(f"{name} is {theirs.get(name)} there, {ours.get(name)} here" for name in names)


@eqx.filter_jit
def _chunk(
    key: Key,
    step: Callable,
    state: DLGMState,
    pixels: Array,
    order: Array,
    where: tuple[Array, Array],
    recipe: Recipe,
    batch: int,
) -> tuple[DLGMState, StepMetrics]:
    """Steps ``first`` to ``first + length`` of an epoch, at most CHUNK; the length is data."""
    first, length = where
    arrays, static = eqx.partition(state, eqx.is_array)

    def body(i: Array, carry: tuple[Any, StepMetrics]) -> tuple[Any, StepMetrics]:
        state = eqx.combine(carry[0], static)
        chosen = jax.lax.dynamic_slice_in_dim(order, (first + i) * batch, batch)
        images = jnp.take(pixels, chosen, axis=1)
        state, metrics = step(jax.random.fold_in(key, state.step), state, images, recipe)
        return eqx.filter(state, eqx.is_array), jax.tree.map(
            lambda kept, new: kept.at[i].set(new), carry[1], metrics
        )

    empty = StepMetrics(*(jnp.zeros(CHUNK, pixels.dtype) for _ in StepMetrics._fields))
    arrays, metrics = jax.lax.fori_loop(0, length, body, (arrays, empty))
    return eqx.combine(arrays, static), metrics


def tune_step_size(key: Key, model: Model, pixels: Array, settings: Settings) -> tuple[Model, int]:
    """The step size of HMC with the largest squared jump in units of q's deviation, and the
    gradients that it cost.

    The paper's measure (the learned kernel's default objective is another, `LogJump`, which asks
    for jumps of z^2 too), over a grid of 14 sizes on the same images at once, for the model as it
    is now: HMC is tuned anew for every epoch.
    """
    grid = jnp.asarray(STEP_SIZES, pixels.dtype)
    num = min(settings.tuning_images, pixels.shape[1])
    score = _jump_by_size(key, model, pixels, grid, num, settings.num_transitions)
    best = grid[jnp.argmax(score)]
    spent = num * len(STEP_SIZES) * (1 + settings.num_transitions * settings.num_leapfrogs)
    return eqx.tree_at(lambda m: m.dynamics.step_size, model, best), spent


@eqx.filter_jit
def _jump_by_size(
    key: Key, model: Model, pixels: Array, grid: Array, num: int, num_transitions: int
) -> Array:
    choose_key, binary_key, noise_key, chain_key = jax.random.split(key, 4)
    chosen = jax.random.choice(choose_key, pixels.shape[1], (num,), replace=False)
    images = binarise(binary_key, jnp.take(pixels, chosen, axis=1))
    q = model.encoder(images)
    start = q.draw(jax.random.normal(noise_key, q.mean.shape, q.mean.dtype))
    q, start = jax.tree.map(lambda a: jnp.repeat(a, grid.shape[0], axis=1), (q, start))
    sized = eqx.tree_at(lambda m: m.dynamics.step_size, model, jnp.tile(grid, num))
    _, (_, jump) = follow(chain_key, posterior_kernel(sized, images, q), start, q, num_transitions)
    return jump.reshape(num, -1).mean(axis=0)


def _check_finite(scheme: str, state: DLGMState, record: dict[str, Any], kept: str) -> None:
    """Raises ValueError if state or ELBO at the end of an epoch is not finite."""
    parts = {
        "encoder": state.model.encoder,
        "decoder": state.model.decoder,
        "sampler": state.model.dynamics,
    }
    bad = [
        name
        for name, part in (parts | {"optimizers": state.opt_states}).items()
        if not _is_finite(part)
    ]
    elbo = record.get("elbo")
    if elbo is None or not np.isfinite(elbo):
        bad.append("ELBO")
    if bad:
        rates = (
            "elbo_learning_rate" if scheme == "elbo" else "learning_rate and encoder_learning_rate"
        )
        raise ValueError(
            f"training {scheme} failed in epoch {record['epoch']}: not finite are "
            f"{', '.join(bad)}; use a smaller {rates}, in another folder ({kept})"
        )


def _is_finite(tree: Any) -> bool:
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return all(bool(np.all(np.isfinite(np.asarray(leaf)))) for leaf in leaves)


def _skipped(state: DLGMState, recipe: Recipe) -> int:
    """Updates of the kernel left out until now, their gradient not being finite (`adam`)."""
    return 0 if recipe.kernel is None else int(state.opt_states[2].total_notfinite)


def _step_size(model: Model) -> float:
    """Step size of HMC, drift size of a learned leapfrog."""
    match model.dynamics:
        case Leapfrog() as dynamics:
            return float(dynamics.step_size)
        case (
            Guided(dynamics=LearnedLeapfrog() as dynamics)
            | Curved(dynamics=LearnedLeapfrog() as dynamics)
        ):
            return float(jnp.exp(dynamics.log_step_size[-1]))
        case LearnedLeapfrog() as dynamics:
            return float(jnp.exp(jnp.ravel(dynamics.log_step_size)[-1]))
    raise TypeError(f"no step size in {type(model.dynamics).__name__}")


def _means(chunks: list[StepMetrics]) -> dict[str, float]:
    """Means over the steps that have the figure."""
    joined = {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks])
        for name in StepMetrics._fields
    }
    found = {
        name: float(np.nanmean(values))
        for name, values in joined.items()
        if np.isfinite(values).any()
    }
    return found | {"elbo": float(np.mean(joined["elbo"]))}
