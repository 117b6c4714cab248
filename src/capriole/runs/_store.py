"""Draws on disk: a zarr store that grows block by block and says, last, how much of it counts."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from .._container import Arrays, flush_folder, write_atomically
from ._errors import RunFolderError
from ._layout import GROUPS, Layout, check_layout

if TYPE_CHECKING:
    import xarray

BLOCK_BYTES = 16 << 20


class DrawStore:
    """Groups ``posterior`` and ``sample_stats`` of arrays (chain, draw, ...), as ArviZ names them.

    The root's attribute ``committed`` counts the draws that are whole on disk; it is written after them, so whatever
    lies beyond is what a crash left. Numbers are stored plainly, each block with a checksum that reading verifies.
    """

    def __init__(self, path: Path, layout: Layout, mode: Literal["r", "r+"]):
        import zarr

        self.path, self.layout, self.committed = path, layout, layout.committed
        with _foreign_is_damaged(path), zarr.config.set({"array.write_empty_chunks": True}):  # blocks of zeros as well
            root = zarr.open_group(path, mode=mode, zarr_format=3)
            self._arrays: dict[str, Any] = {name: root[name] for name in layout.arrays}

    @classmethod
    def create(cls, path: Path, posterior: Arrays, sample_stats: Arrays, *, num_draws: int) -> Self:
        """An empty store for draws shaped like these examples (chains, draws, ...); replaces an old one.

        A block is as long as ``num_draws``, the number expected, or as fits into 16 MB.
        """
        import zarr
        from zarr.codecs import Crc32cCodec

        shutil.rmtree(path, ignore_errors=True)
        try:
            examples = {f"posterior/{k}": v for k, v in posterior.items()}
            examples |= {f"sample_stats/{k}": v for k, v in sample_stats.items()}
            per_draw = sum(example[:, 0].nbytes for example in examples.values())
            block = max(1, min(num_draws, BLOCK_BYTES // per_draw))
            root = zarr.open_group(path, mode="w", zarr_format=3)
            for group in GROUPS:
                root.create_group(group)
            for name, example in examples.items():
                chains, _, *rest = example.shape
                root.create_array(
                    name,
                    shape=(chains, 0, *rest),
                    chunks=(chains, block, *rest),
                    dtype=example.dtype,
                    compressors=[Crc32cCodec()],
                    dimension_names=("chain", "draw", *(f"{Path(name).name}_dim_{i}" for i in range(len(rest)))),
                )
            _write_root(path, committed=0, variables=list(posterior))
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error.strerror or error}") from error
        return cls(path, check_layout(path), "r+")

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Self:
        """The store at ``path``, checked. Raises `RunFolderError` if it is missing, damaged or foreign.

        Opening it for writing removes the unfinished files that a crash left.
        """
        if write:
            for leftover in (*path.rglob("*.partial"), *path.rglob(".*.tmp")):
                leftover.unlink()
        return cls(path, check_layout(path), "r+" if write else "r")

    @property
    def block(self) -> int:
        """Draws per block: the largest number that is worth holding in memory."""
        return self.layout.block

    def trim(self, num_draws: int) -> None:
        """Drop everything beyond the first ``num_draws`` draws, committed or not."""
        if num_draws > self.committed:
            raise RunFolderError(f"{self.path} holds {self.committed} draws, the checkpoint asks for {num_draws}")
        try:
            if num_draws < self.committed:
                self._commit(num_draws)
            for array in self._arrays.values():
                if array.shape[1] > num_draws:
                    array.resize((array.shape[0], num_draws, *array.shape[2:]))
        except OSError as error:
            raise RunFolderError(f"cannot trim {self.path}: {error.strerror or error}") from error

    def append(self, posterior: Arrays, sample_stats: Arrays) -> None:
        """Write draws (chains, draws, ...) behind the committed ones, flush them, and only then commit them.

        Raises `RunFolderError` if the disk does not take them; the draws committed before are untouched.
        """
        values = {f"posterior/{k}": v for k, v in posterior.items()}
        values |= {f"sample_stats/{k}": v for k, v in sample_stats.items()}
        start = self.committed
        stop = start + next(iter(values.values())).shape[1]
        try:
            for name, array in self._arrays.items():
                array.resize((array.shape[0], stop, *array.shape[2:]))
                array[:, start:stop] = values[name]
                self._flush(name, range(start // self.block, -(-stop // self.block)))
            self._commit(stop)
        except OSError as error:
            raise RunFolderError(
                f"cannot write draws to {self.path}: {error.strerror or error}; the first {start} draws per chain are "
                "safe and readable; free some space and resume"
            ) from error

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Committed draws ``start`` to ``stop`` of an array such as ``sample_stats/lp`` (chains, draws, ...)."""
        stop = self.committed if stop is None else min(stop, self.committed)
        with _foreign_is_damaged(self.path):
            return np.asarray(self._arrays[name][:, start:stop])

    def read_position(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Flat positions (chains, draws, dim): the variables side by side, in their order."""
        parts = [self.read(f"posterior/{name}", start, stop) for name in self.layout.variables]
        return np.concatenate([part.reshape(*part.shape[:2], math.prod(part.shape[2:])) for part in parts], axis=2)

    def blocks(self, names: tuple[str, ...], start: int = 0) -> Iterator[Arrays]:
        """The statistics ``names`` from draw ``start`` on, a block at a time."""
        for first in range(start, self.committed, self.block):
            yield {name: self.read(f"sample_stats/{name}", first, first + self.block) for name in names}

    def annotate(self, attributes: dict[str, Any]) -> None:
        """Set the attributes of both groups."""
        for group in GROUPS:
            content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            write_atomically(self.path / group / "zarr.json", json.dumps(content).encode())

    def _commit(self, committed: int) -> None:
        _write_root(self.path, committed=committed, variables=self.layout.variables)
        self.committed = committed

    def _flush(self, name: str, blocks: range) -> None:
        tail = ["0"] * (self._arrays[name].ndim - 2)
        for block in blocks:
            path = self.path.joinpath(name, "c", "0", str(block), *tail)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            flush_folder(path.parent)


def open_draws(path: str | os.PathLike) -> "xarray.DataTree":
    """The committed draws of a run, lazily, as an ArviZ DataTree; ``path`` is a run folder or its ``draws.zarr``.

    Nothing in the store is executed or believed before it is checked. Raises `RunFolderError` if it is not sound.
    """
    import xarray

    path = Path(path)
    path = path / "draws.zarr" if (path / "draws.zarr").is_dir() else path
    committed = check_layout(path).committed
    with _foreign_is_damaged(path):
        tree = xarray.open_datatree(path, engine="zarr", consolidated=False, decode_cf=False, chunks=None)
        return tree.isel(draw=slice(committed))


@contextlib.contextmanager
def _foreign_is_damaged(path: Path) -> Iterator[None]:
    """Whatever zarr and xarray raise over a store that passed the checks is one error to the user."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, RuntimeError) as error:
        raise RunFolderError(f"{path} is damaged or foreign: {type(error).__name__} {str(error)[:200]}") from error


def _write_root(path: Path, *, committed: int, variables: list[str]) -> None:
    attributes = {"committed": committed, "variables": variables}
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_atomically(path / "zarr.json", json.dumps(content).encode())
