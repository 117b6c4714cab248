"""The table of dynamics and targets that the exactness tests run through. A new Dynamics joins by
one line.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from capriole import AbstractLogDensity
from capriole.coordinates import BENDS, TransportMap
from capriole.kernels import (
    CrankNicolson,
    Leapfrog,
    LearnedLeapfrog,
    ModeJump,
    Rotation,
    Transition,
    learned_leapfrog,
    surrogate_force,
)
from densities import Banana, Funnel, Gaussian, Mixture2


def stirred(dynamics: LearnedLeapfrog, *, heads: float) -> LearnedLeapfrog:
    """The same with heads of ``heads`` times unit variance, random biases and bounds: log-dets of
    order 1.
    """
    for i, name in enumerate(("momentum_network", "position_network")):
        net = core(getattr(dynamics, name))
        keys = jax.random.split(jax.random.key(i), 3)
        bias = heads * jax.random.normal(keys[0], net.heads_bias.shape, net.heads_bias.dtype)
        bound = heads / 2 * jax.random.normal(keys[1], net.log_bound.shape, net.log_bound.dtype)
        new = (net.heads * 100 * heads, bias, bound)

        def where(d, name=name):
            net = core(getattr(d, name))
            return net.heads, net.heads_bias, net.log_bound

        dynamics = eqx.tree_at(where, dynamics, new)
    return dynamics


def core(network):
    """The part of a network that has heads: itself, or what a squashed or an image network is built
    around.
    """
    return getattr(network, "core", getattr(network, "network", network))


def leapfrog(steps: int, size: float = 0.3) -> Callable:
    """Factory of plain HMC."""
    return lambda dim, dtype: Leapfrog(jnp.asarray(size, dtype), steps)


def rotation(steps: int, angle: float = 1.2) -> Callable:
    """Factory of the rotation without networks."""
    return lambda dim, dtype: Rotation(jnp.asarray(angle, dtype), steps)


def surrogate(steps: int) -> Callable:
    """Factory of a learned leapfrog whose kicks hold a surrogate force."""

    def build(dim, dtype):
        made = learned_leapfrog(
            jax.random.key(dim), dim=dim, num_leapfrogs=steps, step_size=0.5, width=10, dtype=dtype
        )
        return surrogate_force(
            made, mean=jnp.full(dim, 0.3, dtype), variance=jnp.full(dim, 2.0, dtype)
        )

    return build


def learned(
    steps: int, size=0.2, heads: float = 1.0, context: int = 0, squashed: bool = False
) -> Callable:
    """Factory of a learned leapfrog with large random networks."""

    def build(dim, dtype):
        key = jax.random.key(dim + 100 * steps)
        made = learned_leapfrog(
            key,
            dim=dim,
            num_leapfrogs=steps,
            step_size=size,
            width=8,
            context_dim=context,
            squashed=squashed,
            dtype=dtype,
        )
        return stirred(made, heads=heads)

    return build


def gaussian(dim: int, dtype: jnp.dtype) -> Gaussian:
    """Scales from 0.5 to 2."""
    return Gaussian(jnp.asarray(np.geomspace(0.5, 2, dim) if dim > 1 else [1.3], dtype))


def transport_map(dim, parents, seed=0, bent=1.0):
    """A map with random entries of every kind."""
    rng = np.random.default_rng(seed)
    width = 1 + len(parents) * (1 + len(BENDS))
    offset, centre, log_scale = bent * rng.normal(size=(3, dim, width)) / 3
    factor = np.eye(dim) + rng.normal(size=(dim, dim)) / 3
    centre[parents], offset[parents, 1:], log_scale[parents, 1:] = 0, 0, 0
    factor[parents], factor[:, parents] = np.eye(dim)[parents], np.eye(dim)[:, parents]
    mixed = np.setdiff1d(np.arange(dim), parents)
    later = np.random.default_rng(seed + 1000)
    mixing = bent * np.tril(later.normal(size=(width, len(mixed), len(mixed))), -1) / 2
    return TransportMap(
        parents=jnp.asarray(parents, jnp.int32),
        offset=jnp.asarray(offset),
        centre=jnp.asarray(centre),
        log_scale=jnp.asarray(log_scale),
        factor=jnp.asarray(factor),
        inverse_factor=jnp.asarray(np.linalg.inv(factor)),
        shift=jnp.asarray(rng.normal(size=dim)),
        width=jnp.asarray(np.exp(rng.normal(size=dim) / 3)),
        skew=jnp.asarray(rng.normal(size=dim) / 2),
        tail=jnp.asarray(np.exp(rng.normal(size=dim) / 3)),
        heaviness=jnp.asarray(np.maximum(rng.normal(size=dim), 0) / 5),
        mixed=jnp.asarray(mixed, jnp.int32),
        mixing=jnp.asarray(mixing),
        own_scale=jnp.asarray(bent * later.normal(size=(len(mixed), width)) / 10),
    )


def jump(spacing: float = 9.0, angle: float = 1.1) -> Callable:
    """Factory of jumps between three modes of different shapes, the first of them at 0, in a row
    along x0.
    """

    def build(dim, dtype):
        rng = np.random.default_rng(3)
        factor = np.tril(rng.normal(size=(3, dim, dim)) / 4, -1) + np.eye(dim) * np.exp(
            rng.normal(size=(3, dim, 1)) / 4
        )
        centre = np.array([0.0, spacing, -spacing])[:, None] * np.eye(dim)[0]
        arrays = (centre, factor, np.log([0.5, 0.2, 0.3]), angle)
        return ModeJump(*(jnp.asarray(array, dtype) for array in arrays))

    return build


class Case(NamedTuple):
    """One row of the table: a dynamics on a target. ``mild``: conditioning near 1, so absolute
    tolerances apply.
    """

    name: str
    target: Callable[[int, jnp.dtype], AbstractLogDensity]
    factory: Callable
    dim: int
    mild: bool = True
    context: int = 0

    def transition(self, dtype: str = "float64", chains: int = 32) -> Transition:
        """The kernel, with a context of one column per chain if the dynamics takes one."""
        dtype, context = jnp.dtype(dtype), None
        if self.context:
            context = jnp.asarray(
                np.random.default_rng(5).normal(size=(self.context, chains)), dtype
            )
        return Transition(self.target(self.dim, dtype), self.factory(self.dim, dtype), context)


def banana(dim, dtype):
    return Banana()


def funnel(dim, dtype):
    return Funnel()


def mog(dim, dtype):
    return Mixture2()


CASES = [
    Case("leapfrog-1", gaussian, leapfrog(1), dim=1),
    Case("leapfrog-2-banana", banana, leapfrog(5), dim=2),
    Case("leapfrog-10-funnel", funnel, leapfrog(10, 0.1), dim=10),
    Case("learned-1", gaussian, learned(5), dim=1),
    Case("learned-2-mog", mog, learned(5), dim=2),
    Case("learned-2-banana", banana, learned(1), dim=2),
    Case("learned-3-funnel", funnel, learned(5, 0.1), dim=3),
    Case("learned-10-gaussian", gaussian, learned(10, 0.1), dim=10),
    Case("learned-context", banana, learned(5, context=4), dim=2, context=4),
    Case("rotation-1", gaussian, rotation(1), dim=1),
    Case("rotation-3-banana", banana, rotation(3), dim=2),
    Case(
        "crank-nicolson", banana, lambda dim, dtype: CrankNicolson(jnp.asarray(1.1, dtype)), dim=2
    ),
    Case("mode-jump", gaussian, jump(), dim=2),
    Case("mode-jump-1", gaussian, jump(), dim=1),
    Case("learned-two-sizes", banana, learned(3, (0.4, 0.2)), dim=2),
    Case("learned-squashed", funnel, learned(2, 0.2, squashed=True), dim=3),
    Case("surrogate-2", gaussian, surrogate(2), dim=2),
    Case("learned-stiff", mog, learned(10, 0.3, heads=2.0), dim=2, mild=False),
    Case("learned-stiff-10", gaussian, learned(5, 0.3, heads=2.0), dim=10, mild=False),
]
