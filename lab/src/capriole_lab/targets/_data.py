"""Reads the data that ship with capriole."""

import importlib.resources

import numpy as np


def read_table(name: str, shape: tuple[int, int]) -> np.ndarray:
    """A table of numbers from ``data/name``, comma-separated under one header line.

    Raises ValueError, naming the file, if it is missing, damaged or of another shape.
    """
    file = importlib.resources.files(__package__) / "data" / name
    try:
        rows = file.read_text(encoding="utf-8").splitlines()[1:]
        table = np.array([row.split(",") for row in rows], np.float64)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the data file {name} is missing or damaged ({error}); reinstall capriole"
        ) from error
    if table.shape != shape:
        raise ValueError(
            f"the data file {name} has shape {table.shape} instead of {shape}; reinstall capriole"
        )
    if not np.isfinite(table).all():
        raise ValueError(f"the data file {name} has missing values; reinstall capriole")
    return table
