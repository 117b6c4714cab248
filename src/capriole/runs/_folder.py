"""One folder per run: config, results, kernel, draws, figures."""

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from .._transition import AbstractTransition


class RunFolderError(OSError):
    """The folder cannot be created or written, or already holds another run."""


class RunFolder:
    """``config.json``, ``results.json``, ``kernel.safetensors``, ``draws.zarr`` and ``*.png`` of one run.

    JSON files are written to a temporary name, flushed to disk and renamed, so a reader never sees half a file.
    Raises `RunFolderError` if the folder cannot be made or already holds results.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if (self.path / "results.json").exists():
            raise RunFolderError(f"{self.path} already holds a run; choose another folder or remove it")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another --out"
            ) from error

    def write_json(self, name: str, content: dict[str, Any]) -> Path:
        """Write ``name`` atomically; NaN and infinities become null, since JSON has none."""
        target = self.path / name
        temporary = target.with_name(f".{name}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(_plain(content), file, indent=2, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        return target

    def write_kernel(self, transition: "AbstractTransition", *, dim: int) -> Path:
        """Write ``kernel.safetensors`` (see `capriole.save`)."""
        from .._io import save

        return save(self.path / "kernel.safetensors", transition, dim=dim)

    def write_draws(self, tree: "xarray.DataTree") -> Path:
        """Write ``draws.zarr``; read it with ``xarray.open_datatree(path, engine="zarr")``."""
        target = self.path / "draws.zarr"
        tree.to_zarr(target, mode="w", consolidated=False)
        return target

    def write_figure(self, name: str, figure: "Figure") -> Path:
        """Write ``name.png``."""
        target = self.path / f"{name}.png"
        figure.savefig(target)
        return target


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
