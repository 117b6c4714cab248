"""A linear regression with normal priors; the position is slope, intercept, log of the scale."""

import jax.numpy as jnp

X = jnp.linspace(-1, 1, 20)
Y = 1.5 * X - 0.3 + 0.1 * jnp.sin(37 * X)


def logdensity(position):
    slope, intercept, log_scale = position
    residual = (Y - slope * X - intercept) / jnp.exp(log_scale)
    return -(jnp.sum(position**2) + jnp.sum(residual**2)) / 2 - len(Y) * log_scale
