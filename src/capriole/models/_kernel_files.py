"""Kernel files: safetensors with a JSON header. Nothing is unpickled or executed."""

import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..coordinates import TransportMap, Whitening, maps, without_maps
from ..kernels import (
    AbstractLogDensity,
    AbstractTransition,
    LearnedLeapfrog,
    Prepared,
    Transition,
)
from ..runtime import precision_context, read_container, write_container
from ._checks import check_dtype
from ._kernel_records import (
    KernelFileError,
    build_kernel,
    describe_kernel,
    kernel_arrays,
    restore_transport,
    restore_whitening,
)
from ._model import Model
from ._prepared import prepared
from ._pytrees import as_logdensity, as_model

_FORMAT = "capriole-kernel-1"
"""Version of the file format, in every header."""
_PACKAGES = ("capriole", "jax", "equinox", "numpy")
"""Packages whose versions a result depends on."""
_COORDINATE_KINDS = {Whitening: "whitening", TransportMap: "transport"}
"""Name in a file for each kind of map."""
_SUPPORTED_COORDINATES: tuple[list[str], ...] = (
    [],
    ["whitening"],
    ["transport"],
    ["whitening", "transport"],
)
"""Chains of maps that a file can hold, outermost last."""


def versions() -> dict[str, str]:
    """Versions of capriole and of the libraries that a result depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def save(
    path: str | os.PathLike, transition: AbstractTransition, *, dim: int | None = None
) -> Path:
    """Write a kernel to a file, which appears whole or not at all.

    The file holds dynamics, masks, context, coordinates, versions and dtype. It does not hold the
    log density, which is code, but its values at three points; `load` compares them.

    Args:
        path: file to write; its folder is made if needed.
        transition: the kernel.
        dim: number of coordinates; needed only for kernels without networks.

    Returns:
        The path.

    Raises:
        TypeError: for kernels or coordinates that `load` cannot rebuild.
        ValueError: if ``dim`` is needed and missing.
    """
    spec, parts = describe_kernel(transition)
    arrays = {
        f"{i}/{name}": value
        for i, part in enumerate(parts)
        for name, value in kernel_arrays(part).items()
    }
    logdensity = parts[0].logdensity
    dim = _dim(parts) if dim is None else dim
    kinds = [_COORDINATE_KINDS[type(step)] for step in maps(logdensity)]
    if kinds not in _SUPPORTED_COORDINATES:
        raise TypeError(f"cannot save a kernel in coordinates of coordinates: {' of '.join(kinds)}")
    for kind, step in zip(kinds, maps(logdensity), strict=True):
        arrays |= {f"{kind}/{name}": np.asarray(value) for name, value in vars(step).items()}
    dtype = next(str(v.dtype) for v in arrays.values() if np.issubdtype(v.dtype, np.floating))
    points = np.random.default_rng(0).normal(size=(dim, 3)).astype(dtype)
    arrays["fingerprint/points"] = points
    with precision_context(dtype):
        arrays["fingerprint/values"] = _values(logdensity, points)
    header = {
        "format": _FORMAT,
        "kernel": json.dumps(spec),
        "dim": str(dim),
        "dtype": dtype,
        "versions": json.dumps(versions()),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_container(path, header, arrays)
    return path


def load(
    path: str | os.PathLike, logdensity: Callable | Model, init: Any = None
) -> AbstractTransition:
    """Read a kernel from a file, in the precision that it was written in.

    Args:
        path: file to read.
        logdensity: the log density, or the model, that the kernel was trained on.
        init: as for `train`, read in the precision of the kernel; by default that of the model, or
            a vector of zeros.

    Returns:
        The kernel, for ``logdensity``.

    Raises:
        KernelFileError: if the file is missing, damaged or of another kind, or if dimension or
            values of the log density are not those of the file.
    """
    header, arrays = _read(Path(path))
    logdensity = as_model(logdensity)
    with precision_context(header["dtype"]):
        return _rebuilt(path, header, arrays, logdensity, init)


def _rebuilt(
    path: str | os.PathLike,
    header: dict[str, str],
    arrays: dict[str, np.ndarray],
    logdensity: Callable | Model,
    init: Any,
) -> AbstractTransition:
    """The kernel of a header and its arrays, for a log density that has the stored values."""
    dim, dtype = _integer(header.get("dim", "")), header["dtype"]
    if init is None and not isinstance(logdensity, Model):
        init = np.zeros(dim, dtype)
    target, flat = as_logdensity(logdensity, init, dtype)
    if flat.size != dim:
        raise KernelFileError(
            f"{path} holds a kernel of dimension {dim}, but init has {flat.size} numbers"
        )
    points, expected = arrays.pop("fingerprint/points"), arrays.pop("fingerprint/values")
    if (
        points.ndim != 2
        or len(points) != dim
        or str(points.dtype) != dtype
        or expected.shape != points.shape[1:]
    ):
        raise KernelFileError(
            f"{path} has a fingerprint of shape {points.shape} and {points.dtype}, dimension {dim}"
        )
    target = restore_whitening(restore_transport(target, dim, arrays), dim, arrays)
    try:
        check_dtype(target, jnp.asarray(points))
    except (TypeError, ValueError) as error:
        raise KernelFileError(f"{path} does not fit this log density: {error}") from error
    found = _values(target, points)
    if not np.allclose(
        found, expected, rtol=1e-3 if dtype == "float32" else 1e-9, atol=1e-4, equal_nan=True
    ):
        raise KernelFileError(
            f"{path} was trained on another log density: at the stored points it had values "
            f"{expected.tolist()}, this "
            f"one has {found.tolist()}; pass the same function with the same data"
        )
    target = prepared(target, jnp.asarray(points))
    try:
        return build_kernel(json.loads(header["kernel"]), target, dim, arrays)
    except KernelFileError:
        raise
    except (
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise KernelFileError(
            f"{path} has a header that does not describe its arrays: {error}"
        ) from error


def _dim(parts: list[Transition]) -> int:
    """Number of coordinates of a kernel, if its parts tell."""
    for part in parts:
        if isinstance(part.dynamics, LearnedLeapfrog):
            return int(part.dynamics.masks.shape[1])
        bottom = without_maps(part.logdensity)
        if isinstance(bottom, Prepared):
            return bottom.points.shape[0]
        if hasattr(part.logdensity, "dim"):
            return int(part.logdensity.dim)
    raise ValueError("cannot tell the dimension of this kernel; pass dim=")


def _values(logdensity: AbstractLogDensity, points: np.ndarray) -> np.ndarray:
    """Values of the log density at stored points."""
    return np.asarray(logdensity(jnp.asarray(points)))


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Header and arrays of a kernel file, with the parts that every one has."""
    header, arrays = read_container(path, kind="kernel", form=_FORMAT, error=KernelFileError)
    if (
        not {"kernel", "dim", "dtype"} <= header.keys()
        or not {"fingerprint/points", "fingerprint/values"} <= arrays.keys()
    ):
        raise KernelFileError(f"{path} lacks parts of a capriole kernel file")
    if header["dtype"] not in ("float32", "float64"):
        raise KernelFileError(
            f"{path} has dtype {header['dtype'][:40]!r}, expected float32 or float64"
        )
    return header, arrays


def _integer(text: str) -> int:
    """A dimension from its text."""
    if not (text.isascii() and text.isdigit() and len(text) < 8) or int(text) == 0:
        raise KernelFileError(f"invalid dimension {text!r} in the kernel file")
    return int(text)
