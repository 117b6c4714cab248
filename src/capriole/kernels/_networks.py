"""The networks that return S, Q and T of the learned leapfrog (Levy et al. 2018, Appendix A)."""

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
"""Checkpoint name of the outputs of linear layers.

Training keeps these for its backward pass and recomputes the rest.
"""


class SQT(NamedTuple):
    """What a network returns for one sub-update, each of shape ``(dim, *chains)``.

    Attributes:
        log_scale: S, log-scale of what changes.
        log_rescaling: Q, log-rescaling of the force or velocity.
        shift: T, shift.
    """

    log_scale: Vector
    log_rescaling: Vector
    shift: Vector


class AbstractNetwork(eqx.Module):
    """A function of two vectors, a time and an optional context that returns S, Q and T.

    It must treat chains independently (no batch norm, no dropout), or the kernel is not reversible.
    """

    @abstractmethod
    def embed(self, context: Vector | None) -> Vector | None:
        """Turn the raw context into features, once per trajectory.

        Args:
            context: shape ``(context_dim, *chains)``, or None.

        Returns:
            Features of shape ``(features, *chains)``; None without a context.
        """

    @abstractmethod
    def __call__(
        self, first: Vector, second: Vector, time: Float[Array, "2 *chains"], context: Vector | None
    ) -> SQT:
        """S, Q and T for one sub-update.

        Args:
            first: x for kicks, v for drifts; shape ``(dim, *chains)``.
            second: the gradient for kicks, the half of x that stays for drifts; shape ``(dim,
                *chains)``.
            time: ``(cos 2 pi t / M, sin 2 pi t / M)``, shape ``(2, *chains)``.
            context: result of `embed`.
        """


def column(
    vector: Shaped[Array | np.ndarray, " n"], like: Shaped[Array | np.ndarray, "..."]
) -> Any:
    """A per-feature vector, shaped to broadcast over chains.

    Args:
        vector: shape ``(n,)``.
        like: array of shape ``(n, *chains)`` to broadcast against.

    Returns:
        The vector, of shape ``(n,)`` for one chain and ``(n, 1)`` for many.
    """
    return vector.reshape(vector.shape + (1,) * (like.ndim - 1))


@jax.custom_vjp
def _back(weight: Array, grad: Array) -> Array:
    """``weight.T @ grad`` with a copy of the transposed weight, which is faster (see `linear`)."""
    return jax.lax.optimization_barrier(weight.T) @ grad


def _back_forward(weight: Array, grad: Array) -> tuple[Array, tuple[Array, Array]]:
    """Forward pass of `_back`."""
    return _back(weight, grad), (weight, grad)


def _back_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """Backward pass of `_back`, by plain matrix products."""
    weight, grad = residual
    by_weight = jnp.outer(grad, cotangent) if grad.ndim == 1 else grad @ cotangent.T
    return by_weight, weight @ cotangent


_back.defvjp(_back_forward, _back_backward)


@jax.custom_vjp
def _linear(weight: Array, bias: Array, x: Array) -> Array:
    """``weight @ x + bias``."""
    return weight @ x + column(bias, x)


def _linear_forward(weight: Array, bias: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Forward pass of `_linear`."""
    return _linear(weight, bias, x), (weight, x)


def _linear_backward(residual: tuple[Array, Array], grad: Array) -> tuple[Array, Array, Array]:
    """Backward pass of `_linear`: gradients of weight, bias and input."""
    weight, x = residual
    if x.ndim == 1:
        return jnp.outer(grad, x), grad, _back(weight, grad)
    both = grad @ jnp.concatenate([x, jnp.ones_like(x[:1])]).T
    # Named as well: if the log density is a network, its gradient belongs to the trajectory.
    back = checkpoint_name(_back(weight, grad), LINEAR)
    return both[:, :-1], both[:, -1], back


_linear.defvjp(_linear_forward, _linear_backward)


def linear(weight: Float[Array, "out inp"], bias: Float[Array, " out"], x: Vector) -> Vector:
    """``weight @ x + bias``, with a backward pass made of plain matrix products.

    The gradients are those of autodiff. On CPUs training is 1.5 to 2 times faster: XLA multiplies
    by a transposed small matrix 5 times slower than by a copy of it, and sums bias gradients over
    chains in many small steps. The output has the checkpoint name `LINEAR`.

    Args:
        weight: shape ``(out, inp)``.
        bias: shape ``(out,)``.
        x: shape ``(inp, *chains)``.

    Returns:
        Shape ``(out, *chains)``.
    """
    return checkpoint_name(_linear(weight, bias, x), LINEAR)


def _uniform(
    key: Key, shape: tuple[int, int], fan_in: int, scale: float, dtype: jnp.dtype
) -> Array:
    """Uniform weights with standard deviation ``scale / sqrt(fan_in)``."""
    return (
        scale * jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(3 / fan_in, dtype) ** 0.5
    )


class MLP(AbstractNetwork):
    """The network of the paper, with concatenated inputs and its three heads in one matrix::

        h1 = relu(W1 first + W2 second + W3 time + W5 context + b1)
        h2 = relu(W4 h1 + b4)
        S = exp(c_s) tanh(W_s h2 + b_s),  Q = exp(c_q) tanh(W_q h2 + b_q),  T = W_t h2 + b_t

    Weights start uniform with variance 1 / fan-in. Small heads make the kernel start near HMC.

    Args:
        key: random key of the weights.
        dim: length of both input vectors and of S, Q and T.
        width: hidden units per layer.
        context_dim: number of context features; 0 for none.
        second_scale: factor of the initial W2; the paper's position network has 2.
        head_scale: factor of the initial heads.
        dtype: floating type of all parameters.

    Attributes:
        inputs: W1, W2, W3 and W5 side by side.
        inputs_bias: b1.
        hidden: W4.
        hidden_bias: b4.
        heads: W_s, W_q and W_t one below the other.
        heads_bias: b_s, b_q and b_t.
        log_bound: c_s and c_q, one entry per output.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, Appendix A.
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
        """The context itself: its weights W5 belong to the first layer."""
        return context

    def __call__(
        self,
        first: Vector,
        second: Vector,
        time: Float[Array, "2 *chains"],
        context: Vector | None = None,
    ) -> SQT:
        """S, Q and T, each of shape ``(dim, *chains)``."""
        features = [first, second, time] + ([] if context is None else [context])
        return self.upper(linear(self.inputs, self.inputs_bias, jnp.concatenate(features)))

    def upper(self, first_layer: Vector) -> SQT:
        """S, Q and T from the first layer, for networks that compute this layer themselves.

        Args:
            first_layer: output of the first layer before its relu, shape ``(width, *chains)``.
        """
        dim = self.heads_bias.shape[0] // 3
        h = jax.nn.relu(linear(self.hidden, self.hidden_bias, jax.nn.relu(first_layer)))
        out = linear(self.heads, self.heads_bias, h)
        bounded = column(jnp.exp(self.log_bound), out) * jnp.tanh(out[: 2 * dim])
        return SQT(bounded[:dim], bounded[dim:], out[2 * dim :])


class Squashed(AbstractNetwork):
    """A network that sees ``arcsinh`` of its two vectors.

    ``arcsinh`` is linear near 0 and logarithmic far out. Inputs with scales far from 1 (tails,
    funnels, steep gradients) then neither saturate the network nor make it overflow.

    Attributes:
        network: the inner network.
    """

    network: AbstractNetwork

    def embed(self, context: Vector | None) -> Vector | None:
        """Features of the inner network."""
        return self.network.embed(context)

    def __call__(
        self,
        first: Vector,
        second: Vector,
        time: Float[Array, "2 *chains"],
        context: Vector | None = None,
    ) -> SQT:
        """S, Q and T of the inner network at the squashed vectors."""
        return self.network(jnp.arcsinh(first), jnp.arcsinh(second), time, context)
