"""How a run was started, as its config.json keeps it, and the log density made from that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


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
    sound &= dim is None or (type(dim) is int and 0 < dim <= 10**6)
    sound &= type(spread) in (int, float) and abs(spread) < 1e300
    if not sound:
        raise RunFolderError("config.json has a seed, dim, spread or precision that cannot be")
    return origin


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
    """The name of the log density for a run that goes on: the user's own is named again.

    Raises:
        RunFolderError: it was not.
    """
    from ..runs import RunFolderError

    stored = origin["function"]
    if not is_file(stored):
        return stored
    if function is None:
        raise RunFolderError(
            "this run uses a function of yours, and a run folder never chooses code to run: "
            f"name it again, {program} {command} {out} {stored}"
        )
    return function


def target_of(
    origin: dict[str, Any], function: str, named: Callable[[str], Any] | None = None
) -> Any:
    """The log density or model, in the run's precision: of the user's file, or a named one.

    Args:
        origin: what config.json keeps; the precision becomes that of the process.
        function: ``FILE.py:FUNCTION``, or a name for ``named``.
        named: makes a log density of a name without a file; None: there are none.

    Raises:
        ValueError: there is no such log density, or its dimension is missing.
    """
    import jax

    jax.config.update("jax_enable_x64", origin["float64"])
    if not is_file(function) and named is not None:
        if origin["dim"] is not None or origin["spread"] != 1:
            raise ValueError(
                f"{function} has a dimension and starts of its own: leave out --dim and --spread"
            )
        return named(function)
    from ._user import load_target

    return load_target(function, dim=origin["dim"], spread=origin["spread"])


def model_spread(target: Any, origin: dict[str, Any]) -> float:
    """The spread of chains around a model's ``init``; a log density has starts of its own."""
    from ..models import Model

    return origin["spread"] if isinstance(target, Model) else 1.0
