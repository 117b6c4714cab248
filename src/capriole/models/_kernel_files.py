"""Saving and loading trained kernels: safetensors with a JSON header. Nothing is ever unpickled or
executed.
"""

import importlib.metadata
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..coordinates import BENDS, Transported, TransportMap, Whitened, Whitening, maps
from ..kernels import (
    MLP,
    AbstractDynamics,
    AbstractLogDensity,
    AbstractTransition,
    CrankNicolson,
    Jittered,
    Leapfrog,
    LearnedLeapfrog,
    Mixture,
    ModeJump,
    Rotation,
    Squashed,
    Transition,
    learned_leapfrog,
)
from ..runtime import read_container, write_container
from ._checks import check_count, check_dtype
from ._pytrees import as_logdensity

FORMAT = "capriole-kernel-1"
PACKAGES = ("capriole", "jax", "equinox", "numpy")
_LENGTH = ".num_leapfrogs"
_KINDS = {Whitening: "whitening", TransportMap: "transport"}
_STORED: tuple[list[str], ...] = ([], ["whitening"], ["transport"], ["whitening", "transport"])


class KernelFileError(ValueError):
    """A kernel file that is missing, corrupt, foreign, or made for another target."""


def versions() -> dict[str, str]:
    """Versions of capriole and of the libraries a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def save(
    path: str | os.PathLike, transition: AbstractTransition, *, dim: int | None = None
) -> Path:
    """Write a kernel: its dynamics, masks, context, whitening, versions, dtype, and a fingerprint
    of its target.

    The log density itself is not stored (it is code); `load` gets it from the caller and compares
    fingerprints. ``dim`` is only needed for kernels without a learned part. The file appears whole
    or not at all. Raises TypeError for kernels made of classes that capriole does not know how to
    rebuild.
    """
    spec, parts = _describe(transition)
    arrays = {
        f"{i}/{name}": value
        for i, part in enumerate(parts)
        for name, value in _arrays(part).items()
    }
    logdensity = parts[0].logdensity
    dim = _dim(parts) if dim is None else dim
    kinds = [_KINDS[type(step)] for step in maps(logdensity)]
    if kinds not in _STORED:
        raise TypeError(f"cannot save a kernel in coordinates of coordinates: {' of '.join(kinds)}")
    for kind, step in zip(kinds, maps(logdensity), strict=True):
        arrays |= {f"{kind}/{name}": np.asarray(value) for name, value in vars(step).items()}
    dtype = next(str(v.dtype) for v in arrays.values() if np.issubdtype(v.dtype, np.floating))
    points = np.random.default_rng(0).normal(size=(dim, 3)).astype(dtype)
    arrays["fingerprint/points"] = points
    arrays["fingerprint/values"] = _values(logdensity, points)
    header = {
        "format": FORMAT,
        "kernel": json.dumps(spec),
        "dim": str(dim),
        "dtype": dtype,
        "versions": json.dumps(versions()),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_container(path, header, arrays)
    return path


def load(path: str | os.PathLike, logdensity: Callable, init: Any = None) -> AbstractTransition:
    """Read a kernel for ``logdensity`` (the function, or Target, it was trained on; ``init`` as in
    `train`).

    Raises `KernelFileError` if the file is missing, damaged or of another kind, or if the log
    density is not the one the kernel was trained on (values at three stored points differ, or it
    has another dimension).
    """
    header, arrays = _read(Path(path))
    dim, dtype = _integer(header.get("dim", "")), header["dtype"]
    init = np.zeros(dim, dtype) if init is None else init
    target, flat = as_logdensity(logdensity, init)
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
    target = _whitened(_transported(target, dim, arrays), dim, arrays)
    _check_x64(path, dtype)
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
    try:
        return _build(json.loads(header["kernel"]), target, dim, arrays)
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


def _whitened(
    target: AbstractLogDensity, dim: int, arrays: dict[str, np.ndarray]
) -> AbstractLogDensity:
    """The target in the stored kernel's coordinates."""
    names = [name for name in arrays if name.startswith("whitening/")]
    if not names:
        return target
    stored = {name.removeprefix("whitening/"): jnp.asarray(arrays.pop(name)) for name in names}
    rank = stored["stretches"].shape[0] if stored.get("stretches", jnp.zeros(())).ndim == 1 else -1
    shapes = {"location": (dim,), "scale": (dim,), "directions": (dim, rank), "stretches": (rank,)}
    if {name: value.shape for name, value in stored.items()} != shapes:
        raise KernelFileError("the stored whitening does not fit the kernel's dimension")
    return Whitened(target, Whitening(**stored))


def _transported(
    target: AbstractLogDensity, dim: int, arrays: dict[str, np.ndarray]
) -> AbstractLogDensity:
    """The target in the coordinates of the stored transport map, if there is one."""
    names = [name for name in arrays if name.startswith("transport/")]
    if not names:
        return target
    stored = {name.removeprefix("transport/"): arrays.pop(name) for name in names}
    parents = stored.get("parents", np.zeros(()))
    shape = (dim, 1 + parents.size * (1 + len(BENDS)))
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("shift", "width", "skew", "tail", "heaviness"), (dim,)
    )
    shapes |= dict.fromkeys(("offset", "centre", "log_scale"), shape)
    shapes |= dict.fromkeys(("factor", "inverse_factor"), (dim, dim))
    mixed = stored.get("mixed", np.zeros(()))
    shapes |= {
        "parents": (parents.size,),
        "mixed": (mixed.size,),
        "own_scale": (mixed.size, shape[1]),
    }
    shapes |= {"mixing": (shape[1], mixed.size, mixed.size)}
    fits = {name: value.shape for name, value in stored.items()} == shapes
    places = (parents, mixed)
    if not (
        fits
        and all(
            np.issubdtype(a.dtype, np.integer) and np.isin(a, np.arange(dim)).all() for a in places
        )
    ):
        raise KernelFileError("the stored transport map does not fit the kernel's dimension")
    if (
        np.isin(mixed, parents).any()
        or len(np.unique(mixed)) < mixed.size
        or np.triu(stored["mixing"]).any()
    ):
        raise KernelFileError("the stored transport map is no bijection: it mixes rows in a circle")
    return Transported(
        target, TransportMap(**{name: jnp.asarray(value) for name, value in stored.items()})
    )


def _describe(transition: AbstractTransition) -> tuple[dict[str, Any], list[Transition]]:
    """A JSON description of a kernel, and its Metropolis-Hastings parts in order."""
    match transition:
        case Mixture():
            described = [_describe(part) for part in transition.transitions]
            spec: dict[str, Any] = {
                "type": "Mixture",
                "probabilities": list(transition.probabilities),
            }
            return spec | {"parts": [s for s, _ in described]}, [
                p for _, parts in described for p in parts
            ]
        case Jittered():
            inner, parts = _describe(transition.transition)
            return {
                "type": "Jittered",
                "low": transition.low,
                "high": transition.high,
                "part": inner,
            }, parts
        case Transition(dynamics=Leapfrog()) if type(transition.dynamics) is Leapfrog:
            return {"type": "Leapfrog", "num_leapfrogs": int(transition.dynamics.num_gradients)}, [
                transition
            ]
        case Transition(dynamics=Rotation()) if type(transition.dynamics) is Rotation:
            return {"type": "Rotation", "num_leapfrogs": int(transition.dynamics.num_gradients)}, [
                transition
            ]
        case Transition(dynamics=CrankNicolson()) if type(transition.dynamics) is CrankNicolson:
            return {"type": "CrankNicolson", "num_leapfrogs": 1}, [transition]
        case Transition(dynamics=ModeJump() as jump) if type(jump) is ModeJump:
            return {"type": "ModeJump", "num_leapfrogs": 1, "modes": len(jump.centre)}, [transition]
        case Transition(dynamics=LearnedLeapfrog() as dynamics) if (
            type(dynamics) is LearnedLeapfrog
        ):
            nets = [dynamics.momentum_network, dynamics.position_network]
            squashed = all(type(net) is Squashed for net in nets)
            cores = [net.network if isinstance(net, Squashed) else net for net in nets]
            if all(type(net) is MLP for net in cores) and squashed == any(
                type(net) is Squashed for net in nets
            ):
                spec = {
                    "type": "LearnedLeapfrog",
                    "num_leapfrogs": dynamics.num_gradients,
                    "width": int(cores[0].hidden.shape[0]),  # type: ignore[attr-defined]
                    "context_dim": 0
                    if transition.context is None
                    else int(transition.context.shape[0]),
                    "squashed": squashed,
                    "step_sizes": int(dynamics.log_step_size.size),
                }
                return spec, [transition]
    kind = type(getattr(transition, "dynamics", None)).__name__
    raise TypeError(
        f"cannot save {type(transition).__name__} with dynamics {kind}: no rule to rebuild it"
    )


def _build(
    spec: dict, logdensity: AbstractLogDensity, dim: int, arrays: dict[str, np.ndarray]
) -> AbstractTransition:
    counter = itertools.count()

    def build(spec: dict) -> AbstractTransition:
        match spec["type"]:
            case "Mixture":
                return Mixture(
                    tuple(build(part) for part in spec["parts"]),
                    tuple(map(float, spec["probabilities"])),
                )
            case "Jittered":
                part = build(spec["part"])
                if not isinstance(part, Transition):
                    raise KernelFileError("a jittered kernel must hold a plain HMC kernel")
                return Jittered(part, float(spec["low"]), float(spec["high"]))
            case "Leapfrog" | "Rotation" | "CrankNicolson" | "ModeJump" | "LearnedLeapfrog":
                prefix = f"{next(counter)}/"
                own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
                context = own.pop("context", None)
                dynamics = _fill(_skeleton(spec, dim), own)
                return Transition(
                    logdensity, dynamics, None if context is None else jnp.asarray(context)
                )
        raise KernelFileError(
            f"unknown kernel type {spec['type']!r}; was the file written by a newer capriole?"
        )

    return build(spec)


def _skeleton(spec: dict, dim: int) -> AbstractDynamics:
    """The shapes of a dynamics, without allocating what a hostile header asks for."""
    length = check_count("num_leapfrogs", spec["num_leapfrogs"], 1)
    if spec["type"] == "Leapfrog":
        return Leapfrog(jnp.zeros(()), length)
    if spec["type"] == "Rotation":
        return Rotation(jnp.zeros(()), jnp.asarray(length))
    if spec["type"] == "CrankNicolson":
        return CrankNicolson(jnp.zeros(()))
    if spec["type"] == "ModeJump":
        return eqx.filter_eval_shape(_some_jump, check_count("modes", spec["modes"], 2), dim)
    sizes: dict[str, Any] = {
        "num_leapfrogs": length,
        "width": int(spec["width"]),
        "context_dim": int(spec["context_dim"]),
    }
    sizes |= {
        "squashed": spec["squashed"] is True,
        "step_size": (0.1, 0.1) if spec["step_sizes"] == 2 else 0.1,
    }
    return eqx.filter_eval_shape(learned_leapfrog, jax.random.key(0), dim=dim, **sizes)


def _some_jump(num_modes: int, dim: int) -> ModeJump:
    factor = jnp.zeros((num_modes, dim, dim))
    return ModeJump(jnp.zeros((num_modes, dim)), factor, jnp.zeros(num_modes), jnp.zeros(()))


def _fill(skeleton: AbstractDynamics, arrays: dict[str, np.ndarray]) -> AbstractDynamics:
    def fill(path: tuple, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name == _LENGTH:
            arrays.pop(name, None)  # the header has it
            return leaf
        if name not in arrays:
            raise KernelFileError(f"array {name} is missing")
        value = arrays.pop(name)
        step_sizes = isinstance(skeleton, Leapfrog | Rotation | CrankNicolson)
        if value.shape != leaf.shape and not step_sizes:
            raise KernelFileError(
                f"array {name} has shape {value.shape}, the header asks for {leaf.shape}"
            )
        return jnp.asarray(value)

    filled = jax.tree_util.tree_map_with_path(fill, skeleton)
    if arrays:
        raise KernelFileError(f"unexpected arrays {sorted(arrays)}")
    if isinstance(filled, ModeJump):
        factor = np.asarray(filled.factor)
        if np.triu(factor, 1).any() or not np.all(np.diagonal(factor, axis1=1, axis2=2) > 0):
            raise KernelFileError(
                "the stored modes have no shapes: factors must be triangular, diagonals positive"
            )
    return filled


def _arrays(transition: Transition) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(transition.dynamics, eqx.is_array))
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    named.pop(_LENGTH, None)
    return (
        named if transition.context is None else named | {"context": np.asarray(transition.context)}
    )


def _dim(parts: list[Transition]) -> int:
    for part in parts:
        if isinstance(part.dynamics, LearnedLeapfrog):
            return int(part.dynamics.masks.shape[1])
        if hasattr(part.logdensity, "dim"):
            return int(part.logdensity.dim)
    raise ValueError("cannot tell the dimension of this kernel; pass dim=")


def _values(logdensity: AbstractLogDensity, points: np.ndarray) -> np.ndarray:
    return np.asarray(logdensity(jnp.asarray(points)))


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    header, arrays = read_container(path, kind="kernel", form=FORMAT, error=KernelFileError)
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
    if not (text.isascii() and text.isdigit() and len(text) < 8) or int(text) == 0:
        raise KernelFileError(f"invalid dimension {text!r} in the kernel file")
    return int(text)


def _check_x64(path: str | os.PathLike, dtype: str) -> None:
    if dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise KernelFileError(
            f"{path} holds a float64 kernel but JAX computes in float32; call "
            "jax.config.update('jax_enable_x64', True) first"
        )
