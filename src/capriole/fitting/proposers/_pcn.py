"""The Crank-Nicolson move: whether its chains may be held somewhere, and what then goes with it."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ...adaptation import start_state
from ...coordinates import from_user
from ...kernels import Key, Mixture, Transition, Vector
from .._candidate import Addition, Candidate, Kind
from .._evaluation import evaluate
from .._thresholds import THRESHOLDS

_PLACES = 4096
"""Log densities that a check of returns takes, twice."""
_AT_ONCE = 64
"""Log densities at a time: as many as the search has chains, whose program is there already."""
_ASKED = 16
"""Positions, of each sort, from which acceptance rates are estimated."""
_ROTATION_SHARE = 0.25
"""Share of all gradients that a rotation has where it is mixed in."""


def with_rotation(
    key: Key, free: Candidate, turned: Candidate, positions: np.ndarray, dispersed_starts: Vector
) -> Candidate:
    """The Crank-Nicolson move, with a rotation mixed in where its chains may be held.

    Its proposals do not know where the mass is. Under tails heavier than its own it finds the way
    there as rarely as the way back, and a run that was never there looks fine.

    Args:
        key: Key of the check.
        free: The Crank-Nicolson move.
        turned: The rotation to mix in, with a quarter of all gradients.
        positions: Positions (dim, n), in the user's coordinates, that the check asks.
        dispersed_starts: Starts (dim, chains) of a measurement, in the candidates' coordinates.

    Returns:
        The move, or the mixture, measured.
    """
    kernel: Transition = free.kernel  # type: ignore[assignment]
    free.account.charge(2 * _PLACES)
    if acceptance_ratio(key, kernel, positions) <= THRESHOLDS.pcn_held_ratio:
        return free
    share = 1 / (1 + (1 / _ROTATION_SHARE - 1) * (turned.num_leapfrogs or 1))
    mixture = Mixture((kernel, turned.kernel), (1 - share, share))
    metrics = evaluate(jax.random.fold_in(key, 1), mixture, dispersed_starts)
    free.account.charge(metrics.spent_gradients)
    return free.with_addition(Addition.ROTATION, transition=mixture, metrics=metrics)


def acceptance_ratio(key: Key, free: Transition, positions: np.ndarray) -> float:
    """Acceptance of a Crank-Nicolson move from typical positions over that from the worst::

        E min(1, w(y) / w(x))

    with ``w(x) = pi(x) exp(|x|^2 / 2)`` and y the proposals from x, in white coordinates. The worst
    positions are those of the greatest w.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    angle = np.ravel(free.dynamics.angle)[0]  # type: ignore[attr-defined]
    inside = from_user(
        free.target, positions[:, rng.integers(positions.shape[1], size=_PLACES)]
    ).astype(angle.dtype)
    weights = _log_weights(free, inside)
    asked = np.concatenate([np.argsort(-weights)[:_ASKED], np.arange(_ASKED)])
    noise = rng.normal(size=(len(inside), len(asked), _PLACES // len(asked))).astype(angle.dtype)
    proposals = inside[:, asked, None] * np.cos(angle) + noise * np.sin(angle)
    there = _log_weights(free, proposals.reshape(len(inside), -1)).reshape(len(asked), -1)
    with np.errstate(invalid="ignore"):  # of one impossible place after another
        gain = np.nan_to_num(there - weights[asked, None], nan=-np.inf)
    rates = np.exp(np.minimum(gain, 0.0)).mean(axis=1)
    return float(rates[_ASKED:].mean() / max(rates[:_ASKED].min(), 1e-12))


def _log_weights(free: Transition, position: np.ndarray) -> np.ndarray:
    """``log w``, -inf where it is no number, as many at a time as the search has chains: that
    program is there.
    """
    blocks = np.split(position, _PLACES // _AT_ONCE, axis=1)
    values = np.concatenate([start_state(free, jnp.asarray(block)).logdensity for block in blocks])
    return np.nan_to_num(values + np.sum(position**2, axis=0) / 2, nan=-np.inf)


def gradient_free(candidates: Sequence[Candidate]) -> Candidate | None:
    """The first Crank-Nicolson move of the candidates, alone even if a rotation was mixed in."""
    for candidate in candidates:
        if candidate.is_gradient_free:
            return candidate
        if candidate.kind is Kind.PCN and candidate.additions == (Addition.ROTATION,):
            parts = candidate.kernel.transitions  # type: ignore[attr-defined]
            return replace(candidate, additions=(), transition=parts[0])
    return None
