"""The S, Q, T networks of the learned leapfrog (paper, Appendix A)."""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Shaped

from ._types import Key, Vector

LINEAR = "linear"
"""Name of the values that training keeps for its backward pass: outputs of the linear layers (see
`linear`).
"""


class SQT(NamedTuple):
    """Log-scale S, log-rescaling Q of the force or velocity, and shift T, each of shape ``(dim,
    *chains)``.
    """

    log_scale: Vector
    log_rescaling: Vector
    shift: Vector


class AbstractNetwork(eqx.Module):
    """Anything that maps two vectors, a time feature and an optional context to S, Q and T.

    ``embed`` turns the raw context into the features that ``__call__`` receives; it runs once per
    trajectory, ahead of the loop over steps. The network must treat chains independently (no batch
    norm, no dropout): else the kernel is not reversible.
    """

    @abstractmethod
    def embed(self, context: Vector | None) -> Vector | None:
        """Context features of shape ``(features, *chains)``; None without a context."""

    @abstractmethod
    def __call__(
        self, first: Vector, second: Vector, time: Float[Array, "2 *chains"], context: Vector | None
    ) -> SQT:
        """S, Q and T for one sub-update; ``time`` is ``(cos 2 pi t / M, sin 2 pi t / M)``."""


def column(
    vector: Shaped[Array | np.ndarray, " n"], like: Shaped[Array | np.ndarray, "..."]
) -> Any:
    """A per-feature vector shaped to broadcast against ``like``: ``(n,)`` for one chain, ``(n, 1)``
    for many.
    """
    return vector.reshape(vector.shape + (1,) * (like.ndim - 1))


@jax.custom_vjp
def _back(weight: Array, grad: Array) -> Array:
    """``weight.T @ grad`` by a copy of the transposed weight; its derivative by ``grad`` needs none
    (`linear`).
    """
    return jax.lax.optimization_barrier(weight.T) @ grad


def _back_forward(weight: Array, grad: Array) -> tuple[Array, tuple[Array, Array]]:
    return _back(weight, grad), (weight, grad)


def _back_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    weight, grad = residual
    by_weight = jnp.outer(grad, cotangent) if grad.ndim == 1 else grad @ cotangent.T
    return by_weight, weight @ cotangent


_back.defvjp(_back_forward, _back_backward)


@jax.custom_vjp
def _linear(weight: Array, bias: Array, x: Array) -> Array:
    return weight @ x + column(bias, x)


def _linear_forward(weight: Array, bias: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return _linear(weight, bias, x), (weight, x)


def _linear_backward(residual: tuple[Array, Array], grad: Array) -> tuple[Array, Array, Array]:
    weight, x = residual
    if x.ndim == 1:
        return jnp.outer(grad, x), grad, _back(weight, grad)
    both = grad @ jnp.concatenate([x, jnp.ones_like(x[:1])]).T
    # Named too: where a log density is a network, its gradient is part of the trajectory that
    # training keeps.
    back = checkpoint_name(_back(weight, grad), LINEAR)
    return both[:, :-1], both[:, -1], back


_linear.defvjp(_linear_forward, _linear_backward)


def linear(weight: Float[Array, "out inp"], bias: Float[Array, " out"], x: Vector) -> Vector:
    """``weight @ x + bias``, with a backward pass of plain matrix products.

    Same mathematics as autodiff's, 1.5 to 2 times the training speed on CPUs: XLA multiplies by a
    transposed small matrix 5 times slower than by a copy of it, and sums bias gradients over chains
    in many small steps. The output carries the name `LINEAR`, so that training can keep these
    values and recompute the rest.
    """
    return checkpoint_name(_linear(weight, bias, x), LINEAR)


def _uniform(
    key: Key, shape: tuple[int, int], fan_in: int, scale: float, dtype: jnp.dtype
) -> Array:
    return (
        scale * jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(3 / fan_in, dtype) ** 0.5
    )


class MLP(AbstractNetwork):
    """The network of the paper, on concatenated inputs and with its three heads in one matrix::

        h1 = relu(W1 first + W2 second + W3 time + W5 context + b1)
        h2 = relu(W4 h1 + b4)
        S = exp(c_s) tanh(W_s h2 + b_s),  Q = exp(c_q) tanh(W_q h2 + b_q),  T = W_t h2 + b_t

    Weights start uniform with variance 1 / fan-in, the W2 branch ``second_scale`` times as large,
    the heads 0.01 times: the kernel starts near plain HMC. Source: Levy et al. 2018, Appendix A.
    """

    inputs: Float[Array, "hidden features"]
    inputs_bias: Float[Array, " hidden"]
    hidden: Float[Array, "hidden hidden"]
    hidden_bias: Float[Array, " hidden"]
    heads: Float[Array, "outputs hidden"]
    heads_bias: Float[Array, " outputs"]
    log_bound: Float[Array, " bounded"]

    def __init__(
        self,
        key: Key,
        *,
        dim: int,
        width: int,
        context_dim: int = 0,
        second_scale: float = 1.0,
        head_scale: float = 0.01,
        dtype: Any = jnp.float32,
    ):
        keys = jax.random.split(key, 6)
        widths = ((dim, 1.0), (dim, second_scale), (2, 1.0), (context_dim, 1.0))
        branches = [
            _uniform(k, (width, size), max(size, 1), scale, dtype)
            for k, (size, scale) in zip(keys[:4], widths, strict=True)
        ]
        self.inputs = jnp.concatenate(branches, axis=1)
        self.inputs_bias = jnp.zeros(width, dtype)
        self.hidden = _uniform(keys[4], (width, width), width, 1.0, dtype)
        self.hidden_bias = jnp.zeros(width, dtype)
        self.heads = _uniform(keys[5], (3 * dim, width), width, head_scale, dtype)
        self.heads_bias = jnp.zeros(3 * dim, dtype)
        self.log_bound = jnp.zeros(2 * dim, dtype)

    def embed(self, context: Vector | None) -> Vector | None:
        """The context itself: its weights W5 are part of the first layer."""
        return context

    def __call__(
        self,
        first: Vector,
        second: Vector,
        time: Float[Array, "2 *chains"],
        context: Vector | None = None,
    ) -> SQT:
        """S, Q, T of shape ``(dim, *chains)`` each."""
        features = [first, second, time] + ([] if context is None else [context])
        return self.upper(linear(self.inputs, self.inputs_bias, jnp.concatenate(features)))

    def upper(self, first_layer: Vector) -> SQT:
        """S, Q, T from the first layer's output ahead of its relu, shape ``(hidden, *chains)``."""
        dim = self.heads_bias.shape[0] // 3
        h = jax.nn.relu(linear(self.hidden, self.hidden_bias, jax.nn.relu(first_layer)))
        out = linear(self.heads, self.heads_bias, h)
        bounded = column(jnp.exp(self.log_bound), out) * jnp.tanh(out[: 2 * dim])
        return SQT(bounded[:dim], bounded[dim:], out[2 * dim :])


class Squashed(AbstractNetwork):
    """A network that sees ``arcsinh`` of its two vectors: linear near 0, logarithmic far out, so
    that scales far from 1 (tails, funnels, steep gradients) neither saturate nor blow it up.
    """

    network: AbstractNetwork

    def embed(self, context: Vector | None) -> Vector | None:
        """The inner network's features."""
        return self.network.embed(context)

    def __call__(
        self,
        first: Vector,
        second: Vector,
        time: Float[Array, "2 *chains"],
        context: Vector | None = None,
    ) -> SQT:
        """S, Q, T of the inner network at the squashed vectors."""
        return self.network(jnp.arcsinh(first), jnp.arcsinh(second), time, context)
