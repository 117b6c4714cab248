"""What an error says of the code that raised it: where that is, and what it is made of."""

import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, UnionType
from typing import Any

import jax
import jax.extend

_LIBRARIES = {"capriole", "equinox", "jax", "jaxtyping", "beartype", "typechecker"}
_LIBRARIES |= {"contextlib", "functools"}
"""Packages whose lines are not the user's own."""
_LONG = 6
"""Lines of an error's text from which on it is shortened."""


def line_of(error: BaseException) -> str:
    """The last line of the user's own code that an error passed, as `` in line 3 of model.py``.

    Args:
        error: an error that was caught.

    Returns:
        The place; empty if there is none.
    """
    frames = _users_frames(error)
    if not frames:
        return ""
    frame, line = frames[-1]
    return f" in line {line} of {Path(frame.f_code.co_filename).name}"


def sees(error: BaseException, kind: type | UnionType) -> bool:
    """Whether the user's own code that an error passed has an object of a kind in sight.

    Args:
        error: an error that was caught.
        kind: a type, or several.
    """
    return any(
        isinstance(value, kind)
        for frame, _ in _users_frames(error)
        for value in (*frame.f_locals.values(), *map(frame.f_globals.get, frame.f_code.co_names))
    )


def shortened(error: BaseException) -> str:
    """The text of an error; of one that holds a traceback, as callbacks raise, its two ends."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return str(error) if len(lines) < _LONG else f"{lines[0]} ... {lines[-1].strip()}"


def primitives(function: Callable, argument: Any) -> set[str]:
    """Names of JAX's primitives in a function, at any depth.

    Args:
        function: a function of one argument.
        argument: the argument.

    Returns:
        The names; none if the function cannot be traced.
    """
    try:
        waiting: list[Any] = [jax.make_jaxpr(function)(argument).jaxpr]
    except Exception:  # a user's function may raise anything
        return set()
    found = set[str]()
    while waiting:
        for equation in waiting.pop().eqns:
            found.add(equation.primitive.name)
            parts = jax.tree.leaves(list(equation.params.values()))
            waiting += [getattr(part, "jaxpr", part) for part in parts if _is_program(part)]
    return found


def _is_program(part: Any) -> bool:
    return isinstance(part, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr)


def _users_frames(error: BaseException) -> list[tuple[FrameType, int]]:
    frames = traceback.walk_tb(error.__traceback__)
    return [(frame, line) for frame, line in frames if _package(frame) not in _LIBRARIES]


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).split(".")[0]
