"""Calls of a Stan model's C++ on the host, and its log density as a function that JAX knows."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._model import ModelError
from ._host_calls import host_call

_TRIES = 100
"""Stan tries as many random starting points for each chain."""


class StanHost:
    """Calls of Stan's C++ for positions with leading axes, one position after the other.

    Args:
        model: the compiled model.
        has_products: whether Hessian-vector products are made.
    """

    def __init__(self, model: Any, has_products: bool):
        self.model, self.has_products = model, has_products
        self.dim = int(model.param_unc_num())
        self.lock = threading.Lock()  # XLA may run callbacks side by side, and Stan has one tape

    def value_and_grad(self, position: Any) -> tuple[np.ndarray, np.ndarray]:
        """Log densities and gradients; minus infinity and zero where Stan rejects."""
        position = np.asarray(position)
        rows = np.ascontiguousarray(position.reshape(-1, self.dim), np.float64)
        values, grads = np.full(len(rows), -np.inf), np.zeros(rows.shape)
        with self.lock:
            for i, row in enumerate(rows):
                try:
                    values[i], grads[i] = self.model.log_density_gradient(row)
                except RuntimeError:  # reject(), a failed Cholesky: outside the support
                    continue
        return values.reshape(position.shape[:-1]), grads.reshape(position.shape)

    def products(self, position: Any, vector: Any) -> np.ndarray:
        """Hessian-vector products; NaN where Stan rejects."""
        shape = np.shape(position)
        rows, ways = (
            np.ascontiguousarray(np.reshape(x, (-1, self.dim)), np.float64)
            for x in (position, vector)
        )
        out = np.full(rows.shape, np.nan)
        with self.lock:
            for i, (row, way) in enumerate(zip(rows, ways, strict=True)):
                if not way.any():  # Stan's finite differences divide by its length
                    out[i] = 0
                    continue
                try:
                    out[i] = self.model.log_density_hessian_vector_product(row, way)[1]
                except RuntimeError:
                    continue
        return out.reshape(shape)

    def values(self, seed: int, position: np.ndarray, size: int) -> np.ndarray:
        """Parameters, transformed parameters and generated quantities of one position."""
        position = np.ascontiguousarray(position, np.float64)
        with self.lock:
            try:
                return self.model.param_constrain(
                    position, include_tp=True, include_gq=True, rng=self.model.new_rng(seed)
                )
            except RuntimeError:  # a generated quantity that cannot be computed here
                return np.full(size, np.nan)

    def start(self, rng: np.random.Generator, first: np.ndarray | None = None) -> np.ndarray:
        """A position with a finite log density: ``first``, or drawn from U(-2, 2) as Stan does.

        Raises:
            ModelError: there was none.
        """
        position = rng.uniform(-2, 2, self.dim) if first is None else first
        for _ in range(_TRIES):
            value, grad = self.value_and_grad(position)
            if np.isfinite(value) and np.isfinite(grad).all():
                return position
            position = rng.uniform(-2, 2, self.dim)
        try:
            self.model.log_density_gradient(position)
            why = f"it is {float(value)}"
        except RuntimeError as error:
            why = str(error).strip()
        raise ModelError(
            f"Stan model {self.model.name()!r} has no finite log density at {_TRIES} points of "
            f"U(-2, 2), at the last: {why}"
        )


def _value_and_grad(host: StanHost, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log density and gradient of one position, which Stan gives together."""
    dtype = position.dtype
    form = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct(position.shape, dtype)

    def call(position: Any) -> tuple[np.ndarray, ...]:
        return tuple(x.astype(dtype) for x in host.value_and_grad(position))

    return host_call(call, form, position, vmap_method="broadcast_all")


value_and_grad = jax.custom_vjp(_value_and_grad, nondiff_argnums=(0,))


def _forward(host: StanHost, position: Any) -> tuple:
    # `value_and_grad` and not the callback: training differentiates what is kept here once more.
    value, grad = value_and_grad(host, position.value)
    return (value, grad), (position.value, grad)


def _backward(host: StanHost, kept: tuple, cotangents: tuple) -> tuple[jax.Array]:
    position, grad = kept
    of_value, of_grad = cotangents
    out = jnp.zeros_like(position) if _is_zero(of_value) else of_value * grad
    if _is_zero(of_grad):  # a first derivative alone costs no product
        return (out,)
    if not host.has_products:
        raise TypeError("this Stan model gives no second derivatives")
    form = jax.ShapeDtypeStruct(position.shape, position.dtype)

    def call(position: Any, vector: Any) -> np.ndarray:
        return host.products(position, vector).astype(form.dtype)

    product = host_call(call, form, position, of_grad, vmap_method="broadcast_all")
    return (out + product,)


value_and_grad.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_zero(cotangent: Any) -> bool:
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
