"""The shape of a latent's posterior: is it the Gaussian of an encoder? (paper, figure 3b)"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capriole.kernels import Key, Transition

from .._model import Images
from .._schemes import Model, posterior_kernel, repeated


class PosteriorDraws(NamedTuple):
    """Draws of every posterior, (images, chains, draws, latent), and mean acceptance."""

    draws: Float[np.ndarray, "images chains draws latent"]
    acceptance_rate: float


class Shape(NamedTuple):
    """Draws projected on the direction of highest variance, (chains, draws), and how far from a
    Gaussian they are.

    The direction comes from one half of the chains, the figures from the other. ``skewness`` and
    ``kurtosis`` (excess) come with standard errors over chains; ``distance`` is the largest
    difference between the distribution functions of the draws and of the Gaussian with their mean
    and variance.
    """

    projected: Float[np.ndarray, "chains draws"]
    skewness: float
    skewness_se: float
    kurtosis: float
    kurtosis_se: float
    distance: float

    @property
    def is_non_gaussian(self) -> bool:
        """Skewness or kurtosis more than 4 standard errors from 0."""
        return (
            abs(self.skewness) > 4 * self.skewness_se or abs(self.kurtosis) > 4 * self.kurtosis_se
        )


def chains_from_q(
    key: Key, model: Model, images: Images, num_chains: int, *, curvature_pixels: int | None = None
) -> tuple[Transition, Array, Key]:
    """The model's kernel for ``num_chains`` chains of every image, their latents from q, and a key
    for their steps.

    ``curvature_pixels`` as for `posterior_kernel`.
    """
    start_key, chain_key = jax.random.split(key)
    q = model.encoder(images)
    kernel = posterior_kernel(
        model, images, q, curvature_pixels=curvature_pixels, num_chains=num_chains
    )
    q = repeated(q, num_chains)
    return kernel, q.draw(jax.random.normal(start_key, q.mean.shape, q.mean.dtype)), chain_key


def draw_posterior(
    key: Key, model: Model, images: Images, *, num_chains: int, num_steps: int, thin: int = 1
) -> PosteriorDraws:
    """``num_chains`` chains per image, from q; the first half of the steps is dropped."""
    kernel, start, chain_key = chains_from_q(key, model, images, num_chains)
    position, rates = _drawn(chain_key, kernel, start, num_steps // thin, thin)
    position, rates = position[len(position) // 2 :], rates[len(rates) // 2 :]
    by_image = np.asarray(position).reshape(
        position.shape[0], position.shape[1], images.shape[1], num_chains
    )
    return PosteriorDraws(by_image.transpose(2, 3, 0, 1), float(jnp.mean(rates)))


@eqx.filter_jit
def _drawn(key: Key, kernel: Any, start: Array, num_draws: int, thin: int) -> tuple[Array, Array]:
    """Latents (draws, latent, chains) and mean acceptance of every draw."""

    def draw(state: Any, t: Array) -> tuple[Any, tuple[Array, Array]]:
        def step(state: Any, i: Array) -> tuple[Any, Array]:
            state, info = kernel.move(jax.random.fold_in(key, t * thin + i), state)
            return state, jnp.mean(info.acceptance_rate)

        state, rates = jax.lax.scan(step, state, jnp.arange(thin))
        return state, (kernel.target.units.draw(state.position), jnp.mean(rates))

    return jax.lax.scan(
        draw, kernel.init(kernel.target.units.standardise(start)), jnp.arange(num_draws)
    )[1]


def posterior_shape(draws: Float[np.ndarray, "chains draws latent"]) -> Shape:
    """The shape along the direction of highest variance; needs at least 4 chains."""
    if len(draws) < 4:
        raise ValueError(f"standard errors over chains need at least 4 of them, got {len(draws)}")
    draws = np.asarray(draws, np.float64)
    half = len(draws) // 2
    learned, judged = draws[:half].reshape(-1, draws.shape[2]), draws[half:]
    _, vectors = np.linalg.eigh(np.cov(learned.T))
    direction = vectors[:, -1] * np.sign(vectors[np.argmax(np.abs(vectors[:, -1])), -1])
    projected = judged @ direction
    skewness, skewness_se = _jackknife(projected, 3)
    kurtosis, kurtosis_se = _jackknife(projected, 4)
    return Shape(
        projected, skewness, skewness_se, kurtosis, kurtosis_se, _distance(projected.ravel())
    )


def _jackknife(values: Float[np.ndarray, "chains draws"], power: int) -> tuple[float, float]:
    """Standardised central moment (less 3 if the fourth), its error by leaving chains out."""
    raw = np.stack([np.mean(values**p, axis=1) for p in range(1, power + 1)])

    def moment(means: np.ndarray) -> np.ndarray:
        m, sd = means[0], np.sqrt(means[1] - means[0] ** 2)
        if power == 3:
            return (means[2] - 3 * m * means[1] + 2 * m**3) / sd**3
        return (means[3] - 4 * m * means[2] + 6 * m**2 * means[1] - 3 * m**4) / sd**4 - 3

    num = values.shape[0]
    without = moment((raw.sum(axis=1, keepdims=True) - raw) / (num - 1))
    error = np.sqrt((num - 1) / num * np.sum((without - without.mean()) ** 2))
    return float(moment(raw.mean(axis=1))), float(error)


def _distance(values: Float[np.ndarray, " draws"]) -> float:
    from scipy.special import ndtr

    ordered = np.sort((values - values.mean()) / values.std())
    steps = np.arange(len(ordered) + 1) / len(ordered)
    cdf = ndtr(ordered)
    return float(max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1])))


def shape_summary(shapes: list[Shape]) -> dict[str, Any]:
    """Over many images: share that is clearly not Gaussian, and the sizes of the deviations."""
    num = len(shapes)
    share = float(np.mean([s.is_non_gaussian for s in shapes]))
    return {
        "num_images": num,
        "non_gaussian_share": share,
        "non_gaussian_share_se": float(np.sqrt(share * (1 - share) / num)),
        "median_abs_skewness": float(np.median([abs(s.skewness) for s in shapes])),
        "median_abs_kurtosis": float(np.median([abs(s.kurtosis) for s in shapes])),
        "median_distance": float(np.median([s.distance for s in shapes])),
        "max_distance": float(np.max([s.distance for s in shapes])),
    }
