"""Reads posteriordb (Magnusson et al. 2025): data and reference draws, from a checkout."""

import difflib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

VARIABLE = "CAPRIOLE_POSTERIORDB"
"""Environment variable that names a checkout."""

_BESIDE = Path("shared", "data", "posteriordb")
_REMEDY = f"clone https://github.com/stan-dev/posteriordb (BSD-3) and set {VARIABLE} to its folder"
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
)  # of zip or JSON
_SUMMARIES = ("mean_value", "mean_squared_value")


class PosteriordbError(ValueError):
    """There is no checkout, no such posterior in it, or one of its files is missing or damaged."""


class Summary(NamedTuple):
    """Reference mean of a parameter and of its square, with Monte Carlo standard errors."""

    mean: float
    mean_error: float
    mean_square: float
    mean_square_error: float


def find_posteriordb(path: str | os.PathLike | None = None) -> Path:
    """The database folder of a checkout: of ``path``, else of ``$CAPRIOLE_POSTERIORDB``, else of
    the nearest ``shared/data/posteriordb`` in the current directory or one above it.

    Raises PosteriordbError, saying how to get one, if there is none or the named folder is none.
    """
    for label, named in (("path", path), (VARIABLE, os.environ.get(VARIABLE))):
        if named:
            folder = _database(Path(named))
            if folder is None:
                raise PosteriordbError(
                    f"{label}={os.fspath(named)!r} holds no posteriordb checkout; {_REMEDY}"
                )
            return folder
    here = Path.cwd()
    for parent in (here, *here.parents):
        if folder := _database(parent / _BESIDE):
            return folder
    raise PosteriordbError(f"no posteriordb checkout found from {here} upwards; {_REMEDY}")


def read_data(name: str, *, path: str | os.PathLike | None = None) -> dict[str, Any]:
    """The data of posterior ``name`` as the database has them, by Stan's names."""
    root = find_posteriordb(path)
    file = root / "data" / "data" / f"{_entry(root, name, 'data_name')}.json.zip"
    data = _read_zip(file)
    if not isinstance(data, dict):
        raise _damaged(file, f"a {type(data).__name__} instead of named values")
    return data


def reference_draws(
    name: str, *, path: str | os.PathLike | None = None
) -> dict[str, Float[np.ndarray, "chains draws"]]:
    """Reference draws of every constrained parameter, thinned to be nearly independent, float64."""
    root = find_posteriordb(path)
    file = root / "reference_posteriors" / "draws" / "draws" / f"{_reference(root, name)}.json.zip"
    chains = _read_zip(file)
    try:
        draws = {key: np.array([chain[key] for chain in chains], np.float64) for key in chains[0]}
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise _damaged(file, f"chains that do not fit together: {error!r}") from error
    shapes = {key: values.shape for key, values in draws.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 2:
        raise _damaged(file, f"shapes {shapes} instead of one (chains, draws)")
    for key, values in draws.items():
        if not np.isfinite(values).all():
            raise _damaged(file, f"draws of {key} that are not finite")
    return draws


def reference_summary(name: str, *, path: str | os.PathLike | None = None) -> dict[str, Summary]:
    """Reference means of every constrained parameter and of its square."""
    root = find_posteriordb(path)
    rows = {}
    for kind in _SUMMARIES:
        file = (
            root
            / "reference_posteriors"
            / "summary_statistics"
            / kind
            / kind
            / f"{_reference(root, name)}.json"
        )
        table = _read_json(file)
        try:
            columns = zip(table["names"], table[kind], table["mcse_mean"], strict=True)
            rows[kind] = {key: (float(value), float(error)) for key, value, error in columns}
        except (TypeError, ValueError, KeyError) as error:
            raise _damaged(
                file, f"no columns names, {kind}, mcse_mean of one length: {error!r}"
            ) from error
    if set(rows["mean_value"]) != set(rows["mean_squared_value"]):
        raise _damaged(
            file,
            f"parameters {sorted(rows['mean_squared_value'])} instead of "
            f"{sorted(rows['mean_value'])}",
        )
    return {
        key: Summary(*rows["mean_value"][key], *rows["mean_squared_value"][key])
        for key in rows["mean_value"]
    }


def _database(folder: Path) -> Path | None:
    for candidate in (folder / "posterior_database", folder):
        if (candidate / "posteriors").is_dir():
            return candidate
    return None


def _entry(root: Path, name: str, field: str) -> Any:
    """A field of a posterior's description; only names that the folder lists are opened."""
    known = sorted(file.stem for file in (root / "posteriors").glob("*.json"))
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
        raise PosteriordbError(f"{root} has no posterior {name!r}; {hint}")
    file = root / "posteriors" / f"{name}.json"
    entry = _read_json(file)
    if not isinstance(entry, dict) or field not in entry:
        raise _damaged(file, f"no field {field}")
    return entry[field]


def _reference(root: Path, name: str) -> str:
    reference = _entry(root, name, "reference_posterior_name")
    if reference is None:
        raise PosteriordbError(
            f"posterior {name!r} has no reference draws in posteriordb; choose one that has"
        )
    return reference


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except _DAMAGE as error:
        raise _damaged(file, str(error)) from error


def _read_zip(file: Path) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            return json.loads(archive.read(file.stem))
    except _DAMAGE as error:
        raise _damaged(file, str(error)) from error


def _damaged(file: Path, reason: str) -> PosteriordbError:
    return PosteriordbError(f"{file} is missing or damaged ({reason}); fetch the checkout again")
