"""Numbers as they stand in tables; those that were not finite are None in stored files."""

from collections.abc import Mapping


def number(value: float | None, digits: int = 2) -> str:
    """With so many decimals."""
    return "not finite" if value is None else f"{value:.{digits}f}"


def plus_minus(mean: float | None, se: float | None, digits: int = 2) -> str:
    """Mean and standard error."""
    return f"{number(mean, digits)} ± {number(se, digits)}"


def mean_and_se(figure: Mapping[str, float | None]) -> str:
    """A stored ``mean`` and its ``se``."""
    return plus_minus(figure["mean"], figure["se"])
