"""A user's own log density, from ``FILE.py:function``."""

import functools
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..kernels import AbstractLogDensity, Key, PerChain, Scalar, Vector
from ..models import (
    Model,
    as_logdensity,
    as_model,
    check_dtype,
    check_logdensity,
    check_spread,
)


class UserTarget(AbstractLogDensity):
    """A function of one flat position, with starts at ``spread * N(0, I)``."""

    logdensity: PerChain
    dim: int = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __call__(self, position: Vector) -> Scalar:
        """Log density of shape ``(*chains)``."""
        return self.logdensity(position)

    def start(self, key: Key, num: int) -> Vector:
        """Over-dispersed starts of shape (dim, num)."""
        return self.spread * jax.random.normal(key, (num, self.dim)).T


def load_target(spec: str, *, dim: int, spread: float = 1.0) -> UserTarget | Model:
    """Import a log density or a model (this runs its file), and check a log density at 0.

    Args:
        spec: ``FILE.py:NAME``.
        dim: the dimension of its position; a model has its own.
        spread: standard deviation of the starts around 0.

    Returns:
        The log density with starts, or the model.

    Raises:
        ValueError: there is no such file or function, or the log density cannot work.
    """
    found, spread = import_function(spec), check_spread(spread)
    if isinstance(found, Model):
        check_model(found, dim)
        return found
    target = user_target(found, dim=dim, spread=spread)
    try:
        check_logdensity(target, jnp.zeros(dim))
    except ValueError as error:
        if "outside the support" not in str(error):
            raise
        raise ValueError(
            f"{error}: the command line starts around 0, so shift or transform the position, or "
            "call it from Python"
        ) from error
    check_dtype(target, jnp.zeros((dim, 2)))
    return target


def load_with_init(spec: str, name: str | None) -> tuple[Callable | Model, Any, int]:
    """Import a model, or a log density of any pytree with one position of it; runs the file.

    Args:
        spec: ``FILE.py:NAME``.
        name: where the position is, as in `import_init`.

    Returns:
        The function or model, the position, and the number of its coordinates. The position is
        None of a model that has a way to start its chains.

    Raises:
        ValueError: there is no such file, function or position.
    """
    found = import_function(spec)
    if isinstance(found, Model):
        check_model(found, None)
        own = found.init if found.starts is None else None
        return found, own if name is None else import_init(spec, name), len(found.labels)
    init = import_init(spec, name)
    if init is None:
        raise ValueError(
            f"give the dimension of {spec}: --dim N; or one position of it, any pytree, as `init` "
            "in the same file or by --init NAME"
        )
    return found, init, as_logdensity(found, init)[1].size


def check_model(model: Model, dim: int | None) -> None:
    """Refuse options that contradict a model.

    Args:
        model: the model.
        dim: the dimension that was asked for, or that of a kernel; None: none.

    Raises:
        ValueError: the model has another dimension, or needs another precision.
    """
    own = len(model.labels)
    if dim not in (None, own):
        raise ValueError(f"the model has {own} coordinates, not {dim}: leave out --dim")
    if model.double and not jax.config.read("jax_enable_x64"):
        raise ValueError(f"a model of {model.library} needs float64: leave out --float32")


def user_target(function: Callable, *, dim: int, spread: float) -> UserTarget:
    """A function of one flat position as a target, unchecked."""
    return UserTarget(logdensity=PerChain(function), dim=dim, spread=spread)


def _hint(spec: str) -> str:
    """What was probably meant by a spec that is none."""
    file, _, name = spec.rpartition(":")
    if spec.endswith(".py"):
        return f"; name the function too: {spec}:FUNCTION"
    return f"; name the file with its ending: {file}.py:{name}" if file and name else ""


def import_function(spec: str) -> Callable | Model:
    """The log density or model ``FILE.py:NAME``; this runs the file.

    Args:
        spec: ``FILE.py:NAME``.

    Returns:
        A function, or a `Model`, also of a model of PyMC or BridgeStan.

    Raises:
        ValueError: there is no such file, or nothing of that name.
    """
    module, name = _imported(spec)
    found = as_model(getattr(module, name, None))
    if not (callable(found) or isinstance(found, Model)):
        known = sorted(
            n
            for n, v in vars(module).items()
            if (callable(v) or isinstance(v, Model)) and not n.startswith("_")
        )
        raise ValueError(
            f"{spec.rpartition(':')[0]} has no function {name!r}; it has "
            f"{', '.join(known) or 'none'}"
        )
    return found


def import_init(spec: str, name: str | None) -> Any:
    """One position of a log density, from its file or another one.

    Args:
        spec: ``FILE.py:FUNCTION``, which has been imported.
        name: a name in that file, or ``FILE.py:NAME``; None: ``init``, if the file has it.

    Returns:
        The position, any pytree; None if no name was given and there is no ``init``.

    Raises:
        ValueError: there is no such name.
    """
    other = name is not None and ":" in name
    module, attribute = _imported(str(name) if other else spec)
    attribute = attribute if other else name or "init"
    if name is not None and not hasattr(module, attribute):
        raise ValueError(f"{module.__file__} has no {attribute!r}, which --init names")
    return getattr(module, attribute, None)


def _imported(spec: str) -> tuple[ModuleType, str]:
    """The module of ``FILE.py:NAME``, which is run, and the name."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    if not file or not name or path.suffix != ".py":
        raise ValueError(f"expected FILE.py:FUNCTION, got {spec!r}{_hint(spec)}")
    if not path.is_file():
        raise ValueError(f"no file {path}")
    return _module(path, hashlib.sha256(path.read_bytes()).digest()), name


@functools.cache
def _module(path: Path, _content: bytes) -> ModuleType:
    """The module of a file, which is run once: function and init share what it makes."""
    module_spec = importlib.util.spec_from_file_location(f"_user_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise ValueError(f"cannot import {path}")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # where dataclasses look for it
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # for what stands beside it, as when Python runs a file
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f" in line {lines[-1]}" if lines else ""
        raise ValueError(
            f"{path} failed{where} when it was imported: {type(error).__name__}: {error}"
        ) from error
    return module
