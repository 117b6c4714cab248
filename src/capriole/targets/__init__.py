"""Benchmark log densities, with exact draws and moments where they are known."""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from ._base import AbstractExactTarget, AbstractMultimodalTarget, AbstractTarget
from ._curved import Banana, Funnel, RingMixture, RoughWell, rough_well, rougher_well
from ._gaussian import (
    GaussianMixture,
    IllConditionedGaussian,
    StronglyCorrelatedGaussian,
    mog,
    mog2,
    mog_asym,
)
from ._logistic import LogisticRegression, breast_cancer


class Entry(NamedTuple):
    """One line of the registry."""

    factory: Callable[..., AbstractTarget]
    summary: str
    source: str


_PAPER = "Levy et al. 2018, 5.1"

TARGETS: dict[str, Entry] = {
    "icg": Entry(IllConditionedGaussian, "50-d Gaussian, variances 1e-2 to 1e2", _PAPER),
    "scg": Entry(StronglyCorrelatedGaussian, "2-d Gaussian, variances 1e2 and 1e-2, rotated by 45 degrees", _PAPER),
    "mog": Entry(mog, "two equal modes 4 apart, variance 0.1", _PAPER),
    "mog-asym": Entry(mog_asym, "two equal modes 10 apart, variances 3 and 0.05", _PAPER),
    "mog2": Entry(mog2, "two equal modes 10 apart, variance 0.5", "Song et al. 2017"),
    "rough-well": Entry(rough_well, "2-d Gaussian with ripple 0.01 cos(x / 0.01)", _PAPER),
    "rougher-well": Entry(rougher_well, "2-d Gaussian with ripple 0.01 cos(x / 0.0001)", "released code of the paper"),
    "funnel": Entry(Funnel, "Neal's funnel, 10-d, neck N(0, 9)", "Neal 2003"),
    "banana": Entry(Banana, "2-d banana, curvature 0.03, scale 10", "Haario et al. 1999"),
    "rings": Entry(RingMixture, "five concentric rings, radii 1 to 5", "Song et al. 2017, smoothed"),
    "logistic": Entry(breast_cancer, "logistic regression, breast cancer data, 31 weights", "UCI, CC BY 4.0"),
}


def make_target(name: str, *, dtype: Any = None) -> AbstractTarget:
    """The target called ``name`` (see `TARGETS`). Raises ValueError with the closest and all known names otherwise."""
    if name not in TARGETS:
        close = difflib.get_close_matches(name, TARGETS, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown target {name!r}; {hint}known are {', '.join(TARGETS)}")
    return TARGETS[name].factory(dtype=dtype)


__all__ = [
    "TARGETS",
    "AbstractExactTarget",
    "AbstractMultimodalTarget",
    "AbstractTarget",
    "Banana",
    "Entry",
    "Funnel",
    "GaussianMixture",
    "IllConditionedGaussian",
    "LogisticRegression",
    "RingMixture",
    "RoughWell",
    "StronglyCorrelatedGaussian",
    "breast_cancer",
    "make_target",
    "mog",
    "mog2",
    "mog_asym",
    "rough_well",
    "rougher_well",
]
