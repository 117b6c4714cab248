"""What the search of `capriole.fit` found, as a checkpoint: read back, it is never searched for
again.
"""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..fitting import NUTS, Found, Marginal, Row, Spent, read_seen
from ..kernels import AbstractLogDensity, Vector
from ..models import load, save
from ..runtime import Arrays, checksum
from ._checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    check_fingerprint,
    fingerprint,
)
from ._files import RunFolderError

SEARCH = "search"
_MOST = 100


def write_found(
    checkpoints: Checkpoints, kernel: Path, target: AbstractLogDensity, found: Found
) -> None:
    """The kernel into its own file, everything else into the checkpoint; a later call may add
    NUTS's measurement.
    """
    digest = None
    if found.kernel is not None:
        save(kernel, found.kernel, dim=found.starts.shape[0])
        digest = checksum(kernel)
    arrays: Arrays = {"starts": np.asarray(found.starts), "crowd": np.asarray(found.crowd)}
    facts = {
        "kernel": digest,
        "chosen": found.chosen,
        "own": found.own,
        "rows": [row._asdict() for row in found.rows],
        "notes": found.notes,
        "spent": found.spent._asdict(),
        "compared": None if found.compared is None else found.compared._asdict(),
        "decided": found.decided,
        "pilot": found.pilot,
    }
    plain = json.loads(json.dumps(facts, default=float))
    step = 1 if found.compared is None else 2
    checkpoints.write(SEARCH, step, arrays | fingerprint(target, found.starts), plain)
    if found.kernel is None:  # only now: a search that names a kernel must find it
        kernel.unlink(missing_ok=True)


def read_found(
    stored: Checkpoint,
    kernel: Path,
    target: AbstractLogDensity,
    *,
    num_chains: int,
    position: Vector,
) -> Found:
    """What `write_found` wrote, checked; ``position`` (dim, n) are any positions of the run.

    Raises `CheckpointError` for anything unexpected, another log density included, and
    `RunFolderError` for another kernel file than the search left.
    """
    arrays, facts = dict(stored.arrays), stored.facts
    dim = position.shape[0]
    check_fingerprint(arrays, target, dim=dim, num=num_chains)
    starts, crowd = (_positions(arrays, name, position) for name in ("starts", "crowd"))
    if starts.shape[1] != num_chains:
        raise CheckpointError(
            f"the stored search has {starts.shape[1]} starts, the run {num_chains} chains"
        )
    chosen, notes, pilot = facts.get("chosen"), facts.get("notes"), facts.get("pilot")
    if (
        not isinstance(notes, list)
        or not all(isinstance(note, str) for note in notes)
        or len(notes) > _MOST
    ):
        raise CheckpointError("the stored search has notes that are not a list of texts")
    if not isinstance(pilot, dict) or not isinstance(facts.get("decided"), bool):
        raise CheckpointError("the stored search does not say what its pilot was")
    try:
        Marginal.read(pilot.get("marginals", []), dim=dim)
        read_seen(pilot, dim=dim)
    except ValueError as error:
        raise CheckpointError(f"the stored search holds {error}") from error
    rows = _rows(facts.get("rows"))
    own, names = facts.get("own"), [row.name for row in rows]
    for name in (chosen, own):
        if not isinstance(name, str) or name not in names:
            raise CheckpointError(
                f"the stored search chose {str(name)[:80]!r}, which is none of its candidates"
            )
    found = None
    if chosen != NUTS or (kernel.is_file() and facts.get("kernel") is not None):
        if (
            not kernel.is_file()
            or (there := checksum(kernel)) is None
            or there != facts.get("kernel")
        ):
            raise RunFolderError(
                f"{kernel} is not the kernel that the search of this run left there; start a new "
                "run"
            )
        found = load(kernel, target, np.zeros(dim, starts.dtype))
    compared = None if facts.get("compared") is None else _spent(facts["compared"])
    spent = _spent(facts.get("spent"))
    return Found(
        str(chosen),
        str(own),
        found,
        rows,
        starts,
        crowd,
        tuple(notes),
        spent,
        compared,
        facts["decided"],
        pilot,
    )


def _positions(arrays: Arrays, name: str, like: Vector) -> Vector:
    value = arrays.get(name)
    if (
        value is None
        or value.ndim != 2
        or value.shape[0] != like.shape[0]
        or value.dtype != like.dtype
    ):
        raise CheckpointError(
            f"the stored search has no {name} of {like.shape[0]} coordinates and {like.dtype}"
        )
    if not np.isfinite(value).all():
        raise CheckpointError(f"the stored search has {name} that are not finite")
    return jnp.asarray(value)


def _rows(values: Any) -> tuple[Row, ...]:
    if not isinstance(values, list) or len(values) > _MOST:
        raise CheckpointError("the stored search has no list of rows")
    try:
        return tuple(Row.read(value) for value in values)
    except ValueError as error:
        raise CheckpointError(f"the stored search holds {error}") from error


def _spent(values: Any) -> Spent:
    fields: list[Any] = [
        values.get(name) if isinstance(values, dict) else None for name in Spent._fields
    ]
    if (
        not all(type(field) in (int, float) and 0 <= field < 2**63 for field in fields)
        or type(fields[0]) is not int
    ):
        raise CheckpointError(f"the stored search says it took {str(values)[:80]!r}")
    return Spent(*fields)
