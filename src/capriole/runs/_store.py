"""Draws on disk: a zarr store that grows block by block.

How many of its draws count is written last, after the draws themselves.
"""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..models import dimension_names
from ..runtime import Arrays, is_first_process, require, write_atomically
from ._coordinates import (
    attributes_of,
    consolidated,
    coordinates_of,
    write_coordinates,
)
from ._files import RunFolderError
from ._layout import (
    GROUPS,
    UNCONSTRAINED,
    Layout,
    as_run_folder_error,
    by_path,
    check_layout,
    is_store_file,
    remove_blocks,
    write_block,
    write_group,
)

if TYPE_CHECKING:
    import xarray

BLOCK_BYTES = 16 << 20
"""Bytes of a block of draws, all arrays together: two of them fit easily into memory."""


class DrawStore:
    """Draws on disk, in groups ``posterior`` and ``sample_stats`` of arrays (chain, draw, ...).

    Draws of a model are in its own variables. Its positions, which a run needs to go on, are then
    in ``unconstrained_posterior``.

    The root's attribute ``committed`` counts the draws that are whole on disk. It is written after
    them, so whatever lies beyond is the remainder of a crash. Numbers are stored uncompressed, each
    block with a checksum that reading verifies. What writes raises `RunFolderError` if the disk
    refuses; the draws committed before are then unchanged.

    Attributes:
        path: the store's folder, such as ``draws.zarr``.
        layout: its checked metadata.
        committed: number of draws per chain that are whole on disk.
    """

    def __init__(self, path: Path, layout: Layout, mode: Literal["r", "r+"]):
        self.path, self.layout, self.committed, self._mode = path, layout, layout.committed, mode
        self._open()

    def _open(self) -> None:
        """Open the arrays with the lengths that they have now."""
        require("zarr", "runs")
        import zarr

        with as_run_folder_error(self.path):
            options: dict[str, Any] = {"zarr_format": 3, "use_consolidated": False}
            root = zarr.open_group(self.path, mode=self._mode, **options)
            self._arrays: dict[str, Any] = {name: root[name] for name in self.layout.arrays}

    @classmethod
    def create(
        cls,
        path: Path,
        groups: Mapping[str, Arrays],
        *,
        num_draws: int,
        parts: int = 1,
        chunk_size: int = 1,
    ) -> Self:
        """Make an empty store, in place of the old one if there is one.

        A block holds ``num_draws``, or as many draws as `BLOCK_BYTES` hold. In the latter case it
        is a multiple of ``chunk_size`` if it holds a whole chunk: a chunk that fills a block is
        written once, and a chunk across two blocks is read and written again.

        Args:
            path: the store's folder.
            groups: examples of the arrays of ``posterior``, ``sample_stats`` and, of a model with
                variables of its own, ``unconstrained_posterior``, shape (chains, draws, ...).
            num_draws: draws per chain to make room for.
            parts: ranges of chains that are written separately, one by each process. The store has
                ``parts`` times the chains of the examples.
            chunk_size: draws that will be written at once.

        Returns:
            The store, open for writing.

        Raises:
            RunFolderError: ``path`` holds something else, or the disk refuses.
        """
        require("zarr", "runs")
        import zarr
        from zarr.codecs import Crc32cCodec

        if path.is_file() or (
            path.is_dir() and not all(is_store_file(part.name) for part in path.iterdir())
        ):
            raise RunFolderError(
                f"{path} is there and no store of draws: it is not replaced; choose another place"
            )
        shutil.rmtree(path, ignore_errors=True)
        try:
            examples = by_path(groups)
            per_draw = sum(example[:, 0].nbytes for example in examples.values())
            fitting = BLOCK_BYTES // per_draw
            fitting -= fitting % chunk_size if fitting > chunk_size else 0
            block = max(1, min(num_draws, fitting))
            root = zarr.open_group(path, mode="w", zarr_format=3)
            for group in dict.fromkeys((*GROUPS, *groups)):
                root.create_group(group)
            axes = {
                f"{group}/{name}": names
                for group, arrays in groups.items()
                for name, names in dimension_names(
                    {name: array.shape[2:] for name, array in arrays.items()}
                ).items()
            }
            for name, example in examples.items():
                chains, _, *rest = example.shape
                root.create_array(
                    name,
                    shape=(chains * parts, num_draws, *rest),
                    chunks=(chains, block, *rest),
                    dtype=example.dtype,
                    compressors=[Crc32cCodec()],
                    dimension_names=("chain", "draw", *axes[name]),
                    attributes=attributes_of(example.dtype),
                )
            positions = groups.get(UNCONSTRAINED) or groups["posterior"]
            write_group(path, {"committed": 0, "variables": list(positions)})
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error.strerror or error}") from error
        return cls(path, check_layout(path), "r+")

    @classmethod
    def open(cls, path: str | os.PathLike, *, write: bool = False) -> Self:
        """Open a store after checking all its metadata.

        Args:
            path: the store's folder.
            write: whether to open for writing; this removes the unfinished files of a crash.

        Returns:
            The store.

        Raises:
            RunFolderError: the store is missing, damaged, or not capriole's.
        """
        path = Path(path)
        if write:
            for leftover in (*path.rglob("*.partial"), *path.rglob(".*.tmp")):
                leftover.unlink()
        return cls(path, check_layout(path), "r+" if write else "r")

    @property
    def block(self) -> int:
        """Draws per block file."""
        return self.layout.block

    def reserve(self, num_draws: int) -> None:
        """Make the arrays at least ``num_draws`` long; the content of uncommitted draws is open.

        Args:
            num_draws: draws per chain.
        """
        self._resize(lambda length: max(length, num_draws))

    def trim(self, num_draws: int) -> None:
        """Drop everything beyond the first ``num_draws`` draws, committed or not.

        Args:
            num_draws: draws per chain that stay.

        Raises:
            RunFolderError: fewer are committed, or the disk refuses.
        """
        if num_draws > self.committed:
            raise RunFolderError(
                f"{self.path} holds {self.committed} draws, the checkpoint asks for {num_draws}"
            )
        if num_draws < self.committed:
            self.commit(num_draws)
        self._resize(lambda length: min(length, num_draws))

    def append(self, groups: Mapping[str, Arrays]) -> None:
        """`write` draws of all chains behind the committed ones, and only then `commit` them."""
        self.commit(self.write(groups))

    def write(self, groups: Mapping[str, Arrays], *, part: int = 0) -> int:
        """Write and flush draws of one part of the chains, without committing them.

        Args:
            groups: arrays of shape (chains of the part, draws, ...), by name, of every group.
            part: index of the part.

        Returns:
            The number of draws to `commit` when all parts are written.
        """
        values = by_path(groups)
        start = self.committed
        stop = start + next(iter(values.values())).shape[1]
        with self._disk_errors("write draws to"):
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
        """Record that the first draws are whole on disk in all parts.

        Args:
            committed: number of those draws per chain.
            follow: only remember the number, because another process records it.
        """
        if not follow:
            if max(array["shape"][1] for array in self.layout.arrays.values()) < committed:
                self.reserve(committed)
            with self._disk_errors("commit draws to"):
                write_group(self.path, self._root(committed))
        self.committed = committed

    def _root(self, committed: int) -> dict[str, Any]:
        return {"committed": committed, "variables": self.layout.variables}

    def finish(self) -> None:
        """Make the store readable to any ArviZ, until more draws are written.

        Coordinates are written, and all metadata into the root. Only the first process does it.
        """
        if not is_first_process():
            return
        with self._disk_errors("finish"):
            arrays = self.layout.arrays | write_coordinates(self.path, self.layout)
            every = consolidated(self.path, arrays)
            write_group(self.path, self._root(self.committed), every)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Committed draws of one array.

        Args:
            name: the array's path, such as ``sample_stats/lp``.
            start: first draw.
            stop: draw after the last; None: the end.

        Returns:
            An array of shape (chains, draws, ...).

        Raises:
            RunFolderError: the store is damaged.
        """
        stop = self.committed if stop is None else min(stop, self.committed)
        with as_run_folder_error(self.path):
            return np.asarray(self._arrays[name][:, start:stop])

    def read_position(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Committed draws as flat positions (chains, draws, dim): the variables side by side.

        Arguments and errors are those of `read`.
        """
        group = self.layout.positions
        parts = [self.read(f"{group}/{name}", start, stop) for name in self.layout.variables]
        return np.concatenate(
            [part.reshape(*part.shape[:2], math.prod(part.shape[2:])) for part in parts], axis=2
        )

    def blocks(self, names: tuple[str, ...], start: int = 0) -> Iterator[Arrays]:
        """Statistics of committed draws, one block at a time.

        Args:
            names: statistics such as ``lp``.
            start: first draw.

        Yields:
            Arrays of shape (chains, draws, ...), by name.
        """
        for first in range(start, self.committed, self.block):
            yield {
                name: self.read(f"sample_stats/{name}", first, first + self.block) for name in names
            }

    def annotate(self, attributes: dict[str, Any]) -> None:
        """Set the attributes of all groups and `finish`; only the first process writes them.

        Args:
            attributes: values that JSON can hold.
        """
        if is_first_process():
            for group in self.layout.groups:
                write_group(self.path / group, attributes)
            self.finish()

    def _resize(self, new_length: Callable[[int], int]) -> None:
        """Change the length of all arrays, and remove blocks that lie beyond it."""
        changed = False
        with self._disk_errors("change the length of"):
            for name, metadata in self.layout.arrays.items():
                chains, length, *rest = metadata["shape"]
                wanted = new_length(length)
                if wanted == length:
                    continue
                changed, metadata["shape"] = True, [chains, wanted, *rest]
                write_atomically(self.path / name / "zarr.json", json.dumps(metadata).encode())
                if wanted < length:
                    remove_blocks(self.path / name / "c", -(-wanted // self.block))
            if changed:
                write_coordinates(self.path, self.layout)
        if changed:
            self._open()

    @contextlib.contextmanager
    def _disk_errors(self, what: str) -> Iterator[None]:
        """Turn the disk's refusal into a `RunFolderError` that says what is safe."""
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


def open_draws(path: str | os.PathLike) -> "xarray.DataTree":
    """Open the committed draws of a run as a lazy ArviZ DataTree, in float64.

    All metadata is checked first, and nothing in the store is executed.

    Args:
        path: a run folder, or its ``draws.zarr``.

    Returns:
        The tree, with groups ``posterior`` and ``sample_stats``, and ``unconstrained_posterior`` of
        a model with variables of its own.

    Raises:
        RunFolderError: the store is missing, damaged, or not capriole's.
    """
    import xarray

    path = Path(path)
    path = path / "draws.zarr" if (path / "draws.zarr").is_dir() else path
    require("zarr", "runs")
    layout = check_layout(path)
    with as_run_folder_error(path):
        groups = {group: _open_group(path, group, layout) for group in layout.groups}
        about = {"committed": layout.committed, "variables": layout.variables}
        return xarray.DataTree.from_dict({"/": xarray.Dataset(attrs=about)} | groups)


def _open_group(path: Path, group: str, layout: Layout) -> "xarray.Dataset":
    """The committed draws of one group; only arrays of the layout and the group's attributes count.

    After a crash while lengths were changed they differ. xarray opens equal lengths only, so the
    arrays are then opened one by one.
    """
    import xarray

    lengths = {name: metadata["shape"][1] for name, metadata in layout.arrays.items()}
    inside = [Path(name).name for name in lengths if name.startswith(f"{group}/")]
    there = [part.name for part in (path / group).iterdir() if part.is_dir()]
    together = [inside] if len(set(lengths.values())) == 1 else [[name] for name in inside]
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False}
    options |= {"decode_cf": False, "chunks": None}
    parts = []
    for names in together or [[]]:
        others = [name for name in there if name not in names]
        part = xarray.open_dataset(path / group, drop_variables=others, **options)
        for variable in part.variables.values():
            variable.attrs = dict(attributes_of(variable.dtype))
        parts.append(part.isel(draw=slice(layout.committed), missing_dims="ignore"))
    merged = xarray.merge(parts, combine_attrs="override") if len(parts) > 1 else parts[0]
    decoded = xarray.decode_cf(
        merged, concat_characters=False, decode_times=False, decode_coords=False
    )
    decoded = decoded.assign_coords(coordinates_of(layout, group, layout.committed))
    return decoded[layout.variables] if group == layout.positions else decoded
