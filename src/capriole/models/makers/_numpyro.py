"""``from_numpyro``: a NumPyro model and its arguments, as a `Model`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...runtime import require
from .._model import Model, ModelError
from ._numpyro_program import Program

_OPTIONS = ("coords", "dims", "init_strategy", "seed", "jit_model_args")


def from_numpyro(
    model: Callable[..., Any],
    *args: Any,
    coords: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    init_strategy: Callable | None = None,
    seed: int = 0,
    jit_model_args: bool = False,
    **kwargs: Any,
) -> Model:
    """A NumPyro model, as a model of capriole: what ``MCMC(NUTS(model)).run(key, *args, **kwargs)``
    samples.

    Latent sites become unconstrained by NumPyro's own maps. Discrete sites of finite support are
    summed out by funsor. Plates name the axes of draws.

    Args:
        model: a function with NumPyro's primitives.
        *args: its arguments, data among them.
        coords: labels along axes, by name of the axis: ``{"school": ["Choate", ...]}``.
        dims: names of axes, by site; where fewer than the value has axes, of the last ones.
        init_strategy: one of NumPyro's, such as ``numpyro.infer.init_to_median``; chains then
            start where it says. None: chains start around one point of ``init_to_uniform``.
        seed: of the starting point.
        jit_model_args: whether arrays among the arguments are arguments of the compiled programs,
            too. Then `Model.with_data` compiles nothing for data of the same shapes, but the model
            cannot turn an argument into a Python number.
        **kwargs: keyword arguments of the model.

    Returns:
        The model. ``capriole.fit`` takes it as it is.

    Raises:
        ModelError: a site that no Markov chain can sample; the message names it and the remedy.
        ImportError: NumPyro is missing, or funsor for discrete sites.
    """
    require("numpyro", "numpyro")
    if not callable(model):
        raise ModelError(f"model must be a function with NumPyro's primitives, got {model!r:.80}")
    _check_names(model)
    program = Program(model, (args, kwargs), init_strategy, seed, dims or {}, coords or {})
    return program.with_arguments(args, kwargs) if jit_model_args else program.closed()


def _check_names(model: Callable) -> None:
    """Refuse arguments of a model that `from_numpyro` would take for its own."""
    try:
        names = set(inspect.signature(model).parameters) & set(_OPTIONS)
        names -= set(getattr(model, "keywords", {}))  # bound by functools.partial
    except (TypeError, ValueError):  # some callables have no signature
        return
    if names:
        name = sorted(names)[0]
        raise ModelError(
            f"the model has an argument {name!r}, which is an option of from_numpyro: pass "
            f"functools.partial(model, {name}=...)"
        )
