"""What the sites of a NumPyro model say: refusals, notes, data, and names of axes."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...runtime import require
from .._model import ModelError

type Trace = Mapping[str, Mapping[str, Any]]


def check_sites(trace: Trace) -> tuple[str, ...]:
    """Refuse what no Markov chain can sample.

    Args:
        trace: the sites of one run of the model.

    Returns:
        What a user should know of sites that are not sampled.

    Raises:
        ModelError: naming the site and the remedy.
        ImportError: discrete sites without funsor.
    """
    notes = [note for name, site in trace.items() for note in _check_site(name, site)]
    if not latent_sites(trace):
        raise ModelError(
            "the model has no site to sample: all its sites are observed, discrete or "
            "deterministic; is the data passed where a latent value was meant?"
        )
    if discrete_sites(trace):
        require("funsor", "numpyro")
    return tuple(notes)


def _check_site(name: str, site: Mapping[str, Any]) -> list[str]:
    """Notes of one site."""
    match site["type"]:
        case "plate":
            size, subsample = site["args"]
            if subsample not in (None, size):
                raise ModelError(
                    f"plate {name!r} is subsampled, {subsample} of {size}: a fixed subset would "
                    "stand for the data, and draws be of another posterior; remove subsample_size"
                )
        case "mutable":
            raise ModelError(
                f"site {name!r} is mutable state, which a Markov chain does not carry; make the "
                "model a pure function"
            )
        case "param":
            return [f"numpyro.param {name!r} is held at its initial value, as MCMC of NumPyro does"]
        case "sample" if site["is_observed"]:
            _check_data(name, site)
        case "sample":
            return _check_latent(name, site["fn"])
    return []


def _check_latent(name: str, distribution: Any) -> list[str]:
    """Notes of a site that is not observed."""
    kind = type(distribution).__name__
    if kind == "Delta":
        raise ModelError(
            f"site {name!r} has a Delta distribution, which has no density: write "
            "numpyro.deterministic instead"
        )
    if _is_circular(distribution.support):
        return [
            f"site {name!r} is circular, and NumPyro cuts the circle open: where mass is at the "
            "cut, write it with numpyro.infer.reparam.CircularReparam"
        ]
    if not distribution.support.is_discrete:
        return []
    if not distribution.has_enumerate_support:
        raise ModelError(
            f"site {name!r} is discrete, {kind}, without a finite support to sum over; sum it out "
            "in the model, or replace it by a continuous one"
        )
    return [f"discrete site {name!r} is summed out, and not in the draws"]


def _is_circular(support: Any) -> bool:
    from numpyro.distributions import constraints

    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is constraints.circular


def _check_data(name: str, site: Mapping[str, Any]) -> None:
    """Refuse NaN in data, unless it is masked."""
    value = np.asarray(site["value"])
    if value.dtype.kind != "f" or not np.isnan(value).any():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NaN is outside of every support
        lp = site["fn"].log_prob(site["value"])
    if not np.isfinite(np.sum(np.asarray(lp))):
        raise ModelError(
            f"observed site {name!r} holds {int(np.isnan(value).sum())} NaN; leave those rows "
            "out, or hide them by numpyro.handlers.mask"
        )


def latent_sites(trace: Trace) -> list[str]:
    """Names of the continuous sites that are sampled, as declared."""
    return [name for name, site in _unobserved(trace) if not site["fn"].support.is_discrete]


def discrete_sites(trace: Trace) -> list[str]:
    """Names of the discrete sites that are summed out."""
    return [name for name, site in _unobserved(trace) if site["fn"].support.is_discrete]


def _unobserved(trace: Trace) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (name, site)
        for name, site in trace.items()
        if site["type"] == "sample" and not site["is_observed"]
    ]


def deterministic_sites(trace: Trace) -> list[str]:
    """Names of deterministic sites."""
    return [name for name, site in trace.items() if site["type"] == "deterministic"]


def observed_sites(trace: Trace) -> list[str]:
    """Names of observed sites that hold data."""
    return [name for name in _observed(trace) if not _is_factor(trace[name])]


def factor_sites(trace: Trace) -> list[str]:
    """Names of ``numpyro.factor``, which look like observed sites and hold no data."""
    return [name for name in _observed(trace) if _is_factor(trace[name])]


def _observed(trace: Trace) -> list[str]:
    return [n for n, site in trace.items() if site["type"] == "sample" and site["is_observed"]]


def _is_factor(site: Mapping[str, Any]) -> bool:
    distribution = site["fn"]
    while type(distribution).__name__ in ("MaskedDistribution", "ExpandedDistribution"):
        distribution = distribution.base_dist
    return type(distribution).__name__ == "Unit"


def axis_names(trace: Trace, given: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Names of the axes of every site: of plates, ``infer={"event_dims": ...}``, and given ones.

    A plate names the axis that its ``dim`` says, counted from the right of the batch, and only
    where the value has that size there.

    Args:
        trace: the sites of one run of the model.
        given: names that a user gave, by site; fewer than a value has axes: the last ones.

    Returns:
        Names by site, of sites where any axis has one; others are ``NAME_dim_0``.

    Raises:
        ModelError: names were given for an unknown site, or more than it has axes.
    """
    known = {n: s for n, s in trace.items() if s["type"] in ("sample", "deterministic")}
    for name in given:
        if name not in {other.replace("/", ".") for other in known} | set(known):
            raise ModelError(f"dims names {name!r}, but the model has only {sorted(known)}")
    names = {}
    for name, site in known.items():
        labels = _of_plates(site)
        extra = given.get(name, given.get(name.replace("/", "."), ()))
        if len(extra) > len(labels):
            raise ModelError(
                f"dims[{name!r}] has {len(extra)} names, {list(extra)}, but the value has "
                f"{len(labels)} axes"
            )
        labels[len(labels) - len(extra) :] = extra
        if any(labels):
            names[name.replace("/", ".")] = tuple(
                label or f"{name}_dim_{axis}" for axis, label in enumerate(labels)
            )
    return names


def _of_plates(site: Mapping[str, Any]) -> list[str | None]:
    """Names of a site's axes that the model itself has."""
    shape, frames = np.shape(site["value"]), site["cond_indep_stack"]
    labels: list[str | None] = [None] * len(shape)
    if site["type"] == "sample":
        num_events = site["fn"].event_dim
    else:  # what is right of the plates of a deterministic value is its event
        num_events = max(0, len(shape) - max((-frame.dim for frame in frames), default=0))
    for frame in frames:
        axis = len(shape) - num_events + frame.dim
        if 0 <= axis < len(shape) and shape[axis] == frame.size:
            labels[axis] = frame.name
    events = list(site.get("infer", {}).get("event_dims", ()))
    for axis, event in zip(range(len(shape) - 1, -1, -1), reversed(events), strict=False):
        labels[axis] = event
    return labels
