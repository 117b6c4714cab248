"""Kernels as plain records: a JSON description, named arrays, and the way back."""

import itertools
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
from ._checks import check_count


class KernelFileError(ValueError):
    """A kernel file that is missing, damaged, of another kind, or made for another target."""


def kernel_precision(transition: AbstractTransition) -> str:
    """The precision that a kernel's own arrays have, its coordinates included.

    Args:
        transition: any kernel; arrays of the user's log density do not count.

    Returns:
        "float32" if all of them are float32, else "float64".
    """
    parts = (transition, maps(transition.target))
    leaves = jax.tree.leaves(parts, is_leaf=lambda node: isinstance(node, AbstractLogDensity))
    dtypes = {str(leaf.dtype) for leaf in leaves if eqx.is_inexact_array(leaf)}
    return "float32" if dtypes == {"float32"} else "float64"


_NUM_LEAPFROGS = ".num_leapfrogs"
"""Path of a field that is in the header, not among the arrays."""


def describe_kernel(transition: AbstractTransition) -> tuple[dict[str, Any], list[Transition]]:
    """A JSON description of a kernel, and its Metropolis-Hastings parts in order."""
    match transition:
        case Mixture():
            described = [describe_kernel(part) for part in transition.transitions]
            spec: dict[str, Any] = {
                "type": "Mixture",
                "probabilities": list(transition.probabilities),
            }
            return spec | {"parts": [s for s, _ in described]}, [
                p for _, parts in described for p in parts
            ]
        case Jittered():
            inner, parts = describe_kernel(transition.transition)
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


def build_kernel(
    spec: dict, logdensity: AbstractLogDensity, dim: int, arrays: dict[str, np.ndarray]
) -> AbstractTransition:
    """The kernel with this description, for a log density, from the arrays of its parts."""
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
        return eqx.filter_eval_shape(_empty_jump, check_count("modes", spec["modes"], 2), dim)
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


def _empty_jump(num_modes: int, dim: int) -> ModeJump:
    """A mode jump with arrays of zeros."""
    factor = jnp.zeros((num_modes, dim, dim))
    return ModeJump(jnp.zeros((num_modes, dim)), factor, jnp.zeros(num_modes), jnp.zeros(()))


def _fill(skeleton: AbstractDynamics, arrays: dict[str, np.ndarray]) -> AbstractDynamics:
    """The dynamics with its arrays in place; they must match the skeleton exactly."""

    def fill(path: tuple, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name == _NUM_LEAPFROGS:
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


def kernel_arrays(transition: Transition) -> dict[str, np.ndarray]:
    """The arrays of one Metropolis-Hastings part, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(transition.dynamics, eqx.is_array))
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    named.pop(_NUM_LEAPFROGS, None)
    return (
        named if transition.context is None else named | {"context": np.asarray(transition.context)}
    )


def restore_whitening(
    target: AbstractLogDensity, dim: int, arrays: dict[str, np.ndarray]
) -> AbstractLogDensity:
    """The target in the coordinates of the stored whitening, if there is one."""
    names = [name for name in arrays if name.startswith("whitening/")]
    if not names:
        return target
    stored = {name.removeprefix("whitening/"): jnp.asarray(arrays.pop(name)) for name in names}
    rank = stored["stretches"].shape[0] if stored.get("stretches", jnp.zeros(())).ndim == 1 else -1
    shapes = {"location": (dim,), "scale": (dim,), "directions": (dim, rank), "stretches": (rank,)}
    if {name: value.shape for name, value in stored.items()} != shapes:
        raise KernelFileError("the stored whitening does not fit the kernel's dimension")
    return Whitened(target, Whitening(**stored))


def restore_transport(
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
