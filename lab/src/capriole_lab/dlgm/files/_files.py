"""What a run leaves on disk: checkpoints (safetensors with a JSON header), JSON, metrics as JSON
lines.

Files appear whole or not at all. Nothing is ever unpickled or executed.
"""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from capriole.runtime import Arrays, read_container, write_atomically, write_container

FORMAT = "capriole-dlgm-2"


class CheckpointError(OSError):
    """A checkpoint that is missing, damaged, or of another model."""


def write_bytes(path: Path, content: bytes) -> Path:
    """Write ``path`` by way of a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def write_json(path: Path, content: Any) -> Path:
    """JSON with two spaces of indent; NaN and infinities become null."""
    return write_bytes(
        path, (json.dumps(plain(content), indent=2, allow_nan=False) + "\n").encode()
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `CheckpointError` if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """One JSON object per line."""
    return write_bytes(
        path, "".join(json.dumps(plain(r), allow_nan=False) + "\n" for r in records).encode()
    )


def plain(value: Any) -> Any:
    """Lists, dicts, numbers, text; NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def save_checkpoint(path: Path, tree: Any, facts: dict[str, Any]) -> Path:
    """Write every array of ``tree`` under its path, with ``facts`` in the header."""
    arrays = {name: np.asarray(leaf) for name, leaf in _named(tree)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_container(path, {"format": FORMAT, "facts": json.dumps(plain(facts))}, arrays)
    return path


def read_facts(path: Path) -> dict[str, Any]:
    """The header of a checkpoint, after a check of the whole file."""
    return json.loads(_read(path)[0]["facts"])


def checksum(path: Path) -> str:
    """The SHA-256 in the header of a checkpoint, after a check of the whole file."""
    return _read(path)[0]["sha256"]


def load_checkpoint(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """The arrays of a checkpoint put into a tree of the same structure, and its facts.

    Raises `CheckpointError` if the file is missing, damaged, or its arrays are not those of
    ``like``.
    """
    header, arrays = _read(path)
    expected = {name: (leaf.shape, str(leaf.dtype)) for name, leaf in _named(like)}
    found = {name: (value.shape, str(value.dtype)) for name, value in arrays.items()}
    if found != expected:
        odd = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        first = odd[0]
        raise CheckpointError(
            f"{path} holds another model: {len(odd)} arrays differ, e.g. {first} is "
            f"{found.get(first)} there and "
            f"{expected.get(first)} under these settings; use the settings it was trained with"
        )
    dynamic, static = eqx.partition(like, eqx.is_array)
    leaves = [jnp.asarray(arrays[name]) for name, _ in _named(like)]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(dynamic), leaves), static), json.loads(
        header["facts"]
    )


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}; train first")
    return read_container(path, kind="checkpoint", form=FORMAT, error=CheckpointError)
