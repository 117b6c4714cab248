"""Benchmark log densities, with exact draws and moments where they are known."""

import difflib
import os
from typing import Any

from ._base import AbstractExactTarget, AbstractMultimodalTarget, AbstractTarget, Entry
from ._curved import Banana, Funnel, RingMixture, RoughWell, rough_well, rougher_well
from ._gaussian import (
    GaussianMixture,
    IllConditionedGaussian,
    StronglyCorrelatedGaussian,
    mog,
    mog2,
    mog_asym,
)
from ._posterior import AbstractPosterior
from ._posteriordb import (
    PosteriordbError,
    Summary,
    find_posteriordb,
    read_data,
    reference_draws,
    reference_summary,
)
from ._posteriors import POSTERIORS
from .models._batting import BinomialHierarchy, batting_averages
from .models._cox import CoxProcess, coal_disasters
from .models._logistic import LogisticRegression, breast_cancer
from .models._predator import LotkaVolterra, lynx_hare
from .models._volatility import StochasticVolatility, stochastic_volatility, volatility_moments

_PAPER = "Levy et al. 2018, 5.1"

TARGETS: dict[str, Entry] = {
    "icg": Entry(IllConditionedGaussian, "50-d Gaussian, variances 1e-2 to 1e2", _PAPER),
    "scg": Entry(
        StronglyCorrelatedGaussian,
        "2-d Gaussian, variances 1e2 and 1e-2, rotated by 45 degrees",
        _PAPER,
    ),
    "mog": Entry(mog, "two equal modes 4 apart, variance 0.1", _PAPER),
    "mog-asym": Entry(mog_asym, "two equal modes 10 apart, variances 3 and 0.05", _PAPER),
    "mog2": Entry(mog2, "two equal modes 10 apart, variance 0.5", "Song et al. 2017"),
    "rough-well": Entry(rough_well, "2-d Gaussian with ripple 0.01 cos(x / 0.01)", _PAPER),
    "rougher-well": Entry(
        rougher_well, "2-d Gaussian with ripple 0.01 cos(x / 0.0001)", "released code of the paper"
    ),
    "funnel": Entry(Funnel, "Neal's funnel, 10-d, neck N(0, 9)", "Neal 2003"),
    "banana": Entry(Banana, "2-d banana, curvature 0.03, scale 10", "Haario et al. 1999"),
    "rings": Entry(
        RingMixture, "five concentric rings, radii 1 to 5", "Song et al. 2017, smoothed"
    ),
    "logistic": Entry(
        breast_cancer, "logistic regression, breast cancer data, 31 weights", "UCI, CC BY 4.0"
    ),
}

MODELS: dict[str, Entry] = {
    "batting": Entry(
        batting_averages, "centred hierarchy of batting averages, 20-d", "Efron & Morris 1975"
    ),
    "coal": Entry(
        coal_disasters, "log-Gaussian Cox process of 191 coal mine disasters, 50-d", "Jarrett 1979"
    ),
    "lynx-hare": Entry(
        lynx_hare, "Lotka-Volterra equations, 21 years of pelts, 8-d", "Hewitt 1921, Carpenter 2018"
    ),
    "volatility": Entry(
        stochastic_volatility, "stochastic volatility, 203-d, non-centred", "simulated, fixed seed"
    ),
}


def make_target(
    name: str, *, dtype: Any = None, path: str | os.PathLike | None = None
) -> AbstractTarget:
    """The target called ``name``: see `TARGETS`, `MODELS` and, as ``posteriordb/NAME``,
    `POSTERIORS`.

    ``path`` is that of a checkout of posteriordb; without it `find_posteriordb` looks for one.
    Raises ValueError with the closest and all known names for an unknown one, and for a ``path``
    that the target has no use for.
    """
    known = TARGETS | MODELS | POSTERIORS
    if name not in known:
        close = difflib.get_close_matches(name, known, 1) or [
            full for full in known if full.endswith("/" + name)
        ]
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown target {name!r}; {hint}known are {', '.join(known)}")
    if path is not None and name not in POSTERIORS:
        raise ValueError(
            f"{name} is no posterior of posteriordb, so path={os.fspath(path)!r} has no effect: "
            "leave it out"
        )
    return known[name].factory(dtype=dtype, **({} if path is None else {"path": path}))


__all__ = [
    "MODELS",
    "POSTERIORS",
    "TARGETS",
    "AbstractExactTarget",
    "AbstractMultimodalTarget",
    "AbstractPosterior",
    "AbstractTarget",
    "Banana",
    "BinomialHierarchy",
    "CoxProcess",
    "Entry",
    "Funnel",
    "GaussianMixture",
    "IllConditionedGaussian",
    "LogisticRegression",
    "LotkaVolterra",
    "PosteriordbError",
    "RingMixture",
    "RoughWell",
    "StochasticVolatility",
    "StronglyCorrelatedGaussian",
    "Summary",
    "batting_averages",
    "breast_cancer",
    "coal_disasters",
    "find_posteriordb",
    "lynx_hare",
    "make_target",
    "mog",
    "mog2",
    "mog_asym",
    "read_data",
    "reference_draws",
    "reference_summary",
    "rough_well",
    "rougher_well",
    "stochastic_volatility",
    "volatility_moments",
]
