"""What the search of `capriole.fit` found, as a checkpoint: it is read back, not searched again."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..fitting import NUTS, Cost, Note, SamplerReport, SearchResult, Stage, WarmupFacts
from ..kernels import AbstractLogDensity, Vector
from ..models import load, save
from ..runtime import Arrays, checksum, from_plain, to_plain
from ._checkpoint import (
    Checkpoint,
    CheckpointError,
    Checkpoints,
    check_fingerprint,
    fingerprint,
)
from ._files import RunFolderError

SEARCH = "search"
"""The stage's name."""
_MOST = 100
"""Most samplers or notes of a stored search."""


class _Facts(NamedTuple):
    """The fields of `SearchResult` that are no arrays, and the checksum of the kernel's file."""

    kernel: str | None
    chosen: str
    best_candidate: str
    rows: tuple[SamplerReport, ...]
    notes: tuple[Note, ...]
    spent: Cost
    compared: Cost | None
    decided: bool
    training: Cost
    warmup: WarmupFacts
    stages: tuple[Stage, ...] = ()
    is_direct: bool = False

    def checked(self, dim: int) -> "_Facts":
        """Itself. Raises ValueError for what no search finds."""
        if max(map(len, (self.rows, self.notes, self.stages))) > _MOST:
            raise ValueError(f"more than {_MOST} samplers, notes or stages")
        names = [row.name for row in self.rows]
        for name in (self.chosen, self.best_candidate):
            if name not in names:
                raise ValueError(f"{name[:80]!r} as chosen, which is none of its candidates")
        for row in self.rows:
            row.checked()
        if self.chosen not in (NUTS, self.best_candidate) or self.best_candidate == NUTS:
            raise ValueError(f"{self.chosen[:80]!r} as chosen, whose kernel is not kept")
        costs = (self.spent, self.training, *((self.compared,) if self.compared else ()))
        if any(not 0 <= number < np.inf for cost in costs for number in cost):
            raise ValueError("a cost that cannot be")
        self.warmup.checked(dim)
        return self


def write_search(
    checkpoints: Checkpoints, kernel: Path, target: AbstractLogDensity, found: SearchResult
) -> None:
    """Write the kernel into its own file, and everything else into the checkpoint.

    Args:
        checkpoints: Where.
        kernel: The kernel's file.
        target: The log density, for its fingerprint.
        found: What was found; a later call may add NUTS's measurement.
    """
    digest = None
    if found.kernel is not None:
        save(kernel, found.kernel, dim=found.starts.shape[0])
        digest = checksum(kernel)
    arrays: Arrays = {
        "starts": np.asarray(found.starts),
        "dispersed_starts": np.asarray(found.dispersed_starts),
    }
    values = {name: getattr(found, name) for name in _Facts._fields if name != "kernel"}
    plain = to_plain(_Facts(kernel=digest, **values))
    step = 1 if found.compared is None else 2
    checkpoints.write(SEARCH, step, arrays | fingerprint(target, found.starts), plain)
    if found.kernel is None:  # only now: a search that names a kernel must find it
        kernel.unlink(missing_ok=True)


def read_search(
    stored: Checkpoint,
    kernel: Path,
    target: AbstractLogDensity,
    *,
    num_chains: int,
    position: Vector,
) -> SearchResult:
    """What `write_search` wrote, checked.

    Args:
        stored: The checkpoint.
        kernel: The kernel's file.
        target: The log density; another one than at writing is refused.
        num_chains: Chains of the final run.
        position: Any positions (dim, n) of the run, for dimension and precision.

    Returns:
        What the search found.

    Raises:
        CheckpointError: The checkpoint holds anything unexpected.
        RunFolderError: The kernel's file is not the one that the search left.
    """
    arrays, dim = dict(stored.arrays), position.shape[0]
    check_fingerprint(arrays, target, dim=dim, num=num_chains)
    starts, dispersed_starts = (
        _positions(arrays, name, position) for name in ("starts", "dispersed_starts")
    )
    if starts.shape[1] != num_chains:
        raise CheckpointError(
            f"the stored search has {starts.shape[1]} starts, the run {num_chains} chains"
        )
    try:
        facts = from_plain(_Facts, stored.facts, "search").checked(dim)
    except ValueError as error:
        raise CheckpointError(f"the stored search holds {error}") from error
    values: dict[str, Any] = facts._asdict()
    digest = values.pop("kernel")
    found = SearchResult(kernel=None, starts=starts, dispersed_starts=dispersed_starts, **values)
    if found.uses_nuts and (digest is None or not kernel.is_file()):
        return found
    if digest is None or not kernel.is_file() or checksum(kernel) != digest:
        raise RunFolderError(
            f"{kernel} is not the kernel that the search of this run left there; start a new run"
        )
    return found._replace(kernel=load(kernel, target, np.zeros(dim, starts.dtype)))


def _positions(arrays: Arrays, name: str, like: Vector) -> Vector:
    value = arrays.get(name)
    if value is None or value.ndim != 2 or value.shape[0] != like.shape[0]:
        raise CheckpointError(f"the stored search has no {name} of {like.shape[0]} coordinates")
    if value.dtype != like.dtype or not np.isfinite(value).all():
        raise CheckpointError(f"the stored search has {name} that are not finite {like.dtype}")
    return jnp.asarray(value)
