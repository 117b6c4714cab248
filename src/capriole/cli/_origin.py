"""How a run was started, as its config.json keeps it, and the log density made from that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ._known import absolute, is_known, remember


class Loaded(NamedTuple):
    """A log density, ready for `capriole.fit` and `capriole.train`.

    Attributes:
        target: the log density.
        init: one position of it; None: it has starts of its own.
        dim: its dimension; None: that of a named log density.
    """

    target: Any
    init: Any
    dim: int | None


def origin_of(
    function: str, *, dim: int | None, init: str | None, spread: float, float64: bool
) -> dict[str, Any]:
    """What config.json says of how a run was started: the function with its full path."""
    function = absolute(function) if is_file(function) else function
    init = absolute(init) if init and is_file(init) else init
    return {"function": function, "dim": dim, "init": init, "spread": spread, "float64": float64}


def is_file(function: str) -> bool:
    """Whether a log density is named as ``FILE.py:FUNCTION``."""
    return ".py:" in function


def default_folder(command: str, function: str, seed: int) -> Path:
    """The folder of a run whose user names none."""
    name = function.rpartition(":")[2].replace("/", "-")
    return Path("runs") / f"{command}-{name}-{seed}"


def read_origin(config: dict[str, Any]) -> dict[str, Any]:
    """The checked ``origin`` of a config.json: function, dim, spread and precision.

    Raises:
        RunFolderError: a value is missing or cannot be.
    """
    from ..runs import RunFolderError

    origin, seed = config.get("origin"), config.get("seed")
    if not isinstance(origin, dict) or not isinstance(origin.get("function"), str):
        raise RunFolderError(
            "config.json does not say how the run was started; it cannot be resumed from the shell"
        )
    dim: Any = origin.get("dim")
    spread: Any = origin.get("spread")
    sound = type(seed) is int and -(2**63) <= seed < 2**63
    sound &= isinstance(origin.get("float64"), bool)
    sound &= isinstance(origin.get("init"), str | None)
    has_dim = "init" in origin or not is_file(origin["function"])
    sound &= (dim is None and has_dim) or (type(dim) is int and 0 < dim <= 10**6)
    sound &= type(spread) in (int, float) and abs(spread) < 1e300
    if not sound:
        raise RunFolderError("config.json has a seed, dim, spread or precision that cannot be")
    return origin


def precision_of(origin: dict[str, Any]) -> str:
    """The precision of a run, as `capriole.fit` and `capriole.train` take it."""
    return "float64" if origin["float64"] else "float32"


def read_counts(config: dict[str, Any], names: dict[str, int]) -> dict[str, int]:
    """Whole numbers of a config.json; ``names`` gives the least value of each.

    Raises:
        RunFolderError: a number is missing or cannot be.
    """
    from ..runs import RunFolderError

    for name, least in names.items():
        value = config.get(name)
        if type(value) is not int or not least <= value <= 10**9:
            raise RunFolderError(f"config.json says {name} = {str(value)[:80]!r}, which cannot be")
    return {name: config[name] for name in names}


def function_again(
    origin: dict[str, Any], function: str | None, out: Path, *, command: str, program: str
) -> str:
    """The name of the log density for a run that goes on.

    A folder names code, but never chooses it: the user's own function runs if this user has run it
    before, from the same file with the same content. Else it is named again.

    Raises:
        RunFolderError: it was not.
    """
    from ..runs import RunFolderError

    stored = origin["function"]
    if not is_file(stored):
        return stored
    files = [stored, *filter(is_file, [origin.get("init") or ""])]
    if function is None and not all(map(is_known, files)):
        raise RunFolderError(
            "this run uses a function that was not run from this account, or whose file has "
            "changed since, and a run folder never chooses code to run: name it again, "
            f"{program} {command} {out} {stored}"
        )
    return stored if function is None else function


def target_of(
    origin: dict[str, Any], function: str, named: Callable[[str], Any] | None = None
) -> Loaded:
    """The log density, in the run's precision: a function of the user's file, or a named one.

    Args:
        origin: what config.json keeps; the precision becomes that of the process.
        function: ``FILE.py:FUNCTION``, or a name for ``named``.
        named: makes a log density of a name without a file; None: there are none.

    Raises:
        ValueError: there is no such log density, or its dimension is missing.
    """
    import jax

    jax.config.update("jax_enable_x64", origin["float64"])
    looks_named = not is_file(function) and ":" not in function and not function.endswith(".py")
    if looks_named and named is not None:
        if origin["dim"] is not None or origin["spread"] != 1:
            raise ValueError(
                f"{function} has a dimension and starts of its own: leave out --dim and --spread"
            )
        return Loaded(named(function), None, None)
    from ._user import load_target, load_with_init

    dim, init = origin["dim"], origin.get("init")
    if dim is not None and init is not None:
        raise ValueError(f"--init {init} says the dimension: leave out --dim {dim}")
    if dim is None:
        loaded = Loaded(*load_with_init(function, init))
    else:
        loaded = Loaded(load_target(function, dim=dim, spread=origin["spread"]), None, dim)
    for file in filter(is_file, [function, init or ""]):
        remember(file)
    return loaded
