"""The runtime type checker of the tests: beartype, but for functions whose annotations are narrower
than their use.

Every name in `NARROW` is an annotation to widen in the library, after which the name leaves this
set.
"""

from collections.abc import Callable

from beartype import beartype

MODULES = [
    *(f"capriole.kernels._{name}" for name in ("logdensity", "networks", "dynamics")),
    *(f"capriole.kernels._{name}" for name in ("plain_dynamics", "transition")),
    "capriole.kernels._composite_transitions",
    *(
        f"capriole.models._{name}"
        for name in ("checks", "pytrees", "kernel_files", "kernel_records")
    ),
    *(f"capriole.sampling._{name}" for name in ("api", "draw", "hmc_warmup", "initial", "tree")),
    *(f"capriole.training._{name}" for name in ("api", "objectives", "step", "loop", "restarts")),
    "capriole.runtime._devices",
]  # not the clock: beartype refuses ``-> Self`` on a lone method

NARROW = {
    "linear",  # returns Vector, whose "dim" is already bound to the input features
    "MLP.__call__",  # context: Vector binds "dim" to the context's features
    "Raveled.__call__",  # a user's function may return anything; `_check` says so in its own words
    "_fill.<locals>.fill",  # leaf: ShapeDtypeStruct, an Array for a Leapfrog
}


def check(function: Callable) -> Callable:
    """``beartype.beartype`` but for the functions in `NARROW`."""
    return function if function.__qualname__ in NARROW else beartype(function)
