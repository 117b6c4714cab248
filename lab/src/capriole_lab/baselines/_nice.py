"""A-NICE-MC's proposal (Song, Zhao and Ermon 2017): additive couplings, volume preserving."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capriole.kernels import (
    AbstractDynamics,
    AbstractLogDensity,
    Flag,
    Key,
    Phase,
    Scalar,
    Vector,
    affine,
    linear,
    value_and_grad,
)


class Dense(eqx.Module):
    """A multilayer perceptron on columns; ``slope`` is that of the hidden units below zero (0:
    ReLU).

    Weights start uniform in +-sqrt(6 / (fan-in + fan-out)), biases at zero.
    """

    weights: tuple[Float[Array, "out inp"], ...]
    biases: tuple[Float[Array, " out"], ...]
    slope: float = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        sizes: tuple[int, ...],
        *,
        slope: float = 0.0,
        dtype: jnp.dtype | None = None,
    ):
        dtype = jnp.dtype(dtype or jax.dtypes.canonicalize_dtype(float))
        keys = jax.random.split(key, len(sizes) - 1)
        self.weights = tuple(
            jax.random.uniform(k, (out, inp), dtype, -1, 1)
            * jnp.asarray(6 / (inp + out), dtype) ** 0.5
            for k, inp, out in zip(keys, sizes[:-1], sizes[1:], strict=True)
        )
        self.biases = tuple(jnp.zeros(out, dtype) for out in sizes[1:])
        self.slope = slope

    def __call__(self, x: Float[Array, "inp *chains"]) -> Float[Array, "out *chains"]:
        """Output of the last, linear layer."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = linear(weight, bias, x)
            x = jnp.where(x > 0, x, self.slope * x)
        return linear(self.weights[-1], self.biases[-1], x)


class Nice(AbstractDynamics):
    """Three additive couplings, each through `affine` with log-scale 0, so log-det 0::

        v <- v + first(x);   x <- x + second(v);   v <- v + third(x)

    With `Transition` it is A-NICE-MC's kernel: forward or backward with probability 1/2 per chain,
    then Metropolis-Hastings. The map itself needs no gradient; the one evaluation counted is that
    of density and gradient at the end, which every `State` carries so that kernels can be mixed. A
    density alone would do.
    """

    first: Dense
    second: Dense
    third: Dense

    def couple(self, position: Vector, momentum: Vector, forward: Flag) -> tuple[Vector, Vector]:
        """The map alone; backwards, the third coupling is undone first."""

        def kick(v: Vector, x: Vector, early: Dense, late: Dense) -> Vector:
            shift = jnp.where(forward, early(x), late(x))
            return affine(v, jnp.zeros_like(v), shift, forward)[0]

        momentum = kick(momentum, position, self.first, self.third)
        position = affine(position, jnp.zeros_like(position), self.second(momentum), forward)[0]
        return position, kick(momentum, position, self.third, self.first)

    def __call__(
        self,
        logdensity: AbstractLogDensity,
        phase: Phase,
        forward: Flag,
        context: Vector | None = None,
    ) -> tuple[Phase, Scalar]:
        """Image of ``phase`` and log-det 0."""
        position, momentum = self.couple(phase.position, phase.momentum, forward)
        value, grad = value_and_grad(logdensity, position)
        return Phase(position, momentum, value, grad), jnp.zeros_like(value)

    @property
    def num_gradients(self) -> int:
        """One evaluation, at the end."""
        return 1


def nice(key: Key, *, dim: int, width: int = 400, dtype: jnp.dtype | None = None) -> Nice:
    """An untrained proposal with the paper's nets: one hidden layer of ``width`` units each."""
    sizes = (dim, width, dim)
    return Nice(*(Dense(k, sizes, dtype=dtype) for k in jax.random.split(key, 3)))
