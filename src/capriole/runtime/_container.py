"""The container of every binary file: safetensors with a JSON header and a checksum. Nothing is
ever unpickled.
"""

import hashlib
import json
import os
from collections.abc import Buffer
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

type Arrays = dict[str, np.ndarray]


def write_atomically(path: Path, *content: Buffer) -> None:
    """Write to a temporary name, flush to disk, rename, flush the folder: readers see the old file
    or the new one.

    Pieces of ``content`` follow each other.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Flush a folder's entries to disk, where the system can do that."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_container(path: Path, header: dict[str, str], arrays: Arrays) -> None:
    """Write ``arrays`` with the text fields of ``header`` and the SHA-256 of both, atomically."""
    header = header | {"sha256": digest(header, arrays)}
    write_atomically(
        path, to_safetensors({k: np.asarray(v, order="C") for k, v in arrays.items()}, header)
    )


def read_container(
    path: Path, *, kind: str, form: str, error: type[Exception]
) -> tuple[dict[str, str], Arrays]:
    """Header and arrays of a container whose ``format`` is ``form``; ``kind`` is its name in
    messages.

    Raises ``error`` if the file is missing, not a regular file, damaged or of another format.
    Arrays are no larger than the file, whatever its header says.
    """
    if not path.exists():
        raise error(f"no {kind} file at {path}")
    if not path.is_file():
        raise error(f"{path} is not a readable {kind} file: it is not a regular file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as trouble:
        raise error(f"{path} is not a readable {kind} file: {trouble}") from trouble
    if header.get("format") != form:
        raise error(
            f"{path} has format {header.get('format')!r}, expected {form!r}: not a capriole {kind}"
        )
    if header.get("sha256") != digest(header, arrays):
        raise error(f"{path} is damaged: its checksum does not match its contents")
    return header, arrays


def checksum(path: Path) -> str | None:
    """The SHA-256 that a container says it has, the same for the same content however often it is
    written; None if there is none. Only `read_container` holds it against the content.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, MemoryError):
        return None


def digest(header: dict[str, str], arrays: Arrays) -> str:
    """SHA-256 over every field of the header but ``sha256`` itself, and names, types, shapes and
    bytes of arrays.
    """
    total = hashlib.sha256()
    for name in sorted(header.keys() - {"sha256"}):
        total.update(json.dumps([name, header[name]]).encode())
    for name in sorted(arrays):
        value = arrays[name]
        total.update(f"{name}:{value.dtype}:{value.shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()
