"""One folder per run: configuration, results, kernel, draws, checkpoints, log, figures.

A lock on the folder admits one process at a time.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..runtime import any_process, is_first_process, require, write_atomically
from ._checkpoint import Checkpoints
from ._files import MetricsLog, RunFolderError, read_json, size, to_plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..kernels import AbstractTransition

MAIN = "draws.zarr"
"""Name of the store with the draws that a run returns."""
_RUN_FILES = ("checkpoints", "stages", MAIN, "kernel.safetensors", "metrics.jsonl", "verdict.json")
"""What a run replaces or removes; in a folder without a run these belong to somebody else."""


class FolderLock:
    """An advisory lock on ``folder/lock``, held from construction to `close`.

    The operating system releases it when the process dies, so a crash leaves nothing to clean up.
    The file names the last holder, for the error message. Raises `RunFolderError` if another
    process, or another object of this process, holds the lock.
    """

    def __init__(self, folder: Path):
        self._descriptor: int | None = None
        try:
            import fcntl
        except ImportError:  # not POSIX: no lock
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(folder / "lock", flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise RunFolderError(
                f"{folder} is in use by process {holder or 'unknown'}; wait for it, or stop it "
                "with Ctrl-C"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def close(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


class RunFolder:
    """The folder of one run, and the files in it.

    ``config.json``, ``results.json``, ``metrics.jsonl``, ``kernel.safetensors``, ``draws.zarr`` and
    ``*.png`` are for the user; ``checkpoints/`` and ``stages/`` hold what resuming needs.

    Files are written to a temporary name, flushed to disk and renamed, so a reader never sees half
    a file. A lock keeps other processes out until `close`. Of several processes that share the
    folder the first one makes, locks and writes it; all of them read.

    Args:
        path: the folder.
        new: whether it must not hold a run yet; `open` continues the run that it holds.

    Attributes:
        path: the folder.
        writes: whether this process writes.
        metrics: the log ``metrics.jsonl``.

    Raises:
        RunFolderError: the folder cannot be made, is in use, holds files that a run would
            replace, or holds a run although ``new``.
    """

    def __init__(self, path: str | os.PathLike, *, new: bool = True):
        self.path, self.writes = Path(path), is_first_process()
        self.metrics = MetricsLog(self.path / "metrics.jsonl")
        if self.writes:
            self._lock = self._lock_folder(new=new)

    def _lock_folder(self, *, new: bool) -> FolderLock:
        """Make the folder, check it, and lock it."""
        if new and any((self.path / name).exists() for name in ("results.json", "config.json")):
            raise RunFolderError(
                f"{self.path} already holds a run; go on with `capriole resume {self.path}`, or "
                "choose another folder"
            )
        for package in ("zarr", "google_crc32c"):  # now, and not after an hour of work
            require(package, "runs")
        is_run = (self.path / "config.json").exists()
        if not is_run and (others := [name for name in _RUN_FILES if (self.path / name).exists()]):
            raise RunFolderError(
                f"{self.path} holds {', '.join(others)}, which a run would replace, but no run; "
                "choose another folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(self.path)
            probe = self.path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except RunFolderError:
            raise
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another --out"
            ) from error
        return lock

    @classmethod
    def open(cls, path: str | os.PathLike) -> Self:
        """The run that ``path`` holds.

        Args:
            path: the folder.

        Raises:
            RunFolderError: it holds no run, or it is in use.
        """
        if not (Path(path) / "config.json").is_file():
            raise RunFolderError(f"{path} holds no run: there is no config.json")
        return cls(path, new=False)

    def close(self) -> None:
        """Release the lock."""
        if self.writes:
            self._lock.close()

    def read_json(self, name: str) -> dict[str, Any]:
        """`read_json` of the file ``name`` in this folder."""
        return read_json(self.path / name)

    def write_json(self, name: str, content: dict[str, Any]) -> Path:
        """Write a JSON file atomically; NaN and infinities become null, since JSON has none.

        Args:
            name: the file's name.
            content: plain values or arrays.

        Returns:
            The file's path.

        Raises:
            RunFolderError: the disk refuses.
        """
        target = self.path / name
        if not self.writes:
            return target
        text = json.dumps(to_plain(content), indent=2, allow_nan=False)
        try:
            write_atomically(target, f"{text}\n".encode())
        except OSError as error:
            raise RunFolderError(f"cannot write {target}: {error.strerror or error}") from error
        return target

    def claim(self, config: dict[str, Any]) -> None:
        """Write ``config.json``, or compare with the one that is there.

        Args:
            config: the run's settings, plain values.

        Raises:
            RunFolderError: the folder holds another run; the message lists the differences.
        """
        path = self.path / "config.json"
        if self.writes and not path.exists():
            self.write_json("config.json", config)
        any_process(False)  # the others compare with what the first one wrote
        plain = json.loads(json.dumps(to_plain(config)))
        old = self.read_json("config.json")
        differences = [
            f"{name} was {value!r}, now {plain.get(name)!r}"
            for name, value in old.items()
            if plain.get(name) != value
        ]
        if differences:
            raise RunFolderError(
                f"{self.path} holds another run: {'; '.join(differences)}; resume it with its own "
                "settings"
            )

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of the run that ``config.json`` describes.

        Raises:
            RunFolderError: there is no readable ``config.json``.
        """
        identity = hashlib.sha256(
            json.dumps(self.read_json("config.json"), sort_keys=True).encode()
        ).hexdigest()
        return Checkpoints(self.path / "checkpoints", identity)

    def draws_path(self, name: str, *, main: bool) -> Path:
        """Path of a sampler's draws: ``draws.zarr``, or ``stages/NAME.zarr``.

        Args:
            name: the sampler.
            main: whether its draws are those that the run returns.
        """
        if main:
            return self.path / MAIN
        if self.writes:
            (self.path / "stages").mkdir(exist_ok=True)
        return self.path / "stages" / f"{name}.zarr"

    def check_space(self, num_bytes: int) -> None:
        """Check that the disk has room.

        Args:
            num_bytes: bytes of all draws of the run, those already on disk included.

        Raises:
            RunFolderError: it has not.
        """
        if not self.writes:
            return
        stores = [self.path / MAIN, *self.path.glob("stages/*.zarr")]
        there = sum(
            file.stat().st_size for store in stores for file in store.rglob("*") if file.is_file()
        )
        free = shutil.disk_usage(self.path).free
        if num_bytes - there > free:
            raise RunFolderError(
                f"this run writes {size(num_bytes)} of draws, but {self.path} has only "
                f"{size(free)} free; take fewer "
                "steps or chains (--num-steps, --num-chains) or a folder on another disk (--out)"
            )

    def tidy(self, *, keep: tuple[str, ...]) -> None:
        """Remove what only an unfinished run needs: draws of other samplers, and checkpoints.

        Args:
            keep: stages whose checkpoints stay.
        """
        any_process(False)  # all processes have read what they need
        if not self.writes:
            return
        for store in self.path.glob("stages/*.zarr"):
            shutil.rmtree(store, ignore_errors=True)
        with contextlib.suppress(OSError):  # not there, or not empty
            (self.path / "stages").rmdir()
        self.checkpoints.remove(keep=keep)

    def write_kernel(self, transition: "AbstractTransition", *, dim: int) -> Path:
        """Write ``kernel.safetensors`` with `capriole.save`.

        Args:
            transition: the frozen kernel.
            dim: dimension of its positions.

        Returns:
            The file's path.
        """
        from ..models import save

        if not self.writes:
            return self.path / "kernel.safetensors"
        return save(self.path / "kernel.safetensors", transition, dim=dim)

    def write_figure(self, name: str, figure: "Figure") -> Path:
        """Write a figure.

        Args:
            name: the file's name without ``.png``.
            figure: the figure.

        Returns:
            The file's path.
        """
        target, picture = self.path / f"{name}.png", io.BytesIO()
        figure.savefig(picture, format="png")
        write_atomically(target, picture.getvalue())
        return target


def clear(path: Path) -> None:
    """Remove the run in a folder, if it holds one, so that a new run can take its place.

    Args:
        path: the folder; files that are not a run's stay.
    """
    if not (path / "config.json").is_file():
        return
    for name in (*_RUN_FILES, "config.json", "results.json"):
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)
