"""Stan models in: whatever has the methods of ``bridgestan.StanModel``."""

import json
import re
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import Key, Scalar
from ._model import Arrays, Model, ModelError

type Position = dict[str, Any]
type Layout = dict[str, np.ndarray]
"""For each variable the places of its elements in a flat vector."""

_LIKELIHOOD, _REPLICATED = "log_lik", "_rep"
"""Generated quantities that are groups of their own, by the names that Stan's users give them."""
_TRIES = 100
"""Stan tries as many random starting points for each chain."""


def from_stan(
    model: Any,
    *,
    curvature: bool | None = None,
    seed: int = 0,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> Model:
    """A compiled Stan model as a log density of Stan's unconstrained parameters.

    Stan's C++ is called on the host, once for all chains. A point that Stan rejects has the log
    density minus infinity. Transformed parameters and generated quantities come out with the
    parameters; ``log_lik`` is the log likelihood, and ``y_rep`` the posterior predictive of ``y``.

    Args:
        model: a ``bridgestan.StanModel``, or what has its methods.
        curvature: whether networks train with Stan's Hessian-vector products. Without them the
            force counts as constant in training: kernels are as exact, and worse. None: yes, where
            the model has them.
        seed: of starting points and of random generated quantities.
        dims: names of the axes of a variable, by its name.
        coords: labels along an axis, by its name.

    Returns:
        The model. It needs float64.

    Raises:
        ModelError: the model has no parameters, a variable is a tuple or complex, or no starting
            point has a finite log density.
    """
    if not all(map(partial(hasattr, model), ("log_density_gradient", "param_constrain"))):
        raise ModelError(
            f"model must have the methods of a bridgestan.StanModel, got {model!r:.80}; compile a "
            "Stan file with bridgestan.StanModel('model.stan', data='data.json')"
        )
    if not model.param_unc_num():
        raise ModelError(f"Stan model {model.name()!r} has no parameters, so nothing to draw")
    has_products = hasattr(model, "log_density_hessian_vector_product")
    if curvature and not has_products:
        raise ModelError(
            "curvature=True, but the model has no log_density_hessian_vector_product; leave it out"
        )
    host = _Host(model, has_products if curvature is None else curvature)
    stan = _Variables(model, host, seed)
    groups = _groups(stan.layout)
    data = _data(model)
    return Model(
        logdensity=stan.logdensity,
        init=stan.split(host.start(np.random.default_rng(seed), first=np.zeros(host.dim))),
        constrain=stan.constrain,
        dims=dims or {},
        coords=coords or {},
        observed_data={k: v for k, v in data.items() if k in groups},
        constant_data={k: v for k, v in data.items() if k not in groups},
        log_likelihood=stan.log_likelihood if stan.likelihoods else None,
        posterior_predictive=stan.posterior_predictive if stan.replicated else None,
        double=True,
        library=f"Stan ({model.name()})",
        starts=stan.starts,
    )


class _Host:
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


class _Variables:
    """Stan's variables by name, as functions of one position that JAX can trace.

    Args:
        model: the compiled model.
        host: its calls.
        seed: of random generated quantities.
    """

    def __init__(self, model: Any, host: _Host, seed: int):
        self.host, self.seed = host, seed
        self.names = model.param_names(include_tp=True, include_gq=True)
        self.layout = _layout(self.names)
        self.free = _layout(model.param_unc_names())
        order = np.concatenate([index.ravel() for index in self.free.values()])
        self.order = np.argsort(order)
        self.replicated = {k: k.removesuffix(_REPLICATED) for k in self.layout if _is_copy(k)}
        self.likelihoods = {k: _observation(k, self.replicated) for k in self.layout if _is_lik(k)}

    def split(self, flat: np.ndarray) -> Position:
        """A flat position by variable."""
        return {name: flat[index] for name, index in self.free.items()}

    def join(self, position: Position) -> jax.Array:
        """A position as a flat vector in Stan's order, which need not be JAX's."""
        parts = [jnp.ravel(jnp.asarray(position[name])) for name in self.free]
        return jnp.concatenate(parts)[self.order]

    def logdensity(self, position: Position) -> Scalar:
        """Log density of one position, Jacobians included."""
        return _both(self.host, self.join(position))[0]

    def constrain(self, position: Position) -> Arrays:
        """Parameters, transformed parameters and generated quantities but those with groups."""
        flat = self.join(position)
        every = self._values(jnp.zeros((), jnp.uint32), flat)
        kept = self.layout.keys() - self.replicated.keys() - self.likelihoods.keys()
        return {name: every[index] for name, index in self.layout.items() if name in kept}

    def log_likelihood(self, position: Position) -> Arrays:
        """``log_lik``, by the name of its data."""
        every = self._values(jnp.zeros((), jnp.uint32), self.join(position))
        return {data: every[self.layout[name]] for name, data in self.likelihoods.items()}

    def posterior_predictive(self, key: Key, position: Position) -> Arrays:
        """``y_rep``, by the name of its data."""
        every = self._values(jax.random.bits(key, (), jnp.uint32), self.join(position))
        return {data: every[self.layout[name]] for name, data in self.replicated.items()}

    def starts(self, key: Key, num: int) -> Position:
        """Starts of chains, with a leading axis; U(-2, 2) as Stan's, again where it rejects."""
        bits = np.asarray(jax.random.key_data(key)).tolist()
        rng = np.random.default_rng([self.seed, *bits])
        return jax.vmap(self.split)(np.stack([self.host.start(rng) for _ in range(num)]))

    def _values(self, salt: jax.Array, flat: jax.Array) -> jax.Array:
        form = jax.ShapeDtypeStruct((len(self.names),), flat.dtype)

        def values(salt: Any, flat: Any) -> np.ndarray:
            # A function of its arguments, with other random numbers at each position.
            position = np.asarray(flat)
            numbers = np.uint32([self.seed & 0xFFFFFFFF, np.asarray(salt)]).tobytes()
            seed = zlib.crc32(numbers + position.tobytes())
            return np.asarray(self.host.values(seed, position, len(self.names)), flat.dtype)

        return jax.pure_callback(values, form, salt, flat, vmap_method="sequential")


def _value_and_grad(host: _Host, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log density and gradient of one position, which Stan gives together."""
    dtype = position.dtype
    form = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct(position.shape, dtype)

    def call(position: Any) -> tuple[np.ndarray, ...]:
        return tuple(x.astype(dtype) for x in host.value_and_grad(position))

    return jax.pure_callback(call, form, position, vmap_method="broadcast_all")


_both = jax.custom_vjp(_value_and_grad, nondiff_argnums=(0,))


def _forward(host: _Host, position: Any) -> tuple:
    # `_both` and not the callback: training differentiates what is kept here once more.
    value, grad = _both(host, position.value)
    return (value, grad), (position.value, grad)


def _backward(host: _Host, kept: tuple, cotangents: tuple) -> tuple[jax.Array]:
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

    product = jax.pure_callback(call, form, position, of_grad, vmap_method="broadcast_all")
    return (out + product,)


_both.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_zero(cotangent: Any) -> bool:
    return isinstance(cotangent, jax.custom_derivatives.SymbolicZero)


def _layout(names: Sequence[str]) -> Layout:
    """Where each variable's elements are: names hold indices, ``theta.1.2``, and say the order.

    Raises:
        ModelError: a variable is a tuple or complex.
    """
    found: dict[str, dict[tuple[int, ...], int]] = {}
    for place, name in enumerate(names):
        if not re.fullmatch(r"\w+(\.\d+)*", name):
            base = re.split(r"[.:]", name)[0]
            raise ModelError(
                f"variable {base!r} of the Stan model is a tuple or complex (it has an element "
                f"{name!r}); declare real variables instead"
            )
        base, *index = name.split(".")
        found.setdefault(base, {})[tuple(int(i) - 1 for i in index)] = place
    layout = {}
    for base, places in found.items():
        array = np.empty([max(axis) + 1 for axis in zip(*places, strict=True)], int)
        for index, place in places.items():
            array[index] = place
        layout[base] = array
    return layout


def _is_copy(name: str) -> bool:
    return name.endswith(_REPLICATED) and name != _REPLICATED


def _is_lik(name: str) -> bool:
    return name == _LIKELIHOOD or name.startswith(f"{_LIKELIHOOD}_")


def _observation(name: str, replicated: Mapping[str, str]) -> str:
    """The data that a log likelihood is of: ``log_lik_y`` says it, ``log_lik`` goes by ``y_rep``."""
    if name != _LIKELIHOOD:
        return name.removeprefix(f"{_LIKELIHOOD}_")
    return next(iter(replicated.values())) if len(replicated) == 1 else "y"


def _groups(layout: Layout) -> set[str]:
    """Names of data that are observed, as far as generated quantities tell."""
    replicated = {k: k.removesuffix(_REPLICATED) for k in layout if _is_copy(k)}
    return {*replicated.values(), *(_observation(k, replicated) for k in layout if _is_lik(k))}


def _data(model: Any) -> dict[str, np.ndarray]:
    """Data of a BridgeStan model, which keeps them as JSON; empty where they are not to be had."""
    text = getattr(model, "data", "")
    try:
        read: Callable[[Any], Any] = json.loads
        data = read(text) if isinstance(text, str) and text else {}
        arrays = {name: np.asarray(values) for name, values in data.items()}
    except (ValueError, AttributeError):
        return {}
    return {name: values for name, values in arrays.items() if values.dtype.kind in "iufb"}
