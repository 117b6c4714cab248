"""Records as plain values and back: the one way in which results are stored and read."""

import dataclasses
import math
import reprlib
import types
import typing
from enum import Enum
from typing import Any

import numpy as np

MOST_ITEMS = 10_000_000
"""Longest list that is read: more are no record of a run."""
MOST_CHARACTERS = 10_000
"""Longest text that is read."""


def to_plain(value: Any) -> Any:
    """A record as values that JSON has.

    Named tuples and dataclasses become dicts, enums their values, arrays and tuples lists, and
    numbers that are not finite None.

    Args:
        value: A record, or a container of records.

    Returns:
        Dicts, lists, texts, numbers, truth values and None.
    """
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_plain(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): to_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain[T](kind: type[T], value: Any, where: str = "") -> T:
    """The record of class ``kind`` that `to_plain` made ``value`` of, whoever wrote it.

    Fields that are missing have their defaults; fields that ``kind`` lacks are passed over. None
    stands for NaN where a number is expected.

    Args:
        kind: A named tuple, a dataclass, an enum, a number, or a container of them.
        value: Plain values.
        where: What to call the value in an error.

    Returns:
        The record. Nothing in it is of another type than ``kind`` says.

    Raises:
        ValueError: A value is of the wrong type, too large or missing; the text says which.
    """
    return _read(kind, value, where or getattr(kind, "__name__", "value"))


def _read(kind: Any, value: Any, where: str) -> Any:
    kind = getattr(kind, "__value__", kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _of_a_union(arguments, value, where)
    if kind in _SIMPLE:
        return _SIMPLE[kind](value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        if value not in [member.value for member in kind]:
            _refuse(value, where, f"one of {[member.value for member in kind]}")
        return kind(value)
    if origin in (tuple, list):
        return _sequence(origin, arguments, value, where)
    if kind is dict or origin is dict:
        if not isinstance(value, dict) or len(value) > MOST_ITEMS:
            _refuse(value, where, "names and values")
        inner = arguments[1] if arguments else Any
        return {str(name): _read(inner, each, f"{where}.{name}") for name, each in value.items()}
    if getattr(kind, "array_type", None) is np.ndarray:
        numbers = _sequence(list, (float,), value, where)
        return np.array(numbers, np.float64)
    if hasattr(kind, "_fields") or dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    raise TypeError(f"no reader for {kind}")


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(value, where, f"the fields of {kind.__name__}")
    hints = typing.get_type_hints(kind)
    if hasattr(kind, "_fields"):
        names, optional = kind._fields, set(kind._field_defaults)
    else:
        fields = dataclasses.fields(kind)
        names = [field.name for field in fields]
        missing = dataclasses.MISSING
        optional = {
            f.name for f in fields if f.default is not missing or f.default_factory is not missing
        }
    found = {}
    for name in names:
        if name in value:
            found[name] = _read(hints[name], value[name], f"{where}.{name}")
        elif name not in optional:
            raise ValueError(f"{where} has no {name}")
    return kind(**found)


def _sequence(origin: Any, arguments: tuple, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple) or len(value) > MOST_ITEMS:
        _refuse(value, where, "a list")
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        if len(value) != len(arguments):
            _refuse(value, where, f"{len(arguments)} values")
        kinds = arguments
    else:
        kinds = (arguments[0] if arguments else Any,) * len(value)
    found = [
        _read(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
    ]
    return tuple(found) if origin is tuple else found


def _of_a_union(arguments: tuple, value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    others = [kind for kind in arguments if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _read(kind, value, where)
        except ValueError:
            continue
    return _read(others[-1], value, where)


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float) or abs(value) >= 2**1023:
        _refuse(value, where, "a number")
    return float(value)


def _count(value: Any, where: str) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        _refuse(value, where, "a whole number")
    return value


def _truth(value: Any, where: str) -> bool:
    if type(value) is not bool:
        _refuse(value, where, "true or false")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        _refuse(value, where, "a text")
    return value


_SIMPLE: dict[Any, Any] = {float: _number, int: _count, bool: _truth, str: _text}


def _refuse(value: Any, where: str, expected: str) -> typing.NoReturn:
    raise ValueError(f"{where} is {_shown(value)!r}, expected {expected}")


def _shown(value: Any) -> str:
    """The beginning of a value, however deep or large it is."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        return value[:80]
    try:
        return reprlib.repr(value)[:80]
    except ValueError:  # a whole number within it has too many digits
        return type(value).__name__
