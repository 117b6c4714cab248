"""Binary files: safetensors with a text header and a checksum. Nothing is unpickled."""

import hashlib
import json
import os
from collections.abc import Buffer
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

type Arrays = dict[str, np.ndarray]
"""Arrays by name."""


def write_atomically(path: Path, *content: Buffer) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    It writes to a temporary name, flushes, renames, and flushes the folder.

    Args:
        path: the file.
        content: bytes, written one piece after another.
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
    """Flush a folder's entries to disk, on systems that can.

    Args:
        path: the folder.
    """
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_container(path: Path, header: dict[str, str], arrays: Arrays) -> None:
    """Write arrays and header, with the SHA-256 of both, atomically.

    Args:
        path: the file.
        header: text fields; ``format`` names the kind of file.
        arrays: the arrays.
    """
    header = header | {"sha256": digest(header, arrays)}
    write_atomically(
        path, to_safetensors({k: np.asarray(v, order="C") for k, v in arrays.items()}, header)
    )


def read_container(
    path: Path, *, kind: str, form: str, error: type[Exception]
) -> tuple[dict[str, str], Arrays]:
    """Read and check a container.

    Args:
        path: the file.
        kind: what to call the file in messages.
        form: expected value of the header's ``format``.
        error: type of the exception.

    Returns:
        Header and arrays. Arrays are never larger than the file, whatever the header says.

    Raises:
        error: if the file is missing, not a regular file, damaged, or of another format.
    """
    if not path.exists():
        raise error(f"no {kind} file at {path}")
    if not path.is_file():
        raise error(f"{path} is not a readable {kind} file: it is not a regular file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            names = file.keys()  # a method of safetensors, not a dict's
            arrays = {name: file.get_tensor(name) for name in names}
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
    """The SHA-256 in a container's header. Equal content gives equal checksums.

    Args:
        path: the file.

    Returns:
        The checksum, not compared with the content (`read_container` does that); None if there is
        none.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, MemoryError):
        return None


def digest(header: dict[str, str], arrays: Arrays) -> str:
    """SHA-256 of all header fields but ``sha256``, and of the arrays with types and shapes."""
    total = hashlib.sha256()
    for name in sorted(header.keys() - {"sha256"}):
        total.update(json.dumps([name, header[name]]).encode())
    for name in sorted(arrays):
        value = arrays[name]
        total.update(f"{name}:{value.dtype}:{value.shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()
