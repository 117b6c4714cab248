"""Graphs of PyTensor as functions of JAX."""

import sys
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Key, Scalar
from .._model import Arrays, ModelError
from ._host_calls import host_call

type Position = dict[str, Any]


class ModelGraphs:
    """A PyMC model's graphs as JAX functions of one position, a dict of value variables.

    Args:
        model: the ``pymc.Model``.
    """

    def __init__(self, model: Any):
        self.model = model
        self.values = list(model.value_vars)
        self.data = {v.name: (v, np.array(v.get_value())) for v in _shared_data(model)}

    def logdensity(self, position: Position) -> Scalar:
        """Log density of one position."""
        return jnp.reshape(self._logdensity(position)[0], ())

    def constrain(self, position: Position) -> Arrays:
        """Variables in the model's own space, and deterministic ones."""
        names, function = self._constrain
        return dict(zip(names, function(position), strict=True))

    def log_likelihood(self, position: Position) -> Arrays:
        """Log likelihood of each observation."""
        names = [variable.name for variable in self.model.observed_RVs]
        return dict(zip(names, self._log_likelihood(position), strict=True))

    def posterior_predictive(self, key: Key, position: Position) -> Arrays:
        """New data, drawn by PyMC on the host."""
        draw = self._predictive
        data = {v.name: v for v in self.model.observed_RVs}
        shapes = {k: v.shape for k, v in observed_data(self.model).items()}
        form = {k: jax.ShapeDtypeStruct(shapes[k], _jax_dtype(v.dtype)) for k, v in data.items()}
        free = [self.constrain(position)[variable.name] for variable in self.model.free_RVs]
        bits = jax.random.bits(key, (2,), jnp.uint32)
        return host_call(
            lambda *arguments: dict(zip(form, draw(*arguments), strict=True)),
            form,
            bits,
            *free,
            vmap_method="sequential",
        )

    @cached_property
    def _logdensity(self) -> Callable[[Position], list]:
        return self.function([self.model.logp()])

    @cached_property
    def _constrain(self) -> tuple[list[str], Callable[[Position], list]]:
        from pymc.util import is_transformed_name

        kept = [v for v in self.model.unobserved_value_vars if not is_transformed_name(v.name)]
        return [v.name for v in kept], self.function(kept)

    @cached_property
    def _log_likelihood(self) -> Callable[[Position], list]:
        return self.function(self.model.logp(self.model.observed_RVs, sum=False))

    @cached_property
    def _predictive(self) -> Callable[..., list[np.ndarray]]:
        """PyMC's forward function: a seed and the free variables give observed ones."""
        import pymc
        from pymc.pytensorf import reseed_rngs

        names = [variable.name for variable in self.model.free_RVs]
        observed = self.model.observed_RVs
        dtypes = [_jax_dtype(variable.dtype) for variable in observed]
        compiled = pymc.compile(self.model.free_RVs, observed, on_unused_input="ignore")
        generators = [v for v in compiled.get_shared() if _is_random(v)]
        inputs = {name: self.model[name].dtype for name in names}

        def draw(seed: Any, *free: Any) -> list[np.ndarray]:
            reseed_rngs(generators, np.asarray(seed).tolist())
            drawn = compiled(*map(np.asarray, free, inputs.values()))
            return [np.asarray(x, dtype) for x, dtype in zip(drawn, dtypes, strict=True)]

        return draw

    def function(self, outputs: list) -> Callable[[Position], list]:
        """Graphs of the value variables as one JAX function.

        Args:
            outputs: PyTensor variables.

        Returns:
            A function of a position, with a list of the outputs' values.

        Raises:
            ModelError: a graph draws random numbers, or has an operation without a JAX form.
        """
        compiled = _jaxified(self.values, outputs, self.culprits)
        names = [variable.name for variable in self.values]  # PyMC's order; JAX sorts dicts

        def evaluate(position: Position) -> list:
            self.check_data()
            with jax.numpy_dtype_promotion("standard"):  # PyTensor has cast where it must
                return list(compiled(*(jnp.asarray(position[name]) for name in names)))

        return evaluate

    def check_data(self) -> None:
        """Refuse to go on with data that ``pm.set_data`` has changed since."""
        for name, (variable, before) in self.data.items():
            now = variable.get_value(borrow=True)
            if not np.array_equal(now, before, equal_nan=_inexact(before)):
                raise ModelError(
                    f"pm.set_data changed {name!r} after the model was read, and the log density "
                    "has the old data: call capriole.from_pymc(model) again"
                )

    def check_finite(self, init: Position) -> None:
        """Refuse a model that is not finite at its initial values, and name the sites."""
        with jax.enable_x64(True):
            if np.isfinite(self.logdensity(init)):
                return
            terms = {
                v.name: float(jnp.sum(self.function(self.model.logp([v], sum=False))(init)[0]))
                for v in _sites(self.model)
            }
        bad = [f"{name} {value}" for name, value in terms.items() if not np.isfinite(value)]
        raise ModelError(
            f"the log density is not finite at the initial values ({', '.join(bad)}): are there "
            "NaN in the data, or values outside a support? pass initvals={...} otherwise"
        )

    def culprits(self, is_bad: Callable[[list], bool]) -> str:
        """Names of sites whose log density has a property, as text."""
        names = [v.name for v in _sites(self.model) if is_bad(self.model.logp([v], sum=False))]
        return named(names) if names else "the model is"


def _jaxified(inputs: list, outputs: list, culprits: Callable) -> Callable[..., Any]:
    """PyTensor's graph as a JAX function; shared variables (``pm.Data``) become constants."""
    _import_dispatch()
    import pytensor.tensor as pt
    from pytensor.compile import SharedVariable, mode
    from pytensor.graph.fg import FunctionGraph
    from pytensor.graph.replace import clone_replace
    from pytensor.graph.traversal import graph_inputs
    from pytensor.link.jax.dispatch import jax_funcify

    def shared(graphs: list) -> list:
        return [v for v in graph_inputs(graphs) if isinstance(v, SharedVariable)]

    def jax_form(graphs: list) -> Callable[..., Any]:
        constants = {v: pt.constant(v.get_value(borrow=True)) for v in shared(graphs)}
        graph = FunctionGraph(list(inputs), clone_replace(graphs, replace=constants), clone=True)
        _without_checks(graph)
        mode.JAX.optimizer.rewrite(graph)
        return jax_funcify(graph)

    def has_no_form(graphs: list) -> bool:
        try:
            jax_form(graphs)
        except NotImplementedError:
            return True
        return False

    def draws(graphs: list) -> bool:
        return any(map(_is_random, shared(graphs)))

    outputs = [pt.as_tensor(v, allow_xtensor_conversion=True) for v in outputs]
    if draws(outputs):
        raise ModelError(
            f"{culprits(draws)} random given the parameters (pm.Minibatch, pm.Simulator): hand "
            "over all data, or use pm.sample"
        )
    # Constants are made here, in float64, and must be no tracers of a caller under jit.
    # PyTensor warns of checks within loops, which JAX cannot raise.
    with jax.enable_x64(True), jax.ensure_compile_time_eval(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping .* Op", category=UserWarning)
        try:
            return jax_form(outputs)
        except NotImplementedError as error:
            raise ModelError(
                f"{culprits(has_no_form)} not to be had in JAX: {error}; write it with operations "
                "that PyTensor has in JAX (pytensor.wrap_jax), or use pm.sample"
            ) from error


def _without_checks(graph: Any) -> None:
    """Take out checks, which JAX cannot raise: a bad parameter's log density is minus infinity."""
    import pytensor.tensor as pt
    from pytensor.raise_op import CheckAndRaise

    for node in graph.toposort():
        if isinstance(node.op, CheckAndRaise):
            value, *conditions = node.inputs
            if getattr(node.op, "can_be_replaced_by_ninf", False):
                value = pt.switch(pt.all(conditions), value, -np.inf).astype(value.dtype)
            graph.replace(node.outputs[0], value, import_missing=True)


def _import_dispatch() -> None:
    """Import PyTensor's JAX forms, which sets ``jax_enable_x64`` for the process, and set it back.

    A thread of its own reads the process's setting; a caller may be in ``jax.enable_x64``.
    """
    if "pytensor.link.jax.dispatch" in sys.modules:
        return

    def work() -> None:
        before = jax.config.read("jax_enable_x64")
        try:
            import pytensor.link.jax.dispatch  # noqa: F401
        finally:
            jax.config.update("jax_enable_x64", before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def _sites(model: Any) -> list:
    return [*model.free_RVs, *model.observed_RVs, *model.potentials]


def _shared_data(model: Any) -> list:
    return [variable for variable in model.data_vars if hasattr(variable, "get_value")]


def observed_data(model: Any) -> dict[str, np.ndarray]:
    """Data of the observed variables."""
    from pymc.pytensorf import extract_obs_data

    pairs = {v.name: model.rvs_to_values[v] for v in model.observed_RVs}
    return {name: np.asarray(extract_obs_data(value)) for name, value in pairs.items()}


def _is_random(variable: Any) -> bool:
    from pytensor.tensor.random.type import RandomType

    return isinstance(variable.type, RandomType)


def _inexact(values: np.ndarray) -> bool:
    return bool(np.issubdtype(values.dtype, np.inexact))


def _jax_dtype(dtype: Any) -> np.dtype:
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


def named(names: list[str]) -> str:
    """Names with the verb that follows them."""
    return f"{names[0]!r} is" if len(names) == 1 else f"{', '.join(map(repr, names))} are"
