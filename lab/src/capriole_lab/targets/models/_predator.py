"""Lotka and Volterra's equations, fitted to the pelts of hares and lynxes."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from capriole.kernels import Key, Scalar, Vector

from .._base import default_dtype, normal
from .._data import read_table
from .._posterior import AbstractPosterior, gathered, named
from .._priors import Normal

_NAMES = (
    "theta[1]", "theta[2]", "theta[3]", "theta[4]", "z_init[1]", "z_init[2]", "sigma[1]",
    "sigma[2]",
)  # fmt: skip
_CYCLE = 10.0
_RATE, _CROSS = Normal(1, 0.5), Normal(0.05, 0.05)


class LotkaVolterra(AbstractPosterior):
    """Prey u and predators v, seen once a time unit with log-normal errors (Carpenter 2018, a Stan
    case study)::

        u' = (theta_1 - theta_2 v) u,  v' = (theta_4 u - theta_3) v
        log y_t ~ N(log z_t, sigma),  z = (u, v)
        theta_1, theta_3 ~ N+(1, 0.5),  theta_2, theta_4 ~ N+(0.05, 0.05)
        log sigma ~ N(-1, 1),  log z_init ~ N(log 10, 1)

    in the logs of all eight parameters. Runge and Kutta's fourth-order steps on (log u, log v),
    ``steps`` per time unit, are part of the model: both populations stay positive, and a loop of
    fixed length has second derivatives. Raises ValueError unless counts are positive, (times, 2),
    at least two times, and steps >= 1.
    """

    logs: Float[Array, "2 times"]
    steps: int = eqx.field(static=True)
    parameters: tuple[str, ...] = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, *, counts: ArrayLike, steps: int = 10, dtype: Any = None):
        counts = np.asarray(counts, np.float64)
        if counts.ndim != 2 or counts.shape[1] != 2 or len(counts) < 2 or not (counts > 0).all():
            raise ValueError(
                f"need positive counts (times, 2) of at least 2 times, got shape {counts.shape}"
            )
        if steps < 1:
            raise ValueError(f"steps per time unit must be at least 1, got {steps}")
        self.logs = jnp.asarray(np.log(counts.T), default_dtype(dtype))
        self.steps, self.parameters, self.dim = steps, _NAMES, 8

    def __call__(self, position: Vector) -> Scalar:
        """Log posterior up to a constant."""
        theta, log_sigma = jnp.exp(position[:4]), position[6:]
        seen = self.logs.reshape(self.logs.shape + (1,) * (position.ndim - 1))
        misfit = (seen - self.path(position)) * jnp.exp(-log_sigma)[:, None]
        likelihood = -jnp.sum(misfit**2, axis=(0, 1)) / 2 - self.logs.shape[1] * jnp.sum(
            log_sigma, axis=0
        )
        rates = jnp.sum(_RATE(theta[0::2]) + _CROSS(theta[1::2]), axis=0) + jnp.sum(
            position[:4], axis=0
        )
        others = jnp.sum((position[4:6] - math.log(10)) ** 2 + (log_sigma + 1) ** 2, axis=0) / 2
        return likelihood + rates - others

    def path(self, position: Vector) -> Float[Array, "2 times *chains"]:
        """Log populations at all times."""
        theta, size = jnp.exp(position[:4]), 1 / self.steps

        def slope(state: Vector) -> Vector:
            prey, predators = jnp.exp(state)
            return jnp.stack([theta[0] - theta[1] * predators, theta[3] * prey - theta[2]])

        def step(state: Vector, _: None) -> tuple[Vector, None]:
            first = slope(state)
            second = slope(state + size / 2 * first)
            third = slope(state + size / 2 * second)
            fourth = slope(state + size * third)
            return state + size / 6 * (first + 2 * second + 2 * third + fourth), None

        def unit(state: Vector, _: None) -> tuple[Vector, Vector]:
            return jax.lax.scan(step, state, length=self.steps)[0], state

        states = jax.lax.scan(unit, position[4:6], length=self.logs.shape[1])[1]
        return jnp.moveaxis(states, 1, 0)

    def start(self, key: Key, num: int) -> Vector:
        """What the data suggest, plus N(0, 0.1^2): cycles of ten years around the mean counts, from
        the first counts.

        Starts out of phase would fall into separate modes of vanishing weight.
        """
        mean_prey, mean_predators = jnp.mean(jnp.exp(self.logs), axis=1)
        rate = jnp.full_like(mean_prey, 2 * math.pi / _CYCLE)
        logs = jnp.log(jnp.stack([rate, rate / mean_predators, rate, rate / mean_prey]))
        centre = jnp.concatenate([logs, self.logs[:, 0], jnp.full_like(logs[:2], -1)])
        return centre[:, None] + normal(key, self.dim, num, self.logs.dtype) / 10

    def constrain(self, position: Vector) -> dict[str, Scalar]:
        """theta, z_init and sigma."""
        return named(self.parameters, jnp.exp(position))

    def unconstrain(self, parameters: Mapping[str, ArrayLike]) -> Vector:
        """Their logs."""
        return jnp.log(gathered(parameters, self.parameters, self.logs.dtype))


def lynx_hare(*, dtype: Any = None) -> LotkaVolterra:
    """Pelts of hares and lynxes, in thousands, bought by the Hudson's Bay Company 1900 to 1920."""
    return LotkaVolterra(counts=read_table("lynx_hare.csv", (21, 3))[:, 1:], dtype=dtype)
