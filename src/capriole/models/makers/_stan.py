"""Stan models in: whatever has the methods of ``bridgestan.StanModel``."""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Key, Scalar
from .._model import Arrays, Model, ModelError
from ._host_calls import host_call
from ._stan_host import StanHost, value_and_grad

type Position = dict[str, Any]
type Layout = dict[str, np.ndarray]
"""For each variable the places of its elements in a flat vector."""

_LIKELIHOOD, _REPLICATED = "log_lik", "_rep"
"""Generated quantities that are groups of their own, by the names that Stan's users give them."""


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
    host = StanHost(model, has_products if curvature is None else curvature)
    stan = _Variables(model, host, seed)
    data = _data(model)
    observed = {*stan.likelihoods.values(), *stan.replicated.values()}
    return Model(
        logdensity=stan.logdensity,
        init=stan.split(host.start(np.random.default_rng(seed), first=np.zeros(host.dim))),
        constrain=stan.constrain,
        dims=dims or {},
        coords=coords or {},
        observed_data={k: v for k, v in data.items() if k in observed},
        constant_data={k: v for k, v in data.items() if k not in observed},
        log_likelihood=stan.log_likelihood if stan.likelihoods else None,
        posterior_predictive=stan.posterior_predictive if stan.replicated else None,
        double=True,
        library=f"Stan ({model.name()})",
        starts=stan.starts,
    )


class _Variables:
    """Stan's variables by name, as functions of one position that JAX can trace.

    Args:
        model: the compiled model.
        host: its calls.
        seed: of random generated quantities.
    """

    def __init__(self, model: Any, host: StanHost, seed: int):
        self.host, self.seed = host, seed
        self.names = model.param_names(include_tp=True, include_gq=True)
        self.layout = _layout(self.names)
        self.free = _free_layout(model.param_unc_names())
        self.replicated = {k: k.removesuffix(_REPLICATED) for k in self.layout if _is_copy(k)}
        self.likelihoods = {k: _observation(k, self.replicated) for k in self.layout if _is_lik(k)}

    def split(self, flat: np.ndarray) -> Position:
        """A flat position by variable."""
        return {name: flat[index] for name, index in self.free.items()}

    def join(self, position: Position) -> jax.Array:
        """A position as a flat vector in Stan's order, which need not be JAX's."""
        return jnp.concatenate([jnp.ravel(jnp.asarray(position[name])) for name in self.free])

    def logdensity(self, position: Position) -> Scalar:
        """Log density of one position, Jacobians included."""
        return value_and_grad(self.host, self.join(position))[0]

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
            numbers = np.array([self.seed & 0xFFFFFFFF, int(salt)], np.uint32).tobytes()
            seed = zlib.crc32(numbers + position.tobytes())
            return np.asarray(self.host.values(seed, position, len(self.names)), flat.dtype)

        return host_call(values, form, salt, flat, vmap_method="sequential")


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
        for indices, place in places.items():
            array[indices] = place
        layout[base] = array
    return layout


def _free_layout(names: Sequence[str]) -> Layout:
    """Where each variable's unconstrained numbers are: a vector for what is no scalar.

    Their indices are not used: for arrays of two and more axes Stan 2.39 names them in another
    order than it reads them.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(re.split(r"[.:]", name)[0], []).append(place)
    scalars = set(names)
    return {k: np.array(v[0] if k in scalars else v) for k, v in places.items()}


def _is_copy(name: str) -> bool:
    return name.endswith(_REPLICATED) and name != _REPLICATED


def _is_lik(name: str) -> bool:
    return name == _LIKELIHOOD or name.startswith(f"{_LIKELIHOOD}_")


def _observation(name: str, replicated: Mapping[str, str]) -> str:
    """Data that a log likelihood is of: ``y`` of ``log_lik_y``, or ``log_lik`` beside ``y_rep``."""
    if name != _LIKELIHOOD:
        return name.removeprefix(f"{_LIKELIHOOD}_")
    return next(iter(replicated.values())) if len(replicated) == 1 else "y"


def _data(model: Any) -> dict[str, np.ndarray]:
    """Data of a BridgeStan model, which keeps them as JSON; empty where they are not to be had."""
    text = getattr(model, "data", "")
    try:
        data = json.loads(text) if isinstance(text, str) and text else {}
    except ValueError:
        return {}
    found = {}
    for name, values in data.items():
        try:
            array = np.asarray(values)
        except ValueError:  # ragged: no array of ArviZ's
            continue
        if array.dtype.kind in "iufb":
            found[name] = array
    return found
