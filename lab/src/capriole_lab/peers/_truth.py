"""Are draws right? Exact moments, mode weights, or posteriordb's reference draws."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from capriole import diagnostics
from capriole.diagnostics import RHAT_LIMIT, Z_LIMIT, agreement

from ..targets import POSTERIORS, AbstractExactTarget, AbstractPosterior, reference_draws

type Row = dict[str, Any]


def truth(name: str, target: Any, position: np.ndarray, coordinates: int | None) -> Row:
    """The verdict on ``position`` (chains, draws, dim); ``passed`` None: nothing is known."""
    if name in POSTERIORS:
        return _against_reference(name.partition("/")[2], target, position)
    if isinstance(target, AbstractExactTarget):
        return _against_moments(target, position, coordinates)
    return {"kind": "none", "max_abs_z": None, "passed": None}


def _against_moments(target: Any, position: np.ndarray, coordinates: int | None) -> Row:
    """Means and variances in standard errors; coordinates without moments are left out."""
    mean, variance = (
        np.asarray(moment, np.float64)[:coordinates] for moment in (target.mean, target.variance)
    )
    known = np.isfinite(mean) & np.isfinite(variance)
    centred = np.asarray(position[..., :coordinates], np.float64)[..., known] - mean[known]
    z = np.abs(np.stack([_z(centred, 0.0), _z(centred**2, variance[known])]))
    return {
        "kind": "exact moments",
        "max_abs_z": float(np.max(z)),
        "max_abs_z_mean": float(np.max(z[0])),
        "max_abs_z_square": float(np.max(z[1])),
        "passed": bool(np.all(z <= Z_LIMIT)),
    }


def _z(values: np.ndarray, exact: np.ndarray | float) -> np.ndarray:
    return (values.mean(axis=(0, 1)) - exact) / diagnostics.mean_error(values)


def _against_reference(name: str, target: AbstractPosterior, position: np.ndarray) -> Row:
    """The rule of `capriole.diagnostics._agreement` on every constrained parameter."""
    reference = reference_draws(name)
    constrained = target.constrain(jnp.moveaxis(jnp.asarray(position), -1, 0))
    draws = np.stack(
        [np.asarray(constrained[key], np.float64) for key in target.parameters], axis=-1
    )
    found = agreement(draws, np.stack([reference[key] for key in target.parameters], axis=-1))
    z = np.abs(np.stack([found.z_mean, found.z_square]))
    return {
        "kind": "reference draws",
        "max_abs_z": float(np.max(z)),
        "max_abs_z_mean": float(np.max(z[0])),
        "max_abs_z_square": float(np.max(z[1])),
        "max_ks_over_limit": float(np.max(found.ks / found.ks_limit)),
        "passed": bool(np.all(z <= Z_LIMIT) and np.all(found.ks <= found.ks_limit)),
    }


def modes(target: Any, position: np.ndarray) -> Row:
    """Weights of the modes in standard errors, and R-hat; no switches is a failure."""
    exact = np.asarray(target.mode_weights, np.float64)
    flat = jnp.asarray(position.reshape(-1, position.shape[-1]).T)
    labels = np.asarray(target.mode(flat)).reshape(position.shape[:2])
    indicators = (labels[..., None] == np.arange(len(exact))).astype(np.float64)
    z = np.abs(_z(indicators, exact))
    rhat = diagnostics.mode_rhat(labels, len(exact))
    return {
        "weights": indicators.mean(axis=(0, 1)),
        "exact": exact,
        "max_abs_z": float(np.max(z)),
        "rhat": rhat,
        "switches_per_draw": diagnostics.mode_occupation(labels, len(exact)).switches_per_step,
        "passed": bool(np.all(z <= Z_LIMIT) and rhat < RHAT_LIMIT),
    }


def moments(position: np.ndarray) -> Row:
    """Means, variances and their errors, by which cells without known truth are compared."""
    return diagnostics.moments(position)._asdict()
