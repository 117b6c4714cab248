"""Blocks of draws: the chunk files of a zarr array, written directly, since zarr has no way to
flush what it writes.
"""

import math
from pathlib import Path

import numpy as np

from ..runtime import flush_folder, write_atomically
from ._errors import RunFolderError

CHECKSUM = 4


def write_block(path: Path, first: int, values: np.ndarray, length: int) -> None:
    """Put ``values`` (chains, draws, ...) at draw ``first`` of the block file ``path``, which holds
    ``length`` draws.

    Draws before ``first`` stay. The file is replaced as a whole and is on disk when this returns.
    Raises `RunFolderError` if what is there already is damaged, OSError if the disk does not take
    it.
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
    import google_crc32c

    size = math.prod(shape) * dtype.itemsize
    if not path.is_file() or path.stat().st_size != size + CHECKSUM:
        raise RunFolderError(f"{path} is missing or has the wrong length")
    content = path.read_bytes()
    if google_crc32c.value(content[:size]) != int.from_bytes(content[size:], "little"):
        raise RunFolderError(f"{path} is damaged: its checksum does not match its draws")
    return np.frombuffer(content[:size], dtype.newbyteorder("<")).reshape(shape)
