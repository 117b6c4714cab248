"""One folder per run: config, results, kernel, draws, checkpoints, log, figures."""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..runtime import any_process, is_first_process, require, write_atomically
from ._checkpoint import Checkpoints
from ._errors import RunFolderError
from ._lock import FolderLock
from ._metrics import MetricsLog

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..kernels import AbstractTransition

MAX_JSON = 64 << 20
MAIN = "draws.zarr"
_OWN = ("checkpoints", "stages", MAIN, "kernel.safetensors", "metrics.jsonl", "verdict.json")
"""What a run replaces or removes at will: in a folder without one it is somebody else's."""


class RunFolder:
    """``config.json``, ``results.json``, ``metrics.jsonl``, ``kernel.safetensors``, ``draws.zarr``,
    ``*.png`` of a run.

    ``checkpoints/`` and ``stages/`` hold what resuming needs. Files are written to a temporary
    name, flushed to disk and renamed, so a reader never sees half a file; a lock keeps other
    processes out until `close`. ``RunFolder(path)`` makes a new one, ``RunFolder.open(path)`` goes
    on with what is there. Of several processes that share the folder the first one makes, locks and
    writes it; all of them read. Raises `RunFolderError` if the folder cannot be made, is in use or
    (a new one) already holds a run.
    """

    def __init__(self, path: str | os.PathLike, *, new: bool = True):
        self.path, self.writes = Path(path), is_first_process()
        self.metrics = MetricsLog(self.path / "metrics.jsonl")
        if self.writes:
            self._lock = self._take(new=new)

    def _take(self, *, new: bool) -> FolderLock:
        if new and any((self.path / name).exists() for name in ("results.json", "config.json")):
            raise RunFolderError(
                f"{self.path} already holds a run; go on with `capriole resume {self.path}`, or "
                "choose another folder"
            )
        for package in ("zarr", "google_crc32c"):  # now, and not after an hour of work
            require(package, "runs")
        is_run = (self.path / "config.json").exists()
        if not is_run and (others := [name for name in _OWN if (self.path / name).exists()]):
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
        """The run already in ``path``. Raises `RunFolderError` if there is none."""
        if not (Path(path) / "config.json").is_file():
            raise RunFolderError(f"{path} holds no run: there is no config.json")
        return cls(path, new=False)

    def close(self) -> None:
        """Let other processes in."""
        if self.writes:
            self._lock.close()

    def read_json(self, name: str) -> dict[str, Any]:
        """The object in ``name``. Raises `RunFolderError` unless it is a JSON object of reasonable
        size.
        """
        return read_json(self.path / name)

    def write_json(self, name: str, content: dict[str, Any]) -> Path:
        """Write ``name`` atomically; NaN and infinities become null, since JSON has none."""
        target = self.path / name
        if not self.writes:
            return target
        text = json.dumps(_plain(content), indent=2, allow_nan=False)
        try:
            write_atomically(target, f"{text}\n".encode())
        except OSError as error:
            raise RunFolderError(f"cannot write {target}: {error.strerror or error}") from error
        return target

    def claim(self, config: dict[str, Any]) -> None:
        """Write ``config.json``; raises `RunFolderError`, with the differences, if another one is
        there already.
        """
        path = self.path / "config.json"
        if self.writes and not path.exists():
            self.write_json("config.json", config)
        any_process(False)  # the others compare with what the first one wrote
        plain = json.loads(json.dumps(_plain(config)))
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
        """The checkpoints of the run that ``config.json`` describes."""
        identity = hashlib.sha256(
            json.dumps(self.read_json("config.json"), sort_keys=True).encode()
        ).hexdigest()
        return Checkpoints(self.path / "checkpoints", identity)

    def draws_path(self, name: str, *, main: bool) -> Path:
        """Where the draws of a sampler go: ``draws.zarr`` for the main one, ``stages/NAME.zarr``
        for others.
        """
        if main:
            return self.path / MAIN
        if self.writes:
            (self.path / "stages").mkdir(exist_ok=True)
        return self.path / "stages" / f"{name}.zarr"

    def check_space(self, num_bytes: int) -> None:
        """Raise `RunFolderError` if the disk has no room for ``num_bytes`` of draws in all, those
        there included.
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
        """Remove what only an unfinished run needs: draws of other samplers, checkpoints of stages
        not in ``keep``.
        """
        any_process(False)  # all have read what they need
        if not self.writes:
            return
        for store in self.path.glob("stages/*.zarr"):
            shutil.rmtree(store, ignore_errors=True)
        with contextlib.suppress(OSError):  # not there, or not empty
            (self.path / "stages").rmdir()
        self.checkpoints.remove(keep=keep)

    def write_kernel(self, transition: "AbstractTransition", *, dim: int) -> Path:
        """Write ``kernel.safetensors`` (see `capriole.save`)."""
        from ..models import save

        if not self.writes:
            return self.path / "kernel.safetensors"
        return save(self.path / "kernel.safetensors", transition, dim=dim)

    def write_figure(self, name: str, figure: "Figure") -> Path:
        """Write ``name.png``."""
        target, picture = self.path / f"{name}.png", io.BytesIO()
        figure.savefig(picture, format="png")
        write_atomically(target, picture.getvalue())
        return target


def clear(path: Path) -> None:
    """Remove the run in ``path``, if there is one, so that a new one can take its place."""
    if not (path / "config.json").is_file():
        return
    for name in (*_OWN, "config.json", "results.json"):
        if (path / name).is_dir():
            shutil.rmtree(path / name)
        else:
            (path / name).unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `RunFolderError` for anything else, and for files above 64
    MB.
    """
    try:
        if not path.is_file():
            raise RunFolderError(f"cannot read {path}: no such file")
        if path.stat().st_size > MAX_JSON:
            raise RunFolderError(f"cannot read {path}: it is larger than {size(MAX_JSON)}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise (
            error
            if isinstance(error, RunFolderError)
            else RunFolderError(f"cannot read {path}: {error}")
        ) from error
    if not isinstance(content, dict):
        raise RunFolderError(f"cannot read {path}: it holds no JSON object")
    return content


def size(num_bytes: float) -> str:
    """``1.5 GB`` and the like."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000 or unit == "TB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.3g} {unit}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
