"""Checkpoints: what a stage needs to go on, bit for bit. Two per stage are kept; the newest sound
one counts.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..runtime import Arrays, any_process, is_first_process, read_container, whole, write_container
from ._errors import RunFolderError

FORMAT = "capriole-checkpoint-1"
KEPT = 2
log = logging.getLogger("capriole")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, foreign, or of another run."""


class Checkpoint(NamedTuple):
    """One stored point of a stage: how far it was, arrays by name, and plain facts."""

    step: int
    arrays: Arrays
    facts: dict[str, Any]


class Checkpoints:
    """The folder of all checkpoints of one run, ``STAGE.STEP.safetensors``.

    ``identity`` is text that says which run this is (its configuration); a checkpoint of another
    one is refused.
    """

    def __init__(self, path: str | os.PathLike, identity: str):
        self.path, self.identity = Path(path), identity

    def write(self, stage: str, step: int, arrays: Arrays, facts: dict[str, Any]) -> Path:
        """Store a point of ``stage``, whole or not at all, and drop all but the last two of that
        stage.

        Of several processes the first one writes. Raises `RunFolderError` if the disk does not take
        it.
        """
        if not re.fullmatch(r"[a-z0-9_-]{1,80}", stage):
            raise ValueError(
                f"a stage is named by lower-case letters, digits, - and _, got {stage!r}"
            )
        path = self.path / f"{stage}.{step:012d}.safetensors"
        if not is_first_process():
            return path
        header = {
            "format": FORMAT,
            "run": self.identity,
            "stage": stage,
            "step": str(step),
            "facts": json.dumps(facts),
        }
        try:
            self.path.mkdir(exist_ok=True)
            write_container(path, header, arrays)
        except OSError as error:
            raise RunFolderError(
                f"cannot write {path}: {error.strerror or error}; make room, and go on from the "
                "checkpoint before"
            ) from error
        for _, old in self._files(stage)[KEPT:]:
            old.unlink()
        return path

    def read(self, stage: str) -> Checkpoint | None:
        """The newest sound point of ``stage``; None if there is none at all.

        A damaged file is passed over with a warning. Raises `CheckpointError` if all are damaged,
        or if they belong to another run. Several processes read at the same time, so all go on from
        the same point.
        """
        any_process(False)  # the first one may still be writing
        files = self._files(stage)
        for i, (step, path) in enumerate(files):
            try:
                found = self._read(stage, step, path)
                any_process(False)  # nothing is written before all have read
                return found
            except CheckpointError as error:
                if i == len(files) - 1:
                    raise CheckpointError(
                        f"{error}; remove it to start the stage {stage!r} anew"
                    ) from error
                log.warning("%s; going on from the one before", error)
        any_process(False)
        return None

    def remove(self, *, keep: tuple[str, ...] = ()) -> None:
        """Remove the checkpoints of all stages but those in ``keep``."""
        for path in self.path.glob("*.safetensors"):
            ours = re.fullmatch(r"(.+)\.\d{12}\.safetensors", path.name)
            if ours and ours[1] not in keep:
                path.unlink()

    def _files(self, stage: str) -> list[tuple[int, Path]]:
        pattern = re.compile(re.escape(stage) + r"\.(\d{12})\.safetensors")
        found = [
            (pattern.fullmatch(path.name), path)
            for path in self.path.glob(f"{stage}.*.safetensors")
        ]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    def _read(self, stage: str, step: int, path: Path) -> Checkpoint:
        header, arrays = read_container(path, kind="checkpoint", form=FORMAT, error=CheckpointError)
        if header.get("run") != self.identity:
            raise CheckpointError(
                f"{path} belongs to a run with another configuration than this folder's config.json"
            )
        if (header.get("stage"), header.get("step")) != (stage, str(step)):
            raise CheckpointError(
                f"{path} holds stage {header.get('stage')!r} at step {header.get('step')!r}"
            )
        try:
            facts = json.loads(header.get("facts", ""))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} has facts that are not JSON: {error}") from error
        if not isinstance(facts, dict):
            raise CheckpointError(f"{path} has facts that are not a JSON object")
        return Checkpoint(step, arrays, facts)


def number(facts: dict[str, Any], name: str, *, kind: type[int] | type[float] = int) -> Any:
    """The number called ``name`` among the facts. Raises `CheckpointError` unless it is one of
    ``kind``, at least 0.
    """
    value: Any = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or not 0 <= value < 2**63:
        raise CheckpointError(
            f"the checkpoint says {name} = {str(value)[:80]!r}, which is no {kind.__name__} above 0"
        )
    return kind(value)


def to_arrays(tree: Any) -> Arrays:
    """The array leaves of a pytree, named by their path, gathered from all processes; keys as their
    data.
    """
    leaves = jax.tree_util.tree_leaves_with_path(whole(eqx.filter(tree, eqx.is_array)))
    return {jax.tree_util.keystr(path): np.asarray(_data(leaf)) for path, leaf in leaves}


def fill(skeleton: Any, arrays: Arrays) -> Any:
    """``skeleton`` with its array leaves (or their shapes) replaced by ``arrays``, keys excepted:
    they must agree.

    Raises `CheckpointError` unless names, shapes, dtypes and keys are exactly those of the
    skeleton.
    """
    left = dict(arrays)

    def replace(path: tuple, leaf: Any) -> Any:
        if not (eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)):
            return leaf
        name = jax.tree_util.keystr(path)
        if name not in left:
            raise CheckpointError(f"the checkpoint lacks {name}")
        value, expected = left.pop(name), _data(leaf)
        if (value.shape, value.dtype) != (expected.shape, np.dtype(expected.dtype)):
            raise CheckpointError(
                f"{name} is {value.dtype}{list(value.shape)} in the checkpoint, this run has "
                f"{expected.dtype}"
                f"{list(expected.shape)}; resume with the same settings, log density and precision"
            )
        if expected is not leaf:
            if not np.array_equal(value, expected):
                raise CheckpointError(
                    f"{name} is another random key than this run's: the seed is not the same"
                )
            return leaf
        return jnp.asarray(value)

    filled = jax.tree_util.tree_map_with_path(replace, skeleton)
    if left:
        raise CheckpointError(f"the checkpoint holds unexpected arrays {sorted(left)[:5]}")
    return filled


def _data(leaf: Any) -> Any:
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf
