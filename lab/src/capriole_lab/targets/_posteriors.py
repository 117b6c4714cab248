"""The posteriors of posteriordb that capriole knows, each built from the data of a checkout."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ._base import Entry
from ._posterior import AbstractPosterior, indexed
from ._posteriordb import read_data
from ._priors import AbstractPrior, Flat, Normal, StudentT
from .models._gp import PoissonProcessRegression
from .models._regression import NormalRegression
from .models._schools import CentredSchools, NonCentredSchools
from .models._series import Garch, HiddenMarkov, NormalMixture

PREFIX = "posteriordb/"

type Data = dict[str, Any]


def _regression(
    features: Any,
    response: Any,
    priors: tuple[tuple[int, AbstractPrior], ...],
    scale_prior: AbstractPrior,
    dtype: Any,
) -> NormalRegression:
    """Coefficients called beta."""
    names = (*indexed("beta", sum(num for num, _ in priors)), "sigma")
    return NormalRegression(
        features=features,
        response=response,
        priors=priors,
        scale_prior=scale_prior,
        parameters=names,
        dtype=dtype,
    )


def _columns(*columns: Any) -> np.ndarray:
    """Features with an intercept first."""
    return np.column_stack([np.ones(len(columns[0])), *columns])


def _blr(data: Data, dtype: Any) -> NormalRegression:
    return _regression(data["X"], data["y"], ((5, Normal(0, 10)),), Normal(0, 10), dtype)


def _kidscore_interaction(data: Data, dtype: Any) -> NormalRegression:
    school, iq = np.array(data["mom_hs"]), np.array(data["mom_iq"])
    return _regression(
        _columns(school, iq, school * iq),
        data["kid_score"],
        ((4, Flat()),),
        StudentT(1, 0, 2.5),
        dtype,
    )


def _logearn_interaction_z(data: Data, dtype: Any) -> NormalRegression:
    height, male = np.array(data["height"], np.float64), np.array(data["male"])
    height = (height - height.mean()) / height.std(ddof=1)
    return _regression(
        _columns(height, male, height * male), np.log(data["earn"]), ((4, Flat()),), Flat(), dtype
    )


def _earn_height(data: Data, dtype: Any) -> NormalRegression:
    return _regression(_columns(data["height"]), data["earn"], ((2, Flat()),), Flat(), dtype)


def _kilpisjarvi(data: Data, dtype: Any) -> NormalRegression:
    intercept, slope = (
        Normal(data["pmualpha"], data["psalpha"]),
        Normal(data["pmubeta"], data["psbeta"]),
    )
    return NormalRegression(
        features=_columns(data["x"]),
        response=data["y"],
        priors=((1, intercept), (1, slope)),
        scale_prior=Flat(),
        parameters=("alpha", "beta", "sigma"),
        dtype=dtype,
    )


def _diamonds(data: Data, dtype: Any) -> NormalRegression:
    """Columns centred as brms does; the intercept is that of centred columns."""
    columns = np.array(data["X"])[:, 1:]
    num = columns.shape[1]
    return NormalRegression(
        features=np.column_stack([columns - columns.mean(axis=0), np.ones(len(columns))]),
        response=data["Y"],
        priors=((num, Normal(0, 1)), (1, StudentT(3, 8, 10))),
        scale_prior=StudentT(3, 0, 10),
        parameters=(*indexed("b", num), "Intercept", "sigma"),
        dtype=dtype,
    )


def _ark(data: Data, dtype: Any) -> NormalRegression:
    """An autoregression is a regression on the series' own past; the first K values are given."""
    order, series = data["K"], np.array(data["y"])
    lagged = [series[order - lag : len(series) - lag] for lag in range(1, order + 1)]
    return NormalRegression(
        features=_columns(*lagged),
        response=series[order:],
        priors=((1 + order, Normal(0, 10)),),
        scale_prior=StudentT(1, 0, 2.5),
        parameters=("alpha", *indexed("beta", order), "sigma"),
        dtype=dtype,
    )


def _centred_schools(data: Data, dtype: Any) -> CentredSchools:
    return CentredSchools(effects=data["y"], errors=data["sigma"], dtype=dtype)


def _noncentred_schools(data: Data, dtype: Any) -> NonCentredSchools:
    return NonCentredSchools(effects=data["y"], errors=data["sigma"], dtype=dtype)


def _garch(data: Data, dtype: Any) -> Garch:
    return Garch(series=data["y"], first_scale=data["sigma1"], dtype=dtype)


def _hmm(data: Data, dtype: Any) -> HiddenMarkov:
    return HiddenMarkov(series=data["y"], dtype=dtype)


def _mixture(data: Data, dtype: Any) -> NormalMixture:
    return NormalMixture(values=data["y"], dtype=dtype)


def _gp(data: Data, dtype: Any) -> PoissonProcessRegression:
    return PoissonProcessRegression(inputs=data["x"], counts=data["k"], dtype=dtype)


def _build(
    name: str,
    model: Callable[[Data, Any], AbstractPosterior],
    *,
    dtype: Any = None,
    path: str | os.PathLike | None = None,
) -> AbstractPosterior:
    return model(read_data(name, path=path), dtype)


_MODELS: dict[str, tuple[Callable[[Data, Any], AbstractPosterior], str]] = {
    "eight_schools-eight_schools_noncentered": (
        _noncentred_schools,
        "hierarchical, 10-d, non-centred",
    ),
    "eight_schools-eight_schools_centered": (
        _centred_schools,
        "hierarchical, 10-d, centred: a funnel",
    ),
    "sblrc-blr": (_blr, "linear regression, 6-d, correlated"),
    "kidiq-kidscore_interaction": (
        _kidscore_interaction,
        "linear regression, 5-d, raw units, condition 1e7",
    ),
    "earnings-logearn_interaction_z": (
        _logearn_interaction_z,
        "linear regression, 5-d, standardised",
    ),
    "earnings-earn_height": (_earn_height, "linear regression, 3-d, raw dollars, condition 2e11"),
    "kilpisjarvi_mod-kilpisjarvi": (
        _kilpisjarvi,
        "linear regression, 3-d, uncentred years, condition 7e11",
    ),
    "diamonds-diamonds": (_diamonds, "linear regression, 26-d, 5000 rows"),
    "arK-arK": (_ark, "autoregression of order 5, 7-d"),
    "garch-garch11": (_garch, "GARCH(1, 1), 4-d"),
    "low_dim_gauss_mix-low_dim_gauss_mix": (_mixture, "two-component mixture, 5-d, 1000 rows"),
    "hmm_example-hmm_example": (_hmm, "hidden Markov model, 4-d"),
    "gp_pois_regr-gp_pois_regr": (_gp, "Poisson Gaussian process, 13-d, float64 only"),
}

POSTERIORS: dict[str, Entry] = {
    PREFIX + name: Entry(functools.partial(_build, name, model), summary, "posteriordb")
    for name, (model, summary) in _MODELS.items()
}
