"""``constrained``: a log density written for bounded parameters, as a `Model`."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import Scalar
from .._model import Model, ModelError
from ._matrix_supports import MATRICES
from ._supports import NAMED, Support, interval

type Array = Any

_KNOWN = {**NAMED, **MATRICES}


def constrained(
    logdensity: Callable[[dict[str, Array]], Scalar],
    example: Mapping[str, Any],
    supports: Mapping[str, Any],
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
) -> Model:
    r"""A log density of bounded parameters, as a model on the whole space.

    :math:`\log p(z) = \log p(x(z)) + \log |\mathrm d x / \mathrm d z|`, one map per parameter.

    Args:
        logdensity: unnormalised log density of a dict of arrays, in the parameters' own units,
            without Jacobians.
        example: one such dict, inside the supports; chains start around it.
        supports: where each parameter lives, by name. A word: "real" (the default), "positive",
            "unit", "circular", "ordered", "positive_ordered", "simplex", "cholesky_corr", "corr",
            "cholesky", "covariance". Bounds: ``(low, high)``, one of which may be None. A
            `capriole.models.Support`, such as `capriole.models.circular` of another period. A
            constraint or transform of NumPyro. A bijector of TensorFlow Probability or distrax.
        dims: names of the axes of a parameter, by its name.
        coords: labels along an axis, by its name.

    Returns:
        The model. ``capriole.fit`` takes it as it is, and returns draws of the parameters.

    Raises:
        ModelError: an example outside its support, or a support that is not known.
    """
    if not isinstance(example, Mapping) or not example:
        raise ModelError(f"example must be a dict of arrays by name, got {example!r:.80}")
    if unknown := sorted(set(supports) - set(example)):
        raise ModelError(f"supports name {unknown}, but example has only {sorted(example)}")
    parts = {name: as_support(supports.get(name, "real"), name) for name in example}
    init = {name: _unconstrained(name, parts[name], example[name]) for name in example}

    def values(z: Mapping[str, Array]) -> dict[str, Array]:
        return {name: part.forward(z[name])[0] for name, part in parts.items()}

    free = _Unconstrained(logdensity, tuple(parts.items()))
    density: Callable = free
    if not isinstance(logdensity, eqx.Module | jax.tree_util.Partial):
        density = functools.partial(_Unconstrained.__call__, free)  # compiled anew in every call
    return Model(density, init, values, dims or {}, coords or {})


class _Unconstrained(eqx.Module):
    """A log density of bounded parameters with the log determinants of their maps."""

    logdensity: Callable
    parts: tuple[tuple[str, Support], ...] = eqx.field(static=True)

    def __call__(self, z: Mapping[str, Array]) -> Scalar:
        """Log density at one unconstrained position."""
        there = {name: part.forward(z[name]) for name, part in self.parts}
        total = self.logdensity({name: value for name, (value, _) in there.items()})
        for _, log_det in there.values():
            total = total + log_det
        return total


def _unconstrained(name: str, support: Support, value: Any) -> np.ndarray:
    """The unconstrained array of an example, which must come back from there."""
    try:
        host = np.asarray(value, np.dtype(jnp.result_type(float)))
    except (TypeError, ValueError) as error:
        raise ModelError(f"example[{name!r}] must be numbers, got {value!r:.80}") from error
    try:
        inside = bool(np.all(support.holds(host)))
    except (TypeError, ValueError, IndexError):  # a shape that the support cannot have
        inside = False
    if not inside:
        raise ModelError(
            f"example[{name!r}] must be {support.words}, got {host!r:.120}; chains start there"
        )
    z = np.asarray(support.inverse(jnp.asarray(host)))
    back, _ = support.forward(jnp.asarray(z))
    size = 1 + np.max(np.abs(host), initial=0)
    if np.shape(back) != host.shape or not np.allclose(back, host, rtol=0, atol=1e-3 * size):
        raise ModelError(
            f"example[{name!r}] does not come back from the whole space: {host!r:.80} of shape "
            f"{host.shape} became {np.asarray(back)!r:.80}; are its bounds of another shape, or is "
            "it at the edge of its support?"
        )
    return z


def as_support(given: Any, name: str) -> Support:
    """What a user says of where a parameter lives, as a `Support`.

    Args:
        given: a word, bounds, a support, or a constraint or bijector of another library.
        name: the parameter, for messages.

    Returns:
        The support.

    Raises:
        ModelError: it is none of these.
    """
    if isinstance(given, Support):
        return given
    if isinstance(given, str) and given in _KNOWN:
        return _KNOWN[given]()
    if isinstance(given, tuple) and len(given) == 2:
        try:
            return interval(*given)
        except (TypeError, ValueError) as error:
            raise ModelError(f"the support of {name!r} cannot be used: {error}") from error
    if hasattr(given, "forward_log_det_jacobian"):
        return _of_bijector(given)
    if type(given).__module__.split(".")[0] == "numpyro":
        return _of_numpyro(given)
    raise ModelError(
        f"the support of {name!r} is {given!r:.60}, which is not known; give one of "
        f"{', '.join(_KNOWN)}, or bounds (low, high), or a constraint of NumPyro or a bijector"
    )


def _of_bijector(bijector: Any) -> Support:
    """A bijector of TensorFlow Probability on JAX, or of distrax."""

    def forward(z: Array) -> tuple[Array, Scalar]:
        least = getattr(bijector, "forward_min_event_ndims", None)
        if least is None:  # distrax: one log determinant for each event
            log_det = bijector.forward_log_det_jacobian(z)
        else:
            ndims = max(z.ndim, least)
            log_det = bijector.forward_log_det_jacobian(z, event_ndims=ndims)
        return bijector.forward(z), jnp.sum(log_det)

    words = f"in the range of {type(bijector).__name__}"
    return Support(words, forward, bijector.inverse, lambda x: np.isfinite(bijector.inverse(x)))


def _of_numpyro(given: Any) -> Support:
    """A constraint or a transform of NumPyro."""
    from numpyro.distributions import biject_to
    from numpyro.distributions.transforms import Transform

    transform = given if isinstance(given, Transform) else biject_to(given)
    constraint = transform.codomain if isinstance(given, Transform) else given

    def forward(z: Array) -> tuple[Array, Scalar]:
        x = transform(z)
        return x, jnp.sum(transform.log_abs_det_jacobian(z, x))

    words = f"{type(constraint).__name__.strip('_')} as NumPyro has it"
    return Support(words, forward, transform.inv, constraint)
