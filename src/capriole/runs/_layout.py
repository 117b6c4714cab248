"""The layout of a draws store, checked before anything reads it: no surprise in it can run code or
fill the memory.
"""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from ._blocks import CHECKSUM
from ._errors import RunFolderError

SIZES = {"bool": 1, "int8": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8}
CODECS = (  # the first for numbers of several bytes, the second for single bytes
    [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    [{"name": "bytes"}, {"name": "crc32c"}],
)
GROUPS = ("posterior", "sample_stats")
MAX_METADATA = 1 << 20


class Layout(NamedTuple):
    """What a store holds: arrays by path with their metadata, committed draws, draws per block,
    variables in order.

    ``parts`` ranges of chains are stored in files of their own.
    """

    arrays: dict[str, dict[str, Any]]
    committed: int
    block: int
    variables: list[str]
    parts: int


def check_layout(path: Path) -> Layout:
    """Read and check all metadata of the store at ``path``; raises `RunFolderError` for anything
    unexpected.

    Allowed are regular files and folders, zarr version 3, uncompressed numbers with a checksum,
    chunks along draws and equal ranges of chains alone, of the size their metadata says: so reading
    never needs more memory than the files are long.
    """
    arrays, files = _files(path)
    root = _metadata(path / "zarr.json", "group").get("attributes")
    root = root if isinstance(root, dict) else {}
    committed: Any = root.get("committed")
    variables: Any = root.get("variables")
    if (
        not _is_size(committed)
        or not isinstance(variables, list)
        or not all(isinstance(v, str) for v in variables)
    ):
        raise RunFolderError(
            f"{path} is not a capriole draws store: it does not say what is committed"
        )
    for group in GROUPS:
        _metadata(path / group / "zarr.json", "group")
    found = {name: _metadata(path / name / "zarr.json", "array") for name in arrays}
    for name, metadata in found.items():
        _check_array(path / name, metadata, committed, files)
    blocks = {
        metadata["chunk_grid"]["configuration"]["chunk_shape"][1] for metadata in found.values()
    }
    chains = {metadata["shape"][0] for metadata in found.values()}
    parts = {
        m["shape"][0] // m["chunk_grid"]["configuration"]["chunk_shape"][0] for m in found.values()
    }
    missing = {f"posterior/{name}" for name in variables} - found.keys()
    if len(blocks) != 1 or len(chains) != 1 or len(parts) != 1 or missing or not variables:
        raise RunFolderError(
            f"{path} is not a capriole draws store: its arrays do not belong together"
        )
    return Layout(found, committed, blocks.pop(), variables, parts.pop())


def _files(path: Path) -> tuple[set[str], dict[str, int]]:
    """Array folders, and sizes of chunk files, by path relative to the store."""
    arrays: set[str] = set()
    files: dict[str, int] = {}
    if not path.is_dir() or path.is_symlink():
        raise RunFolderError(f"no draws store at {path}")
    for folder, folders, names in os.walk(path, onerror=_refuse):
        base = Path(folder).relative_to(path).as_posix()
        for name in (*folders, *names):
            status = os.lstat(os.path.join(folder, name))
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise RunFolderError(f"{path} holds {name!r}, which is neither a file nor a folder")
            if name not in folders:
                files[f"{base}/{name}"] = status.st_size
            elif base in GROUPS:
                arrays.add(f"{base}/{name}")
    allowed = {"zarr.json"}
    for name in files:
        parts = name.removeprefix("./").split("/")
        chunk = (
            len(parts) > 3
            and "/".join(parts[:2]) in arrays
            and parts[2] == "c"
            and _is_chunk(parts[3:])
        )
        leftover = name.endswith(".partial") or name.endswith(
            ".tmp"
        )  # of a write that a crash cut short
        if not (chunk or leftover or parts[-1] in allowed):
            raise RunFolderError(f"{path} holds {name!r}, which has no place in a draws store")
    return arrays, files


def _refuse(error: OSError) -> None:
    raise RunFolderError(f"cannot read the draws store: {error}") from error


def _is_chunk(parts: list[str]) -> bool:
    return all(part.isascii() and part.isdigit() for part in parts)


def _metadata(path: Path, kind: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_METADATA:
            raise RunFolderError(f"{path} is too long for metadata")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict) or (content.get("zarr_format"), content.get("node_type")) != (
        3,
        kind,
    ):
        raise RunFolderError(f"{path} is not the metadata of a zarr version 3 {kind}")
    return content


def _check_array(
    path: Path, metadata: dict[str, Any], committed: int, files: dict[str, int]
) -> None:
    def refuse(what: str) -> RunFolderError:
        return RunFolderError(f"{path} is damaged or foreign: {what}")

    grid, kind = metadata.get("chunk_grid"), metadata.get("data_type")
    configuration = (
        grid.get("configuration")
        if isinstance(grid, dict) and grid.get("name") == "regular"
        else None
    )
    shape: Any = metadata.get("shape")
    chunk: Any = configuration.get("chunk_shape") if isinstance(configuration, dict) else None
    if not isinstance(kind, str) or kind not in SIZES:
        raise refuse(f"its data type is {str(kind)[:80]}, expected one of {', '.join(SIZES)}")
    keys = {"name": "default", "configuration": {"separator": "/"}}
    if (
        metadata.get("codecs") != CODECS[SIZES[kind] == 1]
        or metadata.get("chunk_key_encoding") != keys
    ):
        raise refuse("its codecs or chunk keys are not those that capriole writes")
    if metadata.get("storage_transformers") or not _are_sizes(shape) or not _are_sizes(chunk):
        raise refuse(f"its shape {str(shape)[:80]} or chunks {str(chunk)[:80]} cannot be")
    if len(shape) != len(chunk) or len(shape) < 2 or 0 in chunk or shape[2:] != chunk[2:]:
        raise refuse(f"its chunks {chunk} do not fit its shape {shape}")
    if not shape[0] or shape[0] % chunk[0]:
        raise refuse(f"its {shape[0]} chains are not whole parts of {chunk[0]}")
    if shape[1] < committed:
        raise refuse(f"it holds {shape[1]} draws, but {committed} are committed")
    size = math.prod(chunk) * SIZES[kind] + CHECKSUM
    relative = f"{path.parent.name}/{path.name}/c"
    tail = "/0" * (len(shape) - 2)
    for part in range(shape[0] // chunk[0] if committed else 0):
        for block in range(-(-committed // chunk[1])):
            if files.get(f"{relative}/{part}/{block}{tail}") != size:
                raise refuse(f"block {block} of its draws is missing or has the wrong length")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(_is_size(value) for value in values)
