"""Checkpoints: what a stage needs to continue with the same digits.

Two checkpoints per stage are kept; the newest one that is sound counts. A fingerprint stored with
them shows whether the log density is still the one that the run began with.
"""

import hashlib
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

from ..kernels import AbstractLogDensity, ChainState, Vector
from ..runtime import Arrays, any_process, is_first_process, read_container, whole, write_container
from ._files import RunFolderError

FORMAT = "capriole-checkpoint-1"
"""The format's name in the header of every checkpoint; files with another name are refused."""
KEPT = 2
"""Checkpoints kept per stage: the newest, and one to fall back on if it is damaged."""
POINTS = 3
"""Positions of a fingerprint: few, since every resumed run evaluates the log density there."""
FINGERPRINT_ULPS = 8
"""Rounding errors by which the values of a fingerprint may differ: another machine, same data."""
STATE_ULPS = 1e4
"""Rounding errors by which the values of a stored state may differ.

Those values were computed in a loop, in another order of operations than now.
"""
STATE_TOLERANCE = 1e-6
"""Smallest relative tolerance for the values of a stored state; `STATE_ULPS` is less in float64."""
_POINTS, _VALUES = "fingerprint/points", "fingerprint/values"
"""Names of a fingerprint's arrays in a checkpoint."""
log = logging.getLogger("capriole")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, was not written by capriole, or belongs to another run."""


class Checkpoint(NamedTuple):
    """One stored point of a stage.

    Attributes:
        step: steps or draws that the stage had reached.
        arrays: arrays by name.
        facts: plain values by name.
    """

    step: int
    arrays: Arrays
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: files ``STAGE.STEP.safetensors`` in one folder.

    Attributes:
        path: the folder; it is made by the first `write`.
        identity: text that says which run this is (a digest of its configuration). A checkpoint
            with another identity is refused.
    """

    def __init__(self, path: str | os.PathLike, identity: str):
        self.path, self.identity = Path(path), identity

    def write(self, stage: str, step: int, arrays: Arrays, facts: dict[str, Any]) -> Path:
        """Store a point of ``stage`` atomically, and remove all but the last two of that stage.

        Of several processes only the first one writes.

        Args:
            stage: lower-case letters, digits, ``-`` and ``_``.
            step: steps or draws that the stage has reached.
            arrays: arrays by name.
            facts: values that JSON can hold, by name.

        Returns:
            The file's path.

        Raises:
            RunFolderError: the disk refuses.
            ValueError: the stage has another name.
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
        """The newest sound point of ``stage``; a damaged file is skipped with a warning.

        Several processes read at the same time, so all continue from the same point.

        Args:
            stage: the stage's name.

        Returns:
            The point, or None if the stage has no checkpoint.

        Raises:
            CheckpointError: all files are damaged, or they belong to another run.
        """
        any_process(False)  # the first process may still be writing
        files = self._files(stage)
        for i, (step, path) in enumerate(files):
            try:
                found = self._read(stage, step, path)
                any_process(False)  # nothing is written before all processes have read
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
        """Remove the checkpoints of all stages but those in ``keep``.

        Args:
            keep: names of stages.
        """
        for path in self.path.glob("*.safetensors"):
            ours = re.fullmatch(r"(.+)\.\d{12}\.safetensors", path.name)
            if ours and ours[1] not in keep:
                path.unlink()

    def _files(self, stage: str) -> list[tuple[int, Path]]:
        """Steps and files of a stage, the newest first."""
        pattern = re.compile(re.escape(stage) + r"\.(\d{12})\.safetensors")
        found = [
            (pattern.fullmatch(path.name), path)
            for path in self.path.glob(f"{stage}.*.safetensors")
        ]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    def _read(self, stage: str, step: int, path: Path) -> Checkpoint:
        """One file, checked."""
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
    """One number of a checkpoint's facts, checked.

    Args:
        facts: the facts of a `Checkpoint`.
        name: which of them.
        kind: its type; a float may be stored as an int.

    Returns:
        The number, at least 0 and below 2^63.

    Raises:
        CheckpointError: there is no such number.
    """
    value: Any = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or not 0 <= value < 2**63:
        raise CheckpointError(
            f"the checkpoint says {name} = {str(value)[:80]!r}, which is no {kind.__name__} above 0"
        )
    return kind(value)


def to_arrays(tree: Any) -> Arrays:
    """The array leaves of a pytree by path, gathered from all processes; keys as their data."""
    leaves = jax.tree_util.tree_leaves_with_path(whole(eqx.filter(tree, eqx.is_array)))
    return {jax.tree_util.keystr(path): np.asarray(_data(leaf)) for path, leaf in leaves}


def fill(skeleton: Any, arrays: Arrays) -> Any:
    """``skeleton`` with its array leaves, or their shapes, replaced by ``arrays``.

    Keys are not replaced; they must agree. Raises `CheckpointError` unless names, shapes, dtypes
    and keys are exactly those of the skeleton.
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
    """A leaf, or the data of a random key."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def fingerprint(logdensity: AbstractLogDensity, position: Vector) -> Arrays:
    """Arrays that identify a log density: the first positions, and its values there.

    Args:
        logdensity: the log density.
        position: positions, shape (dim, chains).

    Returns:
        At most `POINTS` positions and their log densities, to store in a checkpoint.
    """
    points = np.asarray(position[:, :POINTS])
    return {_POINTS: points, _VALUES: np.asarray(logdensity(jnp.asarray(points)))}


def check_fingerprint(
    arrays: Arrays, logdensity: AbstractLogDensity, *, dim: int, num: int
) -> None:
    """Take the fingerprint out of ``arrays`` and compare it with the log density of now.

    Args:
        arrays: a checkpoint's arrays; the fingerprint is removed from them.
        logdensity: the log density of now.
        dim: its dimension.
        num: number of positions that `fingerprint` was given.

    Raises:
        CheckpointError: there is no fingerprint, or a value differs by more than
            `FINGERPRINT_ULPS` rounding errors.
    """
    points, values = arrays.pop(_POINTS, None), arrays.pop(_VALUES, None)
    missing = CheckpointError("the checkpoint has no fingerprint of its log density")
    if points is None or values is None or points.shape != (dim, min(POINTS, num)):
        raise missing
    if values.shape != points.shape[1:] or points.dtype.kind != "f":
        raise missing
    now = np.asarray(logdensity(jnp.asarray(points)))
    close = FINGERPRINT_ULPS * np.finfo(now.dtype).eps * np.abs(values)
    if now.dtype != values.dtype or not np.all((np.abs(now - values) <= close) | (now == values)):
        raise CheckpointError(
            "the log density is not the one this run began with: at three stored points it had "
            "values "
            f"{values.tolist()}, now it has {now.tolist()}; resume with the same function and "
            "data, or start a new run"
        )


def check_state(logdensity: AbstractLogDensity, state: ChainState) -> None:
    """Raise `CheckpointError` unless ``logdensity`` has a stored state's values there."""
    stored, now = np.asarray(state.logdensity), np.asarray(logdensity(jnp.asarray(state.position)))
    difference = np.abs(now - stored) / (1 + np.abs(stored))
    if now.dtype != stored.dtype or not np.all(
        difference <= max(STATE_ULPS * np.finfo(now.dtype).eps, STATE_TOLERANCE)
    ):
        raise CheckpointError(
            f"the log density is not the one this run began with: where the first chain is it was "
            f"{stored.ravel()[0]:g}, now it is {now.ravel()[0]:g}; resume with the same function "
            "and data"
        )


def kernel_digest(kernel: Any) -> str:
    """A digest of all arrays of a kernel but those of its log density."""
    total = hashlib.sha256()
    for part in jax.tree.leaves(kernel, is_leaf=lambda part: isinstance(part, AbstractLogDensity)):
        if eqx.is_array_like(part):
            array = np.asarray(part)
            total.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    return total.hexdigest()
