"""The functions of a NumPyro model: log density, values, likelihoods, new data."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Key, Scalar
from .._model import Model, ModelError
from ._numpyro_sites import (
    Trace,
    axis_names,
    check_sites,
    deterministic_sites,
    discrete_sites,
    factor_sites,
    latent_sites,
    observed_sites,
)

type Values = dict[str, Any]
type Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_DISCRETE_TRIALS = 8
"""Draws of discrete sites, to see which deterministic values depend on them."""


class Bound(eqx.Module):
    """A function of arguments and more, with the arguments given; arrays among them are leaves."""

    function: Callable = eqx.field(static=True)
    arguments: Any

    def __call__(self, *rest: Any) -> Any:
        """The function's value."""
        return self.function(self.arguments, *rest)


class Program:
    """The functions of a NumPyro model, of its arguments and one unconstrained position."""

    def __init__(
        self,
        model: Callable,
        arguments: Arguments,
        init_strategy: Callable | None,
        seed: int,
        dims: Mapping[str, Sequence[str]],
        coords: Mapping[str, Sequence[Any]],
    ):
        self.model, self.init_strategy, self.seed = model, init_strategy, seed
        self.given, self.dims_given, self.coords = arguments, dims, coords
        self.key = jax.random.key(seed)
        trace = self._trace(arguments)
        self.notes = check_sites(trace)
        self.latent, self.discrete = latent_sites(trace), discrete_sites(trace)
        self.data, self.factors = observed_sites(trace), factor_sites(trace)
        self.dims = axis_names(trace, dims)
        self.held = {n: s["value"] for n, s in trace.items() if s["type"] == "param"}
        self.init, self.potential = self._initialize(arguments)
        self.kept = set(self.latent) | self._known(trace, arguments)
        self.values = {n.replace("/", "."): np.asarray(trace[n]["value"]) for n in self.data}
        self.signature = _signature(arguments)

    def _trace(self, arguments: Arguments) -> Trace:
        """One run of the model, with values where a distribution cannot be drawn from, too."""
        from numpyro import handlers
        from numpyro.infer import init_to_uniform

        # Improper priors have no sample method, and heavy tails draw infinities.
        seeded = handlers.seed(self.model, self.key)
        run = handlers.substitute(seeded, substitute_fn=init_to_uniform)
        args, kwargs = arguments
        return handlers.trace(run).get_trace(*args, **kwargs)

    def _initialize(self, arguments: Arguments) -> tuple[Values, Callable]:
        """One unconstrained position, and the potential of NumPyro as a function of arguments."""
        found = self._found(self.key, arguments)
        return jax.tree.map(np.asarray, found.param_info.z), found.potential_fn

    def _found(self, key: Key, arguments: Arguments) -> Any:
        from numpyro.infer import init_to_uniform
        from numpyro.infer.util import initialize_model

        args, kwargs = arguments
        with warnings.catch_warnings():
            # Notes of the model say so.
            warnings.filterwarnings("ignore", "Some algorithms will automatically", FutureWarning)
            warnings.filterwarnings("ignore", "Continuous inference poorly", UserWarning)
            try:
                return initialize_model(
                    key,
                    self.model,
                    init_strategy=self.init_strategy or init_to_uniform,
                    dynamic_args=True,
                    model_args=args,
                    model_kwargs=kwargs,
                )
            except RuntimeError as error:
                if "valid initial" not in str(error):
                    raise
                raise ModelError(
                    "NumPyro finds no place where log density and gradient are finite; pass "
                    "init_strategy=numpyro.infer.init_to_value(values={...}) with such a place, "
                    "or look for a site whose support does not hold the data"
                ) from error

    def _known(self, trace: Trace, arguments: Arguments) -> set[str]:
        """Deterministic sites that no discrete site, which is summed out, has a part in."""
        names = set(deterministic_sites(trace))
        if not self.discrete:
            return names
        runs = [
            self._replay(arguments, self.init, jax.random.fold_in(self.key, i))
            for i in range(_DISCRETE_TRIALS)
        ]
        return {n for n in names if all(np.array_equal(runs[0][n], run[n]) for run in runs)}

    def logdensity(self, arguments: Arguments, z: Values) -> Scalar:
        """Log density of one unconstrained position."""
        args, kwargs = arguments
        return -self.potential(*args, **kwargs)(z)

    def constrain(self, arguments: Arguments, z: Values) -> Values:
        """Latent and deterministic sites at one unconstrained position."""
        values = self._replay(arguments, z, self.key)
        return {n.replace("/", "."): v for n, v in values.items() if n in self.kept}

    def _replay(self, arguments: Arguments, z: Values, key: Key) -> Values:
        """Every site at one position.

        The model is run again at each: what `initialize_model` offers instead takes a support
        behind ``to_event`` for constant, though it depends on another site.
        """
        from numpyro.infer.util import constrain_fn

        args, kwargs = arguments
        model = self._runnable(_with_constant_keys(self.model), key)
        return constrain_fn(model, args, kwargs, z, return_deterministic=True)

    def _runnable(self, model: Callable, key: Key, values: Values | None = None) -> Callable:
        """A model that draws what has no value, with parameters held as the density has them."""
        from numpyro import handlers

        return handlers.seed(handlers.substitute(model, data=self.held | (values or {})), key)

    def _sites(self, arguments: Arguments, z: Values) -> Values:
        values = self._replay(arguments, z, self.key)
        return {name: values[name] for name in self.latent}

    def log_likelihood(self, arguments: Arguments, z: Values) -> Values:
        """Log likelihood of each observation at one unconstrained position."""
        from numpyro import handlers

        args, kwargs = arguments
        model = _with_constant_keys(self.model)
        run = self._runnable(model, self.key, self._sites(arguments, z))
        trace = handlers.trace(run).get_trace(*args, **kwargs)
        sites = {name: trace[name] for name in self.data}
        return {n.replace("/", "."): s["fn"].log_prob(s["value"]) for n, s in sites.items()}

    def predictive(self, arguments: Arguments, key: Key, z: Values) -> Values:
        """New data at one unconstrained position."""
        from numpyro import handlers

        args, kwargs = arguments
        # Observed sites return their data unless told not to; factors have no data to draw.
        free = handlers.uncondition(handlers.block(self.model, hide=self.factors))
        run = self._runnable(free, key, self._sites(arguments, z))
        trace = handlers.trace(run).get_trace(*args, **kwargs)
        return {name.replace("/", "."): trace[name]["value"] for name in self.data}

    def observed(self, arguments: Arguments) -> Values:
        """The data of observed sites."""
        trace = self._trace(arguments)
        return {name.replace("/", "."): jnp.asarray(trace[name]["value"]) for name in self.data}

    def starts(self, arguments: Arguments, key: Key, num_chains: int) -> Values:
        """Positions where the user's strategy starts chains, a leading axis of chains."""
        return self._found(jax.random.split(key, num_chains), arguments).param_info.z

    def closed(self) -> Model:
        """The model with its arguments inside its programs."""
        bind = functools.partial
        return self._model(bind, self.given, self.init, self.values, self._anew)

    def _anew(self, *args: Any, **kwargs: Any) -> Model:
        return Program(
            self.model, (args, kwargs), self.init_strategy, self.seed, self.dims_given, self.coords
        ).closed()

    def with_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Model:
        """The model with arrays among its arguments outside its programs."""
        arguments = jax.tree.map(_as_array, (args, kwargs))
        if _signature(arguments) != self.signature:
            other = Program(
                self.model, arguments, self.init_strategy, self.seed, self.dims_given, self.coords
            )
            return other.with_arguments(*arguments)
        init = self._start(arguments)
        return self._model(Bound, arguments, init, _observed(self, arguments), self.of_data)

    def of_data(self, *args: Any, **kwargs: Any) -> Model:
        """The model of other arguments; equal for all models that share their programs."""
        return self.with_arguments(args, kwargs)

    def _start(self, arguments: Arguments) -> Values:
        """The position that the first data started at, or another where it is not finite."""
        value, grad = _value_and_grad(self, arguments, jax.tree.map(jnp.asarray, self.init))
        if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grad))):
            return self.init
        for name, data in _observed(self, arguments).items():
            if np.isnan(np.asarray(data, float)).any():
                raise ModelError(f"observed site {name!r} holds NaN; leave those rows out")
        return self._initialize(arguments)[0]

    def _model(
        self, bind: Callable, arguments: Arguments, init: Values, data: Values, rebuild: Callable
    ) -> Model:
        has_groups = bool(self.data) and not self.discrete
        own_starts = self.init_strategy is not None
        return Model(
            logdensity=bind(self.logdensity, arguments),
            init=init,
            constrain=bind(self.constrain, arguments),
            dims=self.dims,
            coords=self.coords,
            observed_data={name: np.asarray(value) for name, value in data.items()},
            log_likelihood=bind(self.log_likelihood, arguments) if has_groups else None,
            posterior_predictive=bind(self.predictive, arguments) if has_groups else None,
            notes=self.notes,
            library=_library(),
            starts=functools.partial(self.starts, arguments) if own_starts else None,
            rebuild=rebuild,
        )


@eqx.filter_jit
def _observed(program: Program, arguments: Arguments) -> Values:
    return program.observed(arguments)


@eqx.filter_jit
def _value_and_grad(program: Program, arguments: Arguments, z: Values) -> tuple[Scalar, Values]:
    return jax.value_and_grad(lambda z: program.logdensity(arguments, z))(z)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray | jax.Array) else leaf


def _signature(arguments: Arguments) -> tuple[Any, ...]:
    """What two sets of arguments must share to share a compiled program."""
    leaves, structure = jax.tree.flatten(arguments)
    kinds = [
        (leaf.shape, str(jax.dtypes.canonicalize_dtype(leaf.dtype)))
        if isinstance(leaf, np.ndarray | jax.Array)
        else leaf
        for leaf in leaves
    ]
    return structure, *kinds


def _with_constant_keys(model: Callable) -> Callable:
    """A model whose ``numpyro.prng_key()`` is the key that NumPyro's density has there."""
    from numpyro.primitives import Messenger

    class ConstantKeys(Messenger):
        """Gives every request for a key the same one."""

        def process_message(self, message: dict[str, Any]) -> None:
            if message["type"] == "prng_key" and message["value"] is None:
                message["value"] = jax.random.key(0)

    return ConstantKeys(model)


def _library() -> str:
    import numpyro

    return f"numpyro {numpyro.__version__}"
