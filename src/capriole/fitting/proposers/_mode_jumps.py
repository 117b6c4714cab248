"""The candidate for modes that can be found: jumps between Gaussians at the maxima of the log
density.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize
from scipy.special import logsumexp

from ...adaptation import Exploration, logdensities
from ...coordinates import Whitened, diagonal, from_user
from ...diagnostics import MOST_MODES
from ...kernels import AbstractLogDensity, Key, ModeJump, Transition, Vector, state_at
from ...runtime import CompileClock
from .._candidate import JUMPS, Candidate
from .._evaluation import judge
from .._validation import UNMIXED
from ._networks import with_small_steps

MOST_DIM = 50
_ANGLES = (math.pi / 2, 0.8)
_LEAST_SHARE = 1e-4
_DRAWS = 4096
_WIDER = 1.2
_FEW = 20
_THIN = 1e-3


class Gaussians(NamedTuple):
    """Modes as Gaussians: centres (modes, dim), covariances (modes, dim, dim) and log masses
    (modes,).
    """

    centre: np.ndarray
    covariance: np.ndarray
    log_mass: np.ndarray

    def share(self) -> np.ndarray:
        """Shares of the mass."""
        return np.exp(self.log_mass - logsumexp(self.log_mass))


def jumps(
    key: Key, logdensity: AbstractLogDensity, pilot: Exploration
) -> tuple[Candidate | None, int]:
    """`ModeJump` between the maxima that the places of the pilot's chains lead up to, with plain
    HMC moves mixed in.

    None if there is one maximum, or more than `MOST_MODES`, or in more than `MOST_DIM` dimensions;
    or if its chains, from all those places, do not meet either. And the gradients spent where there
    is no candidate that has paid them.
    """
    position = np.asarray(pilot.position)
    if len(position) > MOST_DIM:
        return None, 0
    with CompileClock() as clock:
        pool = pilot.draws.reshape(-1, len(position)).T
        white = Whitened(logdensity, diagonal(pool, dtype=pilot.position.dtype))
        start = from_user(white, position)
        found, spent = find_maxima(white, start)
        if found is None:
            return None, spent
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        modes = refined(rng, white, found, jnp.asarray(start))
        spent += _DRAWS
        best = None
        for i, angle in enumerate(_ANGLES):
            kernel = Transition(white, made(modes, angle, start.dtype))
            with_hmc = with_small_steps(Candidate(JUMPS, kernel, None, 1), pilot.step_size)  # type: ignore[arg-type]
            judgement = judge(jax.random.fold_in(key, i), with_hmc.transition, jnp.asarray(start))
            spent += judgement.spent_gradients
            if best is None or judgement.worst > best.judgement.worst:
                best = with_hmc._replace(judgement=judgement)
    if best is None or not best.judgement.rhat_max < UNMIXED:
        return None, spent
    best = best._replace(num_gradients=spent, shared_gradients=0)
    return best._replace(seconds=clock.seconds, compile_seconds=clock.compile_seconds), 0


def made(modes: Gaussians, angle: float, dtype: np.dtype) -> ModeJump:
    """The jump between ``modes``."""
    factor = np.linalg.cholesky(modes.covariance)
    arrays = (modes.centre, factor, np.log(modes.share()), angle)
    return ModeJump(*(jnp.asarray(array, dtype) for array in arrays))


def find_maxima(
    target: AbstractLogDensity, start: Float[np.ndarray, "dim n"]
) -> tuple[Gaussians | None, int]:
    """Maxima that L-BFGS climbs to from ``start``, with the Gaussians of the curvature there
    (Laplace), and gradients.

    Two places within one deviation of one another are one maximum. None for fewer than two or more
    than `MOST_MODES`, and for a log density without second derivatives.
    """
    spent = 0

    def down(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal spent
        spent += 1
        try:
            there = state_at(target, jnp.asarray(x, start.dtype))
            value, grad = float(there.logdensity), np.asarray(there.logdensity_grad, np.float64)
        except Exception:  # the user's own, who may raise so far out
            return np.inf, np.zeros_like(x)
        return (
            (-value, -grad)
            if np.isfinite(value) and np.isfinite(grad).all()
            else (np.inf, np.zeros_like(grad))
        )

    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    for x in start.T:
        if not np.isfinite(down(x.astype(np.float64))[0]):
            continue
        end = minimize(
            down, x.astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": 200}
        )
        if not np.isfinite(end.fun) or any(_near(end.x, *known[:2]) for known in found):
            continue
        covariance = _covariance(target, jnp.asarray(end.x, start.dtype))
        spent += len(start)
        if covariance is None:
            continue
        log_mass = -float(end.fun) + float(np.linalg.slogdet(covariance)[1]) / 2
        found = [known for known in found if not _near(known[0], end.x, covariance)]
        found.append((end.x, covariance, log_mass))
        if len(found) > MOST_MODES:
            return None, spent
    total = logsumexp([log_mass for *_, log_mass in found]) if found else 0.0
    kept = [mode for mode in found if mode[2] - total > math.log(_LEAST_SHARE)]
    if len(kept) < 2:
        return None, spent
    return Gaussians(*(np.array(column) for column in zip(*kept, strict=True))), spent


def _near(x: np.ndarray, centre: np.ndarray, covariance: np.ndarray) -> bool:
    return float((x - centre) @ np.linalg.solve(covariance, x - centre)) < 1


def _covariance(target: AbstractLogDensity, position: Vector) -> np.ndarray | None:
    """Minus the inverse of the Hessian; None where the point is no maximum, or there is no Hessian."""
    try:
        curvature = -np.asarray(_hessian(target, position), np.float64)
        curvature = (curvature + curvature.T) / 2
        np.linalg.cholesky(curvature)
    except Exception:  # not positive definite, no second derivative, or the user's own
        return None
    covariance = np.linalg.inv(curvature)
    return covariance if np.isfinite(covariance).all() else None


@eqx.filter_jit
def _hessian(target: AbstractLogDensity, position: Vector) -> Float[Array, "dim dim"]:
    return jax.jacfwd(jax.grad(target))(position)


def refined(
    rng: np.random.Generator, target: AbstractLogDensity, modes: Gaussians, like: Vector
) -> Gaussians:
    """The same with means, covariances and masses by importance sampling, where the weights are
    worth something::

        x ~ q = sum_k share_k N(c_k, C_k);   weights p(x) / q(x), each divided among the modes by their part of q(x)

    with shares and covariances a little wider. What the curvature at the top says of a mode that is
    skewed, or has tails, is not its spread. As many at a time as there are positions in ``like``.
    """
    dim, num = modes.centre.shape[1], len(modes.centre)
    share = (modes.share() + 1 / num) / 2
    which = rng.choice(num, _DRAWS, p=share / share.sum())
    factor = np.linalg.cholesky(_WIDER * modes.covariance)
    noise = rng.normal(size=(_DRAWS, dim))
    draws = modes.centre[which] + np.einsum("nij,nj->ni", factor[which], noise)
    z = np.stack([np.linalg.solve(factor[k], (draws - modes.centre[k]).T) for k in range(num)])
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    part = np.log(share)[:, None] - np.sum(z**2, axis=1) / 2 - log_det[:, None]
    try:
        lp = logdensities(target, draws.T, like).astype(np.float64)
    except Exception:  # the user's own, who may raise in a tail
        return modes
    weights = np.exp(part - logsumexp(part, axis=0)) * _exp(lp - logsumexp(part, axis=0))
    centre, covariance, log_mass = (np.array(values) for values in modes)
    for k in range(num):
        total = weights[k].sum()
        if not total > 0 or not total**2 / np.sum(weights[k] ** 2) > _FEW * dim:
            continue
        mean = weights[k] @ draws / total
        apart = draws - mean
        spread = (weights[k, :, None] * apart).T @ apart / total
        if not np.linalg.eigvalsh(spread)[0] > _THIN * np.linalg.eigvalsh(covariance[k])[0]:
            continue
        centre[k], covariance[k], log_mass[k] = mean, spread, math.log(total)
    return Gaussians(centre, covariance, log_mass)


def _exp(values: np.ndarray) -> np.ndarray:
    """Up to a constant."""
    finite = np.where(np.isfinite(values), values, -np.inf)
    return np.exp(finite - np.max(finite))
