"""log p(x) by annealed importance sampling, and the bidirectional sandwich that bounds its error.

The path from the prior to the posterior is ``f_b(z) = p(z) p(x | z)^b``, b from 0 to 1 in K steps::

    forward   z ~ p;         for k = 1..K: log w += (b_k - b_(k-1)) log p(x | z),
                             then z moves by HMC under f_(b_k)
    reverse   z ~ p(z | x);  for k = K..1: z moves by HMC under f_(b_k), then log w += the same
    E[w] = p(x) forward and E[1 / w] = 1 / p(x) reverse, so the means bound log p(x)

An exact draw of the posterior is at hand only for simulated images: z ~ p, x ~ p(x | z). Step
sizes, one per temperature and image, come from a pilot pass over other particles and are then
frozen: adapting them on the particles that are weighted would bias the weights. Sources: Neal 2001;
Grosse et al. 2015; Wu et al. 2017.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import (
    AbstractLogDensity,
    Key,
    Leapfrog,
    State,
    Transition,
    Vector,
    value_and_grad,
)

from .._model import LatentPosterior

TARGET_ACCEPTANCE = 0.65


class AISResult(NamedTuple):
    """Estimates of log p(x), one per image, as float64.

    ``error`` is the standard error of the mean weight on the log scale, ``ess`` the effective
    number of chains, both from the spread of the weights: they cannot see what no chain found, the
    gap of the sandwich can.
    """

    log_likelihood: Float[np.ndarray, " images"]
    error: Float[np.ndarray, " images"]
    ess: Float[np.ndarray, " images"]
    acceptance_rate: float
    num_gradients: int


class AISPlan(NamedTuple):
    """Temperatures (K + 1,), frozen step sizes (K, images), leapfrogs per transition."""

    powers: Float[Array, " temperatures"]
    step_sizes: Float[Array, "steps images"]
    num_leapfrogs: int
    num_gradients: int


def sigmoid_schedule(num_temperatures: int) -> Float[np.ndarray, " temperatures"]:
    """``b_k = (s_k - s_0) / (s_K - s_0)``, ``s_k = sigmoid(4 (2 k / K - 1))``: slow at the ends."""
    if num_temperatures < 1:
        raise ValueError(f"AIS needs at least one temperature, got {num_temperatures}")
    s = 1 / (1 + np.exp(-4 * (2 * np.arange(num_temperatures + 1) / num_temperatures - 1)))
    return (s - s[0]) / (s[-1] - s[0])


def plan_ais(
    key: Key,
    likelihood: AbstractLogDensity,
    *,
    latent: int,
    num_images: int,
    num_temperatures: int = 1000,
    num_chains: int = 4,
    num_leapfrogs: int = 10,
    step_size: float = 0.3,
) -> AISPlan:
    """A pilot pass with ``num_chains`` chains per image that moves every step size towards
    acceptance 0.65.

    ``likelihood`` is log p(x | z), normalised, for ``num_images * chains`` columns of latents,
    those of one image side by side (`ImageLikelihood`).
    """
    dtype = jax.tree.leaves(eqx.filter(likelihood, eqx.is_inexact_array))[0].dtype
    powers = jnp.asarray(sigmoid_schedule(num_temperatures), dtype)
    start = jnp.full(num_images, step_size, powers.dtype)
    sizes = _pilot(key, likelihood, powers, start, latent, num_chains, num_leapfrogs)
    cost = num_images * num_chains * num_temperatures * (num_leapfrogs + 1)
    return AISPlan(powers, sizes, num_leapfrogs, cost)


def run_ais(
    key: Key, likelihood: AbstractLogDensity, plan: AISPlan, *, latent: int, num_chains: int = 16
) -> AISResult:
    """Forward pass: in expectation a lower bound of log p(x)."""
    _, log_weights, acceptance = _forward(key, likelihood, plan, latent, num_chains)
    return _summary(np.asarray(log_weights, np.float64), float(acceptance), plan, num_chains)


def weighted_draws(
    key: Key, likelihood: AbstractLogDensity, plan: AISPlan, *, latent: int, num_chains: int
) -> tuple[Vector, Float[np.ndarray, "images chains"]]:
    """Latents of shape (latent, images * chains) at the end of a forward pass, and their weights
    towards p(z | x).

    The weights of an image sum to 1. No chain that mixes is needed for them: a check on samplers.
    """
    latents, log_weights, _ = _forward(key, likelihood, plan, latent, num_chains)
    by_image = np.asarray(log_weights, np.float64).reshape(-1, num_chains)
    weights = np.exp(by_image - by_image.max(axis=1, keepdims=True))
    return latents, weights / weights.sum(axis=1, keepdims=True)


def _forward(
    key: Key, likelihood: AbstractLogDensity, plan: AISPlan, latent: int, num_chains: int
) -> tuple[Vector, Array, Array]:
    start_key, chain_key = jax.random.split(key)
    columns = plan.step_sizes.shape[1] * num_chains
    start = jax.random.normal(start_key, (columns, latent), plan.powers.dtype).T
    return _anneal(chain_key, likelihood, plan, start, reverse=False)


def run_reverse_ais(
    key: Key,
    likelihood: AbstractLogDensity,
    plan: AISPlan,
    posterior_draws: Vector,
    *,
    num_chains: int = 16,
) -> AISResult:
    """Reverse pass from one exact draw per image, (latent, images): an upper bound."""
    start = jnp.repeat(posterior_draws, num_chains, axis=1)
    _, log_weights, acceptance = _anneal(key, likelihood, plan, start, reverse=True)
    result = _summary(-np.asarray(log_weights, np.float64), float(acceptance), plan, num_chains)
    return result._replace(log_likelihood=-result.log_likelihood)


@eqx.filter_jit
def _pilot(
    key: Key,
    likelihood: AbstractLogDensity,
    powers: Array,
    step_sizes: Array,
    latent: int,
    num_chains: int,
    num_leapfrogs: int,
) -> Array:
    start_key, chain_key = jax.random.split(key)
    start = jax.random.normal(start_key, (step_sizes.shape[0] * num_chains, latent), powers.dtype).T

    def body(carry: tuple[Vector, Array], k: Array) -> tuple[tuple[Vector, Array], Array]:
        position, sizes = carry
        state = _tempered_state(position, powers[k + 1], *value_and_grad(likelihood, position))
        step_key = jax.random.fold_in(chain_key, k)
        position, rate = _hmc(step_key, likelihood, powers[k + 1], sizes, num_leapfrogs, state)
        by_image = jnp.mean(rate.reshape(sizes.shape[0], -1), axis=1)
        # A gain that suits thousands of temperatures and still reaches a tenth of the first guess
        # within a hundred.
        return (position, sizes * jnp.exp(0.1 * (by_image - TARGET_ACCEPTANCE))), sizes

    _, sizes = jax.lax.scan(body, (start, step_sizes), jnp.arange(powers.shape[0] - 1))
    return sizes


@eqx.filter_jit
def _anneal(
    key: Key, likelihood: AbstractLogDensity, plan: AISPlan, start: Vector, *, reverse: bool
) -> tuple[Vector, Array, Array]:
    """Latents at the end, log weights per column, mean acceptance."""
    powers = plan.powers

    def weigh(total: tuple[Array, Array], k: Array, value: Array) -> tuple[Array, Array]:
        return compensated(total, (powers[k + 1] - powers[k]) * value)

    def body(
        carry: tuple[Vector, tuple[Array, Array]], k: Array
    ) -> tuple[tuple[Vector, tuple[Array, Array]], Array]:
        position, total = carry
        value, grad = value_and_grad(likelihood, position)
        if not reverse:
            total = weigh(total, k, value)
        state = _tempered_state(position, powers[k + 1], value, grad)
        step_key = jax.random.fold_in(key, k)
        position, rate = _hmc(
            step_key, likelihood, powers[k + 1], plan.step_sizes[k], plan.num_leapfrogs, state
        )
        if reverse:
            total = weigh(total, k, likelihood(position))
        return (position, total), jnp.mean(rate)

    zeros = jnp.zeros(start.shape[1], start.dtype)
    steps = jnp.arange(powers.shape[0] - 1)
    (end, (total, _)), rates = jax.lax.scan(body, (start, (zeros, zeros)), steps, reverse=reverse)
    return end, total, jnp.mean(rates)


def compensated(total: tuple[Array, Array], term: Array) -> tuple[Array, Array]:
    """A sum and what its last digits lost, with one term more (Kahan 1965)."""
    so_far, lost = total
    term = term - lost
    new = so_far + term
    return new, (new - so_far) - term


def _tempered_state(position: Vector, power: Array, value: Array, grad: Vector) -> State:
    """The chains' state on ``f_b``, from log p(x | z) and its gradient."""
    return State(
        position, power * value - jnp.sum(position**2, axis=0) / 2, power * grad - position
    )


def _hmc(
    key: Key,
    likelihood: AbstractLogDensity,
    power: Array,
    sizes: Array,
    num_leapfrogs: int,
    state: State,
) -> tuple[Vector, Array]:
    """One HMC step on ``f_b`` with a step size per image: positions, acceptance."""
    per_chain = jnp.repeat(sizes, state.position.shape[1] // sizes.shape[0])
    kernel = Transition(LatentPosterior(likelihood, power), Leapfrog(per_chain, num_leapfrogs))
    new, info = kernel.move(key, state)
    return new.position, info.acceptance_rate


def _summary(
    log_weights: np.ndarray, acceptance: float, plan: AISPlan, num_chains: int
) -> AISResult:
    by_image = log_weights.reshape(-1, num_chains)
    value, error, ess = log_mean_exp(by_image)
    cost = by_image.size * (plan.powers.shape[0] - 1) * (plan.num_leapfrogs + 1)
    return AISResult(value, error, ess, acceptance, cost)


def log_mean_exp(
    log_weights: Float[np.ndarray, "images chains"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``log mean exp`` over chains, its standard error, the effective number of chains."""
    peak = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - peak)
    mean, num = weights.mean(axis=1), log_weights.shape[1]
    error = (
        weights.std(axis=1, ddof=1) / mean / np.sqrt(num) if num > 1 else np.full(len(mean), np.nan)
    )
    return peak[:, 0] + np.log(mean), error, num * mean**2 / (weights**2).mean(axis=1)
