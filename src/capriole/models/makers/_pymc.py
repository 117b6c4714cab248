"""PyMC models in: the log density that ``pm.sample`` uses, written in JAX by PyTensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Key
from .._model import Model, ModelError
from ._pymc_graphs import ModelGraphs, Position, named, observed_data


def from_pymc(
    model: Any,
    *,
    initvals: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> Model:
    """A PyMC model as a log density of its value variables, the one that ``pm.sample`` uses.

    Constrained variables, deterministic ones, dims and coords are those of PyMC, so a tree of
    draws can go to ``pm.sample_posterior_predictive`` and ``pm.compute_log_likelihood``. Data are
    read now: after ``pm.set_data`` make another model.

    Args:
        model: a ``pymc.Model``.
        initvals: initial values by variable, in the model's own space, as ``pm.sample`` takes
            them; or several, one for each chain. Further chains start at those again, moved by
            U(-1, 1).
        seed: a whole number, for initial values that are drawn.

    Returns:
        The model. It needs float64.

    Raises:
        ModelError: the model has discrete free variables or none, draws random numbers, uses an
            operation that has no JAX form, or is not finite at its initial values.
    """
    if not hasattr(model, "value_vars"):
        raise ModelError(f"model must be a pymc.Model, got {model!r:.80}")
    if discrete := [variable.name for variable in model.discrete_value_vars]:
        raise ModelError(
            f"{named(discrete)} discrete: sum them out (pymc_extras.marginalize, pm.Mixture), or "
            "use pm.sample"
        )
    if not model.free_RVs:
        raise ModelError("the model has no free variable, so there is nothing to draw")
    graphs = ModelGraphs(model)
    first, *more = [initvals] if initvals is None or isinstance(initvals, Mapping) else initvals
    init = _initial_point(model, first, seed)
    graphs.check_finite(init)
    observed = observed_data(model)
    return Model(
        logdensity=graphs.logdensity,
        init=init,
        constrain=graphs.constrain,
        dims=_dims(model),
        coords={k: list(v) for k, v in model.coords.items() if v is not None},
        observed_data=observed,
        constant_data=_constant_data(model),
        log_likelihood=graphs.log_likelihood if observed else None,
        posterior_predictive=graphs.posterior_predictive if observed else None,
        double=True,
        library=f"pymc {_version()}",
        starts=_Starts([init, *(_initial_point(model, each, seed) for each in more)])
        if more
        else None,
    )


class _Starts:
    """Chains start at initial values, in turn; from the second round on moved by U(-1, 1)."""

    def __init__(self, points: list[Position]):
        self.points = points

    def __call__(self, key: Key, num: int) -> Position:
        """Positions with a leading axis of chains."""
        every = {k: np.stack([p[k] for p in self.points]) for k in self.points[0]}
        repeated = jnp.arange(num) >= len(self.points)

        def spread(key: Key, values: np.ndarray) -> jax.Array:
            chosen = jnp.asarray(values)[jnp.arange(num) % len(values)]
            noise = jax.random.uniform(key, chosen.shape, chosen.dtype, minval=-1, maxval=1)
            moved = repeated.reshape(-1, *[1] * (chosen.ndim - 1))
            return jnp.where(moved, chosen + noise, chosen)

        keys = jax.random.split(key, len(every))
        return {k: spread(keys[i], v) for i, (k, v) in enumerate(every.items())}


def _initial_point(model: Any, initvals: Mapping[str, Any] | None, seed: int) -> Position:
    """PyMC's initial point as float64 arrays by value variable."""
    from pymc.initial_point import make_initial_point_fn

    known = {variable.name for variable in (*model.free_RVs, *model.value_vars)}
    if unknown := sorted({getattr(k, "name", k) for k in initvals or ()} - known):
        raise ModelError(
            f"initvals name {unknown}, which are no free variables: those are "
            f"{[variable.name for variable in model.free_RVs]}"
        )
    overrides = None if initvals is None else dict(initvals)
    start = make_initial_point_fn(model=model, overrides=overrides)(seed)
    return {v.name: np.asarray(start[v.name], np.float64) for v in model.value_vars}


def _constant_data(model: Any) -> dict[str, np.ndarray]:
    """Data that are not observed; of those that are both, which the model reads as well."""
    from pytensor.graph.traversal import ancestors

    observed = set(model.rvs_to_values.values())
    read = set(ancestors([*model.basic_RVs, *model.deterministics, *model.potentials]))
    return {
        variable.name: np.array(
            variable.get_value() if hasattr(variable, "get_value") else variable.data
        )
        for variable in model.data_vars
        if variable not in observed or variable in read
    }


def _dims(model: Any) -> dict[str, list[str]]:
    """Names of axes by variable; an axis without a name gets ArviZ's."""
    return {
        name: [f"{name}_dim_{i}" if dim is None else str(dim) for i, dim in enumerate(dims)]
        for name, dims in model.named_vars_to_dims.items()
        if dims
    }


def _version() -> str:
    import pymc

    return str(pymc.__version__)
