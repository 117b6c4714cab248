"""What makes a store of draws readable to any ArviZ: coordinates, precision, one summary of all
metadata.

capriole itself reads none of it: it knows the coordinates, and checks every array's own metadata.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import write_atomically
from ._layout import CODECS, GROUPS, MAX_METADATA, Layout, write_block

AS_FLOAT64 = {"scale_factor": 1.0, "add_offset": 0.0}
"""Attributes of a float32 array by which readers (CF conventions) give its numbers in float64.

NumPy adds float32 numbers along outer axes in float32: a mean of 16,000 draws of N(1e6, 1) is then
wrong by 36.
"""


MAX_LENGTH = 10**7
"""Numbers of the longest coordinate: 80 MB. Longer axes have none; a file may claim any length."""


def attributes_of(dtype: np.dtype) -> dict[str, Any]:
    """The attributes of an array of this dtype."""
    return AS_FLOAT64 if dtype == np.float32 else {}


def coordinates_of(layout: Layout, group: str, num_draws: int) -> dict[str, np.ndarray]:
    """Coordinates of all dimensions of a group: chains, draws, and axes of variables from 0 on."""
    found: dict[str, np.ndarray] = {}
    for path, metadata in layout.arrays.items():
        if path.startswith(f"{group}/"):
            chains, _, *rest = metadata["shape"]
            sizes = (chains, num_draws, *rest)
            names = metadata.get("dimension_names") or ()
            named = zip(names, sizes, strict=False)
            found |= {name: np.arange(n) for name, n in named if n <= MAX_LENGTH}
    return {name: v for name, v in found.items() if f"{group}/{name}" not in layout.arrays}


def write_coordinates(path: Path, layout: Layout) -> dict[str, dict[str, Any]]:
    """Write the coordinates of all groups, as many as the arrays are long.

    Returns:
        Their metadata, by path in the store.
    """
    length = max(metadata["shape"][1] for metadata in layout.arrays.values())
    written = {}
    for group in layout.groups:
        for name, values in coordinates_of(layout, group, length).items():
            metadata = _metadata(name, len(values))
            text = json.dumps(metadata).encode()
            place, written[f"{group}/{name}"] = path / group / name, metadata
            if (place / "zarr.json").exists() and (place / "zarr.json").read_bytes() == text:
                continue
            if len(values):
                write_block(place / "c" / "0", 0, values.astype(np.int64)[None], len(values))
            place.mkdir(parents=True, exist_ok=True)
            write_atomically(place / "zarr.json", text)
    return written


def _metadata(name: str, size: int) -> dict[str, Any]:
    """Zarr's metadata of a coordinate, in one chunk."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [max(size, 1)]}}
    keys = {"name": "default", "configuration": {"separator": "/"}}
    return {
        "shape": [size],
        "data_type": "int64",
        "chunk_grid": grid,
        "chunk_key_encoding": keys,
        "fill_value": 0,
        "codecs": CODECS[0],
        "attributes": {},
        "dimension_names": [name],
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def consolidated(path: Path, arrays: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """All metadata of a store in one, for its root; None if that would be too large to read.

    Args:
        path: the store's folder.
        arrays: metadata of all arrays, by path in the store.
    """
    groups = dict.fromkeys((*GROUPS, *(name.split("/")[0] for name in arrays)))
    every = {name: json.loads((path / name / "zarr.json").read_bytes()) for name in groups} | arrays
    found = {"kind": "inline", "must_understand": False, "metadata": every}
    return found if len(json.dumps(found)) < MAX_METADATA // 2 else None
