"""A model's folder: whose it is, what was trained in it, and which stages' files belong to that.

A stage leaves one JSON file (and pictures) beside the checkpoint, stamped with the SHA-256 of the
model's file and the settings that it used, so that a stage that is already done for this model can
be told from one that is not.
"""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from capriole.models import versions

from .._schemes import Model
from .._settings import SCHEME_NAMES, Settings, settings_from
from .._train import CHECKPOINT, build, differing
from ._data import Dataset, load_dataset
from ._files import CheckpointError, checksum, load_checkpoint, read_facts, read_json, write_json

CONFIG = "config.json"
BEST = "best.safetensors"
"""The model of the best epoch, beside the checkpoint that training goes on from."""

JUDGED_BY: dict[str, tuple[str, ...]] = {
    "evaluation.json": ("ais_", "simulated_", "importance_"),
    "burn_in.json": ("sampling_chains", "shape_images", "shape_steps", "curvature_pixels"),
    "sampling.json": (
        "sampling_",
        "refit_",
        "width",
        "embedding",
        "clip",
        "objective",
        "kernel_learning_rate",
        "validation_images",
    ),
    "inpainting.json": (
        "inpaint_", "classifier_", "ais_temperatures", "ais_leapfrogs", "curve_chains",
    ),
    "posterior.json": ("posterior_", "shape_"),
}  # fmt: skip
"""Settings, or how their names begin, that a stage's figures depend on, besides those of the
training.
"""

_COMPARED = ("scheme", "seed", "epoch", "checkpoint_sha256", "settings")

_REMEDY = "it is of another command or version; choose another folder"


class Loaded(NamedTuple):
    """A trained model from its folder, with all that the stages need to know about it.

    ``model`` is that of the ``epoch`` at which quick AIS on validation images was best, in a file
    of this ``sha256``; ``history`` goes on to the end.
    """

    model: Model
    scheme: str
    seed: int
    settings: Settings
    history: list[dict[str, Any]]
    epoch: int
    folder: Path
    sha256: str

    @property
    def is_finished(self) -> bool:
        """Whether it was trained for all its epochs."""
        return len(self.history) >= self.settings.epochs_of(self.scheme)

    def stage(self, name: str) -> dict[str, Any] | None:
        """What a stage left, if it left anything for this very model and settings."""
        path, stamp = self.folder / name, self.stamp(name)
        if not path.exists():
            return None
        stored = read_json(path)
        return stored if all(stored.get(key) == stamp[key] for key in _COMPARED) else None

    def is_stale(self, name: str) -> bool:
        """Whether a stage left something for another model or other settings."""
        return (self.folder / name).exists() and self.stage(name) is None

    def stamp(self, name: str | None = None) -> dict[str, Any]:
        """What every stage's file starts with; with the settings that stage ``name`` uses."""
        device = jax.devices()[0]
        used = {} if name is None else {"settings": self.settings.named(JUDGED_BY[name])}
        return {
            "scheme": self.scheme,
            "seed": self.seed,
            "epoch": self.epoch,
            "checkpoint_sha256": self.sha256,
            "device": f"{device.platform} {device.device_kind}",
            "cores": os.cpu_count(),
            "versions": versions() | {"python": platform.python_version()},
        } | used


def claim(folder: Path, scheme: str, settings: Settings, seed: int) -> None:
    """Write config.json. Raises `CheckpointError` if the folder holds a run that trained otherwise,
    or something else.

    Settings that nothing was trained with yet may be replaced.
    """
    check_alike(folder, scheme, settings, seed)
    write_json(folder / CONFIG, {"scheme": scheme, "seed": seed, "settings": settings.as_dict()})


def check_alike(folder: Path, scheme: str, settings: Settings, seed: int) -> None:
    """Raises `CheckpointError` if the folder holds a model trained otherwise."""
    if (folder / CONFIG).exists():
        odd = differing(read_config(folder), scheme, settings, seed)
        if odd and (folder / CHECKPOINT).exists():
            raise CheckpointError(
                f"{folder} holds a run with other settings: {odd}; choose another folder or remove "
                "it"
            )


def read_config(folder: Path) -> dict[str, Any]:
    """Scheme, seed and settings. Raises `CheckpointError` for any other folder."""
    path = folder / CONFIG
    stored = read_json(path)
    try:
        if stored["scheme"] in SCHEME_NAMES and isinstance(stored["seed"], int):
            settings_from(stored["settings"])
            return stored
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not describe a latent-variable model ({error!r}); {_REMEDY}"
        ) from error
    raise CheckpointError(f"{path} does not describe a latent-variable model; {_REMEDY}")


def load_model(folder: Path, data: Dataset | None = None) -> Loaded:
    """The model in a folder of `train_stage`. Raises `CheckpointError` without a sound one."""
    facts, settings = read_facts(folder / CHECKPOINT), settings_in(folder)
    data = load_dataset(settings.dataset) if data is None else data
    state, _ = build(facts["scheme"], settings, data.train.shape[0], facts["seed"])
    model, best = load_checkpoint(folder / BEST, state.model)
    scheme, seed, history = facts["scheme"], facts["seed"], facts["history"]
    return Loaded(
        model, scheme, seed, settings, history, best["epoch"], folder, checksum(folder / BEST)
    )


def settings_in(folder: Path) -> Settings:
    """The settings of the model in a folder. Raises `CheckpointError` if there is none."""
    if not (folder / CHECKPOINT).exists():
        raise CheckpointError(f"no checkpoint in {folder}; train first")
    return settings_from(read_config(folder)["settings"])


def once(
    loaded: Loaded, name: str, compute: Callable[[], dict[str, Any]], **more: int
) -> dict[str, Any]:
    """The content of ``name`` if it is of this model and these choices, else computed."""
    stored = loaded.stage(name)
    if stored is not None and all(stored.get(key) == value for key, value in more.items()):
        return stored
    return read_json(write_json(loaded.folder / name, loaded.stamp(name) | more | compute()))
