"""The runtime type checker of the tests: beartype, but for functions whose annotations are narrower than their use.

Every name in `NARROW` is an annotation to widen in the library, after which the name leaves this set.
"""

from collections.abc import Callable

from beartype import beartype

CORE = ("logdensity", "networks", "dynamics", "transition", "objectives", "train", "sample", "check", "ravel", "pilot")
CORE = (*CORE, "io", "front", "candidates")
MODULES = [f"capriole._{name}" for name in CORE]  # not _clock: beartype refuses ``-> Self`` on a lone method

NARROW = {
    "linear",  # returns Vector, whose "dim" is already bound to the input features
    "MLP.__call__",  # context: Vector binds "dim" to the context's features
    "column",  # Float annotation, boolean masks in LearnedLeapfrog
    "hmc",  # step_size: Array, jitter: float = 0 (an int); documented use passes Python floats
    "Transition.__init__",  # _front.prepare builds Transition(target, None)
    "Leapfrog.__init__",  # _io._skeleton builds one from a ShapeDtypeStruct
}


def check(function: Callable) -> Callable:
    """``beartype.beartype`` but for the functions in `NARROW`."""
    return function if function.__qualname__ in NARROW else beartype(function)
