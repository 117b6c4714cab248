"""The rotation that no gradient steers: whether its chains may be held somewhere, and what then
goes with it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ...adaptation import start_state
from ...coordinates import from_user
from ...kernels import Key, Mixture, Transition, Vector
from .._candidate import Candidate
from .._evaluation import judge

FREE = "Crank-Nicolson"
"""What names of gradient-free rotations end with, with `RETURNS` or without."""
RETURNS = "and rotation"
_PLACES = 4096
_AT_ONCE = 64
_ASKED = 16
_HELD = 4.0


def with_returns(
    key: Key, free: Candidate, turned: Candidate, places: np.ndarray, crowd: Vector
) -> Candidate:
    """The gradient-free rotation; with the rotation ``turned`` mixed in, a quarter of all
    gradients, if its chains may be held: if from some of the ``places`` (dim, n), in the user's
    coordinates, proposals are accepted `_HELD` times less often than from others.

    Its proposals do not know where the mass is. Under tails heavier than its own it finds the way
    there as rarely as the way back, and a run that was never there looks fine.
    """
    spent = 2 * _PLACES
    kernel: Transition = free.transition  # type: ignore[assignment]
    if held(key, kernel, places) > _HELD:
        share = 1 / (1 + 3 * turned.num_leapfrogs)
        mixture = Mixture((kernel, turned.transition), (1 - share, share))
        judgement = judge(jax.random.fold_in(key, 1), mixture, crowd)
        free = free._replace(name=f"{free.name} {RETURNS}", transition=mixture, judgement=judgement)
        spent += judgement.spent_gradients
    return free._replace(num_gradients=free.num_gradients + spent)


def held(key: Key, free: Transition, places: np.ndarray) -> float:
    """The acceptance rate of a gradient-free rotation from typical ``places`` (dim, n) over that
    from the worst ones.

    ``E min(1, w(y) / w(x))`` with ``w(x) = pi(x) exp(|x|^2 / 2)`` and y the proposals from x, in
    white coordinates; the worst places are those of the greatest w. Half of ``2 * _PLACES`` log
    densities go into w, half into the proposals.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    angle = np.ravel(free.dynamics.angle)[0]  # type: ignore[attr-defined]
    inside = from_user(free.target, places[:, rng.integers(places.shape[1], size=_PLACES)]).astype(
        angle.dtype
    )
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
    """The first gradient-free rotation of the candidates, alone even if it was measured with
    another kernel.
    """
    for candidate in candidates:
        if candidate.name.endswith(FREE):
            return candidate
        if candidate.name.endswith(f"{FREE} {RETURNS}"):
            parts = candidate.transition.transitions  # type: ignore[attr-defined]
            return candidate._replace(
                name=candidate.name.removesuffix(f" {RETURNS}"), transition=parts[0]
            )
    return None
