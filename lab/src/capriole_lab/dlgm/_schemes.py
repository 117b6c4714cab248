"""Ways to train the same model, one pure step function each; they differ in where the decoder's z
come from.

============ ============================ =======================
===================================== scheme       encoder steps on             decoder steps on
kernel steps on ============ ============================ =======================
===================================== `elbo_step`  ELBO                         ELBO
- `hmc_step`   ELBO                         log p(x | z_K)          - (its step size is tuned,
`_train`) `l2hmc_step` ELBO                         log p(x | z_K)          squared jumps of all K
transitions;
                                                                  its guide on z_K (`_guide`)
============ ============================ =======================
=====================================

z_0 ~ q(z | x), and z_K is z_0 after K Metropolis-Hastings transitions towards p(z | x), a constant
for the decoder. Source: Hoffman 2017 (HMC); Levy et al. 2018, Algorithm 2 (L2HMC).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from capriole.kernels import (
    AbstractDynamics,
    Info,
    Key,
    Leapfrog,
    LearnedLeapfrog,
    State,
    Transition,
    Vector,
)
from capriole.training import AbstractObjective

from ._curvature import Curved, fresh_frame, quick_frame
from ._guide import Framed, Guided
from ._model import (
    Decoder,
    Diagonal,
    Encoder,
    ImageLikelihood,
    Images,
    InUnits,
    LatentPosterior,
    log_bernoulli,
)


class Model(eqx.Module):
    """Everything that is trained. ``dynamics`` is None for a VAE, `Leapfrog` for HMC, for L2HMC a
    learned leapfrog.

    That is `Guided` or `Curved`; by itself, without a frame, it moves in units of q.
    """

    encoder: Encoder
    decoder: Decoder
    dynamics: AbstractDynamics | None


class Recipe(NamedTuple):
    """Optimizers of the three parts (None: not trained), K, and the objective on latents in units
    of q's deviation.

    ``curvature_pixels`` as for `posterior_kernel`.
    """

    encoder: optax.GradientTransformation
    decoder: optax.GradientTransformation
    kernel: optax.GradientTransformation | None
    num_transitions: int
    objective: AbstractObjective
    curvature_pixels: int | None = 128


class DLGMState(NamedTuple):
    """What a training step changes."""

    model: Model
    opt_states: tuple[Any, Any, Any]
    step: Int[Array, ""]


class StepMetrics(NamedTuple):
    """Means over the minibatch; NaN where a scheme has no such figure.

    ``log_likelihood`` is log p(x | z) at the latents the decoder learns from; ``acceptance_rate``
    and ``jump`` (A times the squared jump over q's variance, summed over dimensions) are means over
    the K transitions.
    """

    elbo: Float[Array, ""]
    log_likelihood: Float[Array, ""]
    acceptance_rate: Float[Array, ""]
    jump: Float[Array, ""]
    loss: Float[Array, ""]


def init_state(model: Model, recipe: Recipe) -> DLGMState:
    """A fresh training state."""
    parts = (model.encoder, model.decoder, model.dynamics)
    states = tuple(
        None if optimizer is None else optimizer.init(eqx.filter(part, eqx.is_inexact_array))
        for optimizer, part in zip(
            (recipe.encoder, recipe.decoder, recipe.kernel), parts, strict=True
        )
    )
    return DLGMState(model, states, jnp.zeros((), jnp.int32))  # type: ignore[arg-type]


def elbo_step(
    key: Key, state: DLGMState, pixels: Images, recipe: Recipe
) -> tuple[DLGMState, StepMetrics]:
    """VAE: encoder and decoder step on the ELBO; ``pixels`` (pixels, batch) are binarised here."""
    binary_key, encode_key = jax.random.split(key)
    images, model = binarise(binary_key, pixels), state.model

    def loss(parts: tuple[Encoder, Decoder]) -> tuple[Array, Vector]:
        elbo, reconstruction, _ = _elbo(*parts, images, encode_key)
        return -jnp.mean(elbo), reconstruction

    (negative, reconstruction), grads = eqx.filter_value_and_grad(loss, has_aux=True)(
        (model.encoder, model.decoder)
    )
    nan = jnp.full_like(negative, jnp.nan)
    metrics = StepMetrics(-negative, jnp.mean(reconstruction), nan, nan, nan)
    return _update(state, recipe, (*grads, None)), metrics


def hmc_step(
    key: Key, state: DLGMState, pixels: Images, recipe: Recipe
) -> tuple[DLGMState, StepMetrics]:
    """HMC-DLGM: the encoder steps on the ELBO, the decoder on log p(x | z_K)."""
    binary_key, encode_key, chain_key = jax.random.split(key, 3)
    images = binarise(binary_key, pixels)
    elbo, encoder_grads, q, z0 = _encode(state.model, images, encode_key)
    latents, figures = follow(
        chain_key, posterior_kernel(state.model, images, q), z0, q, recipe.num_transitions
    )
    figures = (jnp.mean(figures[0]), jnp.mean(figures[1]))
    fit, decoder_grads = _decode(state.model.decoder, images, latents)
    metrics = StepMetrics(elbo, fit, *figures, loss=jnp.full_like(fit, jnp.nan))
    return _update(state, recipe, (encoder_grads, decoder_grads, None)), metrics


def l2hmc_step(
    key: Key, state: DLGMState, pixels: Images, recipe: Recipe
) -> tuple[DLGMState, StepMetrics]:
    """L2HMC-DLGM: as `hmc_step` with learned transitions, which step on the loss of all K."""
    binary_key, encode_key, chain_key = jax.random.split(key, 3)
    images = binarise(binary_key, pixels)
    elbo, encoder_grads, q, z0 = _encode(state.model, images, encode_key)
    kernel = posterior_kernel(state.model, images, q, curvature_pixels=recipe.curvature_pixels)
    latents, figures, loss, kernel_grads = follow_and_learn(chain_key, kernel, z0, q, recipe)
    if isinstance(state.model.dynamics, Curved):
        kernel_grads = Curved(kernel_grads)
    if isinstance(state.model.dynamics, Guided):
        draws = jax.lax.stop_gradient(units_of(q).standardise(latents))
        guide_grads = eqx.filter_grad(lambda guide: guide.misfit(images, draws))(
            state.model.dynamics.guide
        )
        kernel_grads = Guided(guide_grads, kernel_grads)
    fit, decoder_grads = _decode(state.model.decoder, images, latents)
    metrics = StepMetrics(elbo, fit, *figures, loss)
    return _update(state, recipe, (encoder_grads, decoder_grads, kernel_grads)), metrics


type SchemeStep = Callable[[Key, DLGMState, Images, Recipe], tuple[DLGMState, StepMetrics]]

SCHEMES: dict[str, SchemeStep] = {"elbo": elbo_step, "hmc": hmc_step, "l2hmc": l2hmc_step}


def binarise(key: Key, pixels: Images) -> Images:
    """Each pixel 1 with the probability that is its grey value (dynamic binarisation)."""
    return (jax.random.uniform(key, pixels.shape, pixels.dtype) < pixels).astype(pixels.dtype)


def posterior_kernel(
    model: Model,
    images: Images,
    q: Diagonal,
    *,
    curvature_pixels: int | None = None,
    num_chains: int = 1,
) -> Transition:
    """The model's dynamics on p(z | images), ``num_chains`` columns per image, in the coordinates
    that it works in.

    `Leapfrog`, the HMC of the paper, moves the latents themselves; every other dynamics moves them
    in units of ``q = model.encoder(images)``, where the posterior is near N(0, I) as far as the
    encoder is right. Map latents by ``kernel.target.units``: `Diagonal.standardise` to the kernel's
    coordinates, `Diagonal.draw` back. The frame of a `Curved` kernel is that of the mode, or with
    ``curvature_pixels`` the quick one of training (`quick_frame`). Frames are made once per image
    and shared by its chains, whose columns lie side by side.
    """
    if model.dynamics is None:
        raise ValueError("this model has no sampler: it was trained on the ELBO alone")
    dynamics = model.dynamics.at(images) if isinstance(model.dynamics, Guided) else model.dynamics
    if isinstance(dynamics, Curved):
        if curvature_pixels is None:
            frame = fresh_frame(model.decoder, images, q, units_of(q))
        else:
            frame = quick_frame(model.decoder, q, units_of(q), curvature_pixels)
        dynamics = Framed(frame, dynamics.dynamics)
    images, q = repeated((images, q), num_chains)
    if isinstance(dynamics, Framed):
        dynamics = Framed(repeated(dynamics.frame, num_chains), dynamics.dynamics)
    context = images if isinstance(dynamics, LearnedLeapfrog | Framed) else None
    units = jax.tree.map(jnp.zeros_like, q) if isinstance(dynamics, Leapfrog) else units_of(q)
    target = InUnits(LatentPosterior(ImageLikelihood(model.decoder, images)), units)
    return Transition(target, dynamics, context)


def repeated[T](columns: T, num_chains: int) -> T:
    """Every column, the last axis of all arrays, ``num_chains`` times side by side."""
    return (
        jax.tree.map(lambda a: jnp.repeat(a, num_chains, axis=-1), columns)
        if num_chains > 1
        else columns
    )


def units_of(q: Diagonal) -> Diagonal:
    """Constant units of length from q: its deviation, at least 0.01."""
    return jax.lax.stop_gradient(Diagonal(q.mean, jnp.log(jnp.exp(2 * q.log_sd) + 1e-4) / 2))


def follow(
    key: Key, kernel: Transition, start: Vector, q: Diagonal, num_transitions: int
) -> tuple[Vector, tuple[Array, Array]]:
    """K transitions from ``start``: final latents; mean acceptance and scaled jump."""
    units = kernel.target.units  # type: ignore[attr-defined]

    def body(state: State, k: Array) -> tuple[State, tuple[Array, Array]]:
        new, info = kernel.move(jax.random.fold_in(key, k), state)
        return new, (info.acceptance_rate, scaled_jump(state, info, kernel, q))

    first = kernel.init(units.standardise(start))
    end, (acceptance, jump) = jax.lax.scan(body, first, jnp.arange(num_transitions))
    return units.draw(end.position), (jnp.mean(acceptance, axis=0), jnp.mean(jump, axis=0))


def follow_and_learn(
    key: Key, kernel: Transition, start: Vector, q: Diagonal, recipe: Recipe
) -> tuple[Vector, tuple[Array, Array], Array, Any]:
    """As `follow`, with mean figures, the loss averaged over all K transitions and its gradient for
    the dynamics.

    Each transition starts from a constant state, so memory holds one trajectory, whatever K. The
    objective sees positions in units of q, or in the frame of the guide if there is one; the
    gradient is then for the dynamics there.
    """
    frame, learned = None, kernel.dynamics
    if isinstance(learned, Framed):
        frame, learned = learned.frame, learned.dynamics
    params, static = eqx.partition(learned, eqx.is_inexact_array)
    units = kernel.target.units  # type: ignore[attr-defined]

    def loss_fn(params: Any, key: Key, state: State) -> tuple[Array, Any]:
        moving = eqx.combine(params, static)
        here = Transition(
            kernel.logdensity, moving if frame is None else Framed(frame, moving), kernel.context
        )
        proposal = here.propose(key, state)
        ends = (state.position, proposal.end.position)
        before, after = ends if frame is None else (frame.inner(end) for end in ends)
        return recipe.objective(before, after, proposal.acceptance), proposal

    def body(carry: tuple[State, Any], k: Array) -> tuple[tuple[State, Any], tuple[Array, ...]]:
        state, total = carry
        propose_key, decide_key = jax.random.split(jax.random.fold_in(key, k))
        (loss, proposal), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, propose_key, state
        )
        new, info = kernel.decide(decide_key, state, proposal)
        jump = jnp.mean(scaled_jump(state, info, kernel, q))
        total = jax.tree.map(lambda sum_, grad: sum_ + grad / recipe.num_transitions, total, grads)
        return (new, total), (jnp.mean(info.acceptance_rate), jump, loss)

    zeros = jax.tree.map(jnp.zeros_like, params)
    start_state = kernel.init(units.standardise(start))
    (end, grads), figures = jax.lax.scan(
        body, (start_state, zeros), jnp.arange(recipe.num_transitions)
    )
    acceptance, jump, loss = (jnp.mean(figure) for figure in figures)
    return units.draw(end.position), (acceptance, jump), loss, grads


def scaled_jump(state: State, info: Info, kernel: Transition, q: Diagonal) -> Array:
    """``A sum_i (z_i - z'_i)^2 / (var_q,i + 1e-4)`` per chain; 0 for a proposal not finite."""
    unit = jnp.exp(kernel.target.units.log_sd - units_of(q).log_sd)  # type: ignore[attr-defined]
    squared = jnp.sum(((info.proposal.position - state.position) * unit) ** 2, axis=0)
    return jnp.where(info.acceptance_rate > 0, info.acceptance_rate * squared, 0)


def _elbo(
    encoder: Encoder, decoder: Decoder, images: Images, key: Key
) -> tuple[Array, Array, tuple[Diagonal, Vector]]:
    """Per image: ``log p(x | z_0) - KL(q || p)`` and its first term; q and z_0, reparametrised."""
    q = encoder(images)
    z0 = q.draw(jax.random.normal(key, q.mean.shape, q.mean.dtype))
    reconstruction = log_bernoulli(images, decoder(z0))
    return reconstruction - q.kl(), reconstruction, (q, z0)


def _encode(model: Model, images: Images, key: Key) -> tuple[Array, Any, Diagonal, Vector]:
    """Mean ELBO, its gradient for the encoder alone, q, and z_0 as a constant."""

    def loss(encoder: Encoder) -> tuple[Array, tuple[Diagonal, Vector]]:
        elbo, _, drawn = _elbo(encoder, model.decoder, images, key)
        return -jnp.mean(elbo), drawn

    (negative, (q, z0)), grads = eqx.filter_value_and_grad(loss, has_aux=True)(model.encoder)
    return -negative, grads, q, jax.lax.stop_gradient(z0)


def _decode(decoder: Decoder, images: Images, latents: Vector) -> tuple[Array, Any]:
    """Mean log p(x | z) at constant latents, and the gradient of its negative for the decoder."""
    latents = jax.lax.stop_gradient(latents)
    negative, grads = eqx.filter_value_and_grad(
        lambda d: -jnp.mean(log_bernoulli(images, d(latents)))
    )(decoder)
    return -negative, grads


def _update(state: DLGMState, recipe: Recipe, grads: tuple[Any, Any, Any]) -> DLGMState:
    """One optimizer step of every part that has a gradient."""
    model = state.model
    parts = [model.encoder, model.decoder, model.dynamics]
    opt_states = list(state.opt_states)
    for i, (optimizer, grad) in enumerate(
        zip((recipe.encoder, recipe.decoder, recipe.kernel), grads, strict=True)
    ):
        if optimizer is not None and grad is not None:
            params = eqx.filter(parts[i], eqx.is_inexact_array)
            updates, opt_states[i] = optimizer.update(grad, opt_states[i], params)
            parts[i] = eqx.apply_updates(parts[i], updates)
    return DLGMState(Model(*parts), tuple(opt_states), state.step + 1)  # type: ignore[arg-type]
