"""The layout of a draws store on disk: its metadata, and the block files of its arrays.

All metadata is checked before anything reads the store, so no file in it can run code or fill
memory. Blocks are the chunk files of zarr arrays. They are written here, because zarr cannot flush
what it writes.
"""

import contextlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime import Arrays, flush_folder, write_atomically
from ._files import RunFolderError, read_json

SIZES = {"bool": 1, "int8": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8}
"""Bytes per number of the dtypes that a store may hold."""
CODECS = (
    [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    [{"name": "bytes"}, {"name": "crc32c"}],
)
"""Zarr's codecs that capriole writes: for numbers of several bytes, and for single bytes."""
GROUPS = ("posterior", "sample_stats")
"""ArviZ's names of the two groups of every store."""
UNCONSTRAINED = "unconstrained_posterior"
"""The group of positions of a model whose variables are constrained."""
MAX_METADATA = 1 << 20
"""Bytes of the largest metadata file that is read; real ones have about a thousand."""
CHECKSUM = 4
"""Bytes of the CRC-32C at the end of every block file."""


class Layout(NamedTuple):
    """What a store holds.

    Attributes:
        arrays: metadata of every array, by path, such as ``posterior/x``.
        committed: number of draws that are whole on disk.
        block: draws per block file.
        variables: names of the arrays that make a position, in their order.
        parts: equal ranges of chains that have block files of their own.
    """

    arrays: dict[str, dict[str, Any]]
    committed: int
    block: int
    variables: list[str]
    parts: int

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that are there."""
        found = {name.split("/")[0] for name in self.arrays}
        return (*GROUPS, UNCONSTRAINED) if UNCONSTRAINED in found else GROUPS

    @property
    def positions(self) -> str:
        """The group that ``variables`` are of."""
        return UNCONSTRAINED if UNCONSTRAINED in self.groups else "posterior"


def check_layout(path: Path) -> Layout:
    """Read and check all metadata of the store at ``path``.

    Allowed are regular files and folders, zarr version 3, and uncompressed numbers with a checksum.
    Chunks divide draws, and chains into equal ranges, and nothing else. Chunk files have the size
    that their metadata says, so reading needs no more memory than the files are long. Raises
    `RunFolderError` for anything else.
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
    has_more = any(name.startswith(f"{UNCONSTRAINED}/") for name in arrays)
    for group in (*GROUPS, *([UNCONSTRAINED] if has_more else [])):
        _metadata(path / group / "zarr.json", "group")
    found = {name: _metadata(path / name / "zarr.json", "array") for name in arrays}
    found = {name: m for name, m in found.items() if not _is_coordinate(path / name, m)}
    for name, metadata in found.items():
        _check_array(path / name, metadata, committed, files)
    blocks = {
        metadata["chunk_grid"]["configuration"]["chunk_shape"][1] for metadata in found.values()
    }
    chains = {metadata["shape"][0] for metadata in found.values()}
    parts = {
        m["shape"][0] // m["chunk_grid"]["configuration"]["chunk_shape"][0] for m in found.values()
    }
    positions = UNCONSTRAINED if has_more else "posterior"
    missing = {f"{positions}/{name}" for name in variables} - found.keys()
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
            elif base in (*GROUPS, UNCONSTRAINED):
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
        leftover = name.endswith((".partial", ".tmp"))  # of a write that a crash cut short
        if not (chunk or leftover or parts[-1] in allowed):
            raise RunFolderError(f"{path} holds {name!r}, which has no place in a draws store")
    return arrays, files


def _refuse(error: OSError) -> None:
    """Raise the `RunFolderError` of a folder that cannot be listed."""
    raise RunFolderError(f"cannot read the draws store: {error}") from error


def _is_chunk(parts: list[str]) -> bool:
    """Whether the names of a path are the indices of a chunk."""
    return all(part.isascii() and part.isdigit() for part in parts)


def _metadata(path: Path, kind: str) -> dict[str, Any]:
    """Zarr's metadata of a ``group`` or an ``array``."""
    content = read_json(path, max_bytes=MAX_METADATA)
    if (content.get("zarr_format"), content.get("node_type")) != (3, kind):
        raise RunFolderError(f"{path} is not the metadata of a zarr version 3 {kind}")
    return content


def _is_coordinate(path: Path, metadata: dict[str, Any]) -> bool:
    """Whether an array is a coordinate, which has one axis and is never read here.

    Raises `RunFolderError` for one that capriole would not write.
    """
    shape = metadata.get("shape")
    if not isinstance(shape, list) or len(shape) != 1:
        return False
    sound = metadata.get("data_type") == "int64" and metadata.get("codecs") == CODECS[0]
    sound &= metadata.get("dimension_names") == [path.name] and _are_sizes(shape)
    if not sound or metadata.get("storage_transformers"):
        raise RunFolderError(f"{path} is damaged or foreign: it is no coordinate of draws")
    return True


def _check_array(
    path: Path, metadata: dict[str, Any], committed: int, files: dict[str, int]
) -> None:
    """Raise `RunFolderError` unless an array's metadata and files are as capriole writes them."""

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
    names = metadata.get("dimension_names")
    if names is not None and not (isinstance(names, list) and all(map(_is_name, names))):
        raise refuse(f"its axes have names that cannot be: {str(names)[:80]}")
    size = math.prod(chunk) * SIZES[kind] + CHECKSUM
    relative = f"{path.parent.name}/{path.name}/c"
    tail = "/0" * (len(shape) - 2)
    for part in range(shape[0] // chunk[0] if committed else 0):
        for block in range(-(-committed // chunk[1])):
            if files.get(f"{relative}/{part}/{block}{tail}") != size:
                raise refuse(f"block {block} of its draws is missing or has the wrong length")


def _is_name(value: object) -> bool:
    """Whether a value from JSON may be the name of a folder in a group."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\0")


def _is_size(value: object) -> bool:
    """Whether a value from JSON is a whole number that a size may have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _are_sizes(values: object) -> bool:
    """Whether a value from JSON is a list of such numbers."""
    return isinstance(values, list) and all(_is_size(value) for value in values)


def write_block(path: Path, first: int, values: np.ndarray, length: int) -> None:
    """Write ``values`` (chains, draws, ...) at draw ``first`` of a block file of ``length`` draws.

    Draws before ``first`` stay. The file is replaced as a whole, and it is on disk when this
    returns. Raises `RunFolderError` if the existing file is damaged, OSError if the disk refuses.
    """
    import google_crc32c

    chains, draws, *rest = values.shape
    block = np.ascontiguousarray(values)
    if draws < length:
        block = np.zeros((chains, length, *rest), values.dtype)
        if first:
            block[:, :first] = _read_block(path, block.shape, block.dtype)[:, :first]
        block[:, first : first + draws] = values
    content = block.astype(block.dtype.newbyteorder("<"), copy=False).reshape(-1).view("u1")
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.data, google_crc32c.value(content).to_bytes(CHECKSUM, "little"))
    for folder in made:
        flush_folder(folder.parent)


def _read_block(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The numbers of a block file, after its length and its checksum are checked."""
    import google_crc32c

    size = math.prod(shape) * dtype.itemsize
    if not path.is_file() or path.stat().st_size != size + CHECKSUM:
        raise RunFolderError(f"{path} is missing or has the wrong length")
    content = path.read_bytes()
    if google_crc32c.value(content[:size]) != int.from_bytes(content[size:], "little"):
        raise RunFolderError(f"{path} is damaged: its checksum does not match its draws")
    return np.frombuffer(content[:size], dtype.newbyteorder("<")).reshape(shape)


def is_store_file(name: str) -> bool:
    """Whether ``name`` is a file or folder of a store, or of a write that a crash cut short."""
    return (
        name in ("zarr.json", *GROUPS, UNCONSTRAINED)
        or name.startswith(".")
        or name.endswith(".partial")
    )


def remove_blocks(path: Path, kept: int) -> None:
    """Remove all block files from number ``kept`` on."""
    for file in [
        file for part in path.glob("*") for file in part.iterdir() if int(file.name) >= kept
    ]:
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()


@contextlib.contextmanager
def as_run_folder_error(path: Path) -> Iterator[None]:
    """Turn whatever zarr and xarray raise over a checked store into one `RunFolderError`."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        OSError,
        RuntimeError,
    ) as error:
        raise RunFolderError(
            f"{path} is damaged or foreign: {type(error).__name__} {str(error)[:200]}"
        ) from error


def write_group(
    path: Path, attributes: dict[str, Any], consolidated: dict[str, Any] | None = None
) -> None:
    """Write the metadata of a group; the root's attributes say how many draws count.

    The root may hold all metadata of the store, ``consolidated``.
    """
    content: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    content |= {"consolidated_metadata": consolidated} if consolidated else {}
    write_atomically(path / "zarr.json", json.dumps(content).encode())


def by_path(groups: Mapping[str, Arrays]) -> Arrays:
    """Arrays of all groups by their path in the store."""
    return {
        f"{group}/{n}": array for group, arrays in groups.items() for n, array in arrays.items()
    }
