"""Draws on disk: a zarr store that grows block by block and says, last, how much of it counts."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..runtime import Arrays, is_first_process, require, write_atomically
from ._blocks import write_block
from ._errors import RunFolderError
from ._layout import GROUPS, Layout, check_layout

if TYPE_CHECKING:
    import xarray

BLOCK_BYTES = 16 << 20


def _may_be_ours(name: str) -> bool:
    """Whether a store has a file or folder of that name, or a write that a crash cut short left it."""
    return name in ("zarr.json", *GROUPS) or name.startswith(".") or name.endswith(".partial")


class DrawStore:
    """Groups ``posterior`` and ``sample_stats`` of arrays (chain, draw, ...), as ArviZ names them.

    The root's attribute ``committed`` counts the draws that are whole on disk; it is written after
    them, so whatever lies beyond is what a crash left. Numbers are stored plainly, each block with
    a checksum that reading verifies.
    """

    def __init__(self, path: Path, layout: Layout, mode: Literal["r", "r+"]):

        self.path, self.layout, self.committed, self._mode = path, layout, layout.committed, mode
        self._open()

    def _open(self) -> None:
        require("zarr", "runs")
        import zarr

        with _foreign_is_damaged(self.path):
            root = zarr.open_group(self.path, mode=self._mode, zarr_format=3)
            self._arrays: dict[str, Any] = {name: root[name] for name in self.layout.arrays}

    @classmethod
    def create(
        cls,
        path: Path,
        posterior: Arrays,
        sample_stats: Arrays,
        *,
        num_draws: int,
        parts: int = 1,
        chunk_size: int = 1,
    ) -> Self:
        """An empty store for ``num_draws`` draws shaped like these examples (chains, draws, ...);
        replaces an old one.

        A block is as long as ``num_draws``, or as fits into 16 MB, then a multiple of the
        ``chunk_size`` in which draws come, if it holds one: what fills a block is written once,
        what straddles two is read and written again. With several ``parts`` the store has that many
        times the chains of the examples, and each part is written on its own (by a process of its
        own).
        """
        require("zarr", "runs")
        import zarr
        from zarr.codecs import Crc32cCodec

        if path.is_file() or (
            path.is_dir() and not all(_may_be_ours(part.name) for part in path.iterdir())
        ):
            raise RunFolderError(
                f"{path} is there and no store of draws: it is not replaced; choose another place"
            )
        shutil.rmtree(path, ignore_errors=True)
        try:
            examples = {f"posterior/{k}": v for k, v in posterior.items()}
            examples |= {f"sample_stats/{k}": v for k, v in sample_stats.items()}
            per_draw = sum(example[:, 0].nbytes for example in examples.values())
            fitting = BLOCK_BYTES // per_draw
            fitting -= fitting % chunk_size if fitting > chunk_size else 0
            block = max(1, min(num_draws, fitting))
            root = zarr.open_group(path, mode="w", zarr_format=3)
            for group in GROUPS:
                root.create_group(group)
            for name, example in examples.items():
                chains, _, *rest = example.shape
                root.create_array(
                    name,
                    shape=(chains * parts, num_draws, *rest),
                    chunks=(chains, block, *rest),
                    dtype=example.dtype,
                    compressors=[Crc32cCodec()],
                    dimension_names=(
                        "chain",
                        "draw",
                        *(f"{Path(name).name}_dim_{i}" for i in range(len(rest))),
                    ),
                )
            _write_root(path, committed=0, variables=list(posterior))
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error.strerror or error}") from error
        return cls(path, check_layout(path), "r+")

    @classmethod
    def open(cls, path: str | os.PathLike, *, write: bool = False) -> Self:
        """The store at ``path``, checked. Raises `RunFolderError` if it is missing, damaged or
        foreign.

        Opening it for writing removes the unfinished files that a crash left.
        """
        path = Path(path)
        if write:
            for leftover in (*path.rglob("*.partial"), *path.rglob(".*.tmp")):
                leftover.unlink()
        return cls(path, check_layout(path), "r+" if write else "r")

    @property
    def block(self) -> int:
        """Draws per block: the largest number that is worth holding in memory."""
        return self.layout.block

    def reserve(self, num_draws: int) -> None:
        """Make the arrays ``num_draws`` long, at least; what is not committed reads as zeros or
        what a crash left.
        """
        self._resize(lambda length: max(length, num_draws))

    def trim(self, num_draws: int) -> None:
        """Drop everything beyond the first ``num_draws`` draws, committed or not."""
        if num_draws > self.committed:
            raise RunFolderError(
                f"{self.path} holds {self.committed} draws, the checkpoint asks for {num_draws}"
            )
        if num_draws < self.committed:
            self.commit(num_draws)
        self._resize(lambda length: min(length, num_draws))

    def append(self, posterior: Arrays, sample_stats: Arrays) -> None:
        """Write draws (chains, draws, ...) behind the committed ones, flush them, and only then
        commit them.

        Raises `RunFolderError` if the disk does not take them; the draws committed before are
        untouched.
        """
        self.commit(self.write(posterior, sample_stats))

    def write(self, posterior: Arrays, sample_stats: Arrays, *, part: int = 0) -> int:
        """Write and flush draws of one part of the chains, as `append`; return the number to
        `commit` if all did.
        """
        values = {f"posterior/{k}": v for k, v in posterior.items()}
        values |= {f"sample_stats/{k}": v for k, v in sample_stats.items()}
        start = self.committed
        stop = start + next(iter(values.values())).shape[1]
        with self._refusal("write draws to"):
            for name in self.layout.arrays:
                for block in range(start // self.block, -(-stop // self.block)):
                    first, last = (
                        max(start, block * self.block),
                        min(stop, (block + 1) * self.block),
                    )
                    path = self.path.joinpath(
                        name, "c", str(part), str(block), *["0"] * (values[name].ndim - 2)
                    )
                    draws = values[name][:, first - start : last - start]
                    write_block(path, first - block * self.block, draws, self.block)
        return stop

    def commit(self, committed: int, *, follow: bool = False) -> None:
        """Say that the first ``committed`` draws are there, on disk, in all parts; ``follow``:
        another process does.
        """
        if not follow:
            if max(array["shape"][1] for array in self.layout.arrays.values()) < committed:
                self.reserve(committed)
            with self._refusal("commit draws to"):
                _write_root(self.path, committed=committed, variables=self.layout.variables)
        self.committed = committed

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Committed draws ``start`` to ``stop`` of an array such as ``sample_stats/lp`` (chains,
        draws, ...).
        """
        stop = self.committed if stop is None else min(stop, self.committed)
        with _foreign_is_damaged(self.path):
            return np.asarray(self._arrays[name][:, start:stop])

    def read_position(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Flat positions (chains, draws, dim): the variables side by side, in their order."""
        parts = [self.read(f"posterior/{name}", start, stop) for name in self.layout.variables]
        return np.concatenate(
            [part.reshape(*part.shape[:2], math.prod(part.shape[2:])) for part in parts], axis=2
        )

    def blocks(self, names: tuple[str, ...], start: int = 0) -> Iterator[Arrays]:
        """The statistics ``names`` from draw ``start`` on, a block at a time."""
        for first in range(start, self.committed, self.block):
            yield {
                name: self.read(f"sample_stats/{name}", first, first + self.block) for name in names
            }

    def annotate(self, attributes: dict[str, Any]) -> None:
        """Set the attributes of both groups (the first process does)."""
        if not is_first_process():
            return
        for group in GROUPS:
            content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            write_atomically(self.path / group / "zarr.json", json.dumps(content).encode())

    def _resize(self, new_length: Callable[[int], int]) -> None:
        """Change the length of all arrays, and remove blocks that lie beyond it."""
        changed = False
        with self._refusal("change the length of"):
            for name, metadata in self.layout.arrays.items():
                chains, length, *rest = metadata["shape"]
                wanted = new_length(length)
                if wanted == length:
                    continue
                changed, metadata["shape"] = True, [chains, wanted, *rest]
                write_atomically(self.path / name / "zarr.json", json.dumps(metadata).encode())
                if wanted < length:
                    _remove_blocks(self.path / name / "c", -(-wanted // self.block))
        if changed:
            self._open()

    @contextlib.contextmanager
    def _refusal(self, what: str) -> Iterator[None]:
        try:
            yield
        except RunFolderError:
            raise
        except OSError as error:
            raise RunFolderError(
                f"cannot {what} {self.path}: {error.strerror or error}; the first {self.committed} "
                "draws per chain are "
                "safe and readable; free some space and resume"
            ) from error


def _remove_blocks(path: Path, kept: int) -> None:
    for file in [
        file for part in path.glob("*") for file in part.iterdir() if int(file.name) >= kept
    ]:
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()


def open_draws(path: str | os.PathLike) -> "xarray.DataTree":
    """The committed draws of a run, lazily, as an ArviZ DataTree; ``path`` is a run folder or its
    ``draws.zarr``.

    Nothing in the store is executed or believed before it is checked. Raises `RunFolderError` if it
    is not sound.
    """
    import xarray

    path = Path(path)
    path = path / "draws.zarr" if (path / "draws.zarr").is_dir() else path
    require("zarr", "runs")
    layout = check_layout(path)
    options: dict[str, Any] = {
        "engine": "zarr",
        "consolidated": False,
        "decode_cf": False,
        "chunks": None,
    }
    with _foreign_is_damaged(path):
        if len({metadata["shape"][1] for metadata in layout.arrays.values()}) == 1:
            return xarray.open_datatree(path, **options).isel(draw=slice(layout.committed))
        # A crash, or a full disk, while the lengths were changed: xarray wants them equal, so one
        # array at a time.
        groups: dict[str, list[xarray.Dataset]] = {group: [] for group in GROUPS}
        for group, name in (array.split("/") for array in layout.arrays):
            others = [other.split("/")[1] for other in layout.arrays if other != f"{group}/{name}"]
            found = xarray.open_dataset(path / group, drop_variables=others, **options)
            groups[group].append(found.isel(draw=slice(layout.committed)))
        merged = {
            group: xarray.merge(parts, combine_attrs="override") for group, parts in groups.items()
        }
        return xarray.DataTree.from_dict(merged)


@contextlib.contextmanager
def _foreign_is_damaged(path: Path) -> Iterator[None]:
    """Whatever zarr and xarray raise over a store that passed the checks is one error to the user."""
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


def _write_root(path: Path, *, committed: int, variables: list[str]) -> None:
    attributes = {"committed": committed, "variables": variables}
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_atomically(path / "zarr.json", json.dumps(content).encode())
