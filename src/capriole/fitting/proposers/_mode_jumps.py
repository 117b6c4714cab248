"""Jumps between the modes that can be climbed to: Gaussians at maxima of the log density."""

import math
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import logsumexp

from ...adaptation import logdensities
from ...coordinates import Whitened, diagonal, from_user
from ...diagnostics import MAX_MODES, farthest_point_subset
from ...kernels import (
    AbstractLogDensity,
    ModeJump,
    SecondDerivatives,
    Transition,
    Vector,
    state_at,
)
from .._additions import HMC_SHARE, with_small_steps
from .._budget import Account, Cost
from .._candidate import Candidate, Kind
from .._context import SearchContext, Stream
from .._evaluation import SHORT_RUN, SHORT_WARMUP, evaluate
from .._thresholds import THRESHOLDS

_ANGLES = (math.pi / 2, 0.8)
"""Angles of the rotation within a mode: independent draws of a Gaussian, or half way there."""
_CLIMB = 30
"""Gradients of a climb, as expected (Gaussian modes in 2 to 20 dimensions)."""
_DRAWS = 4096
"""Draws of the importance sampling that refines the modes."""
_CLIMBS = 16
"""Positions that are climbed from where the modes are known."""
_WIDER = 1.2
"""Factor of the covariances in that proposal: the tails must be covered."""
_FEW = 20
"""Effective draws for each dimension below which a mode's curvature is trusted instead."""
_THIN = 1e-3
"""Smallest variance of refined draws, relative to that by curvature."""


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


class WeighedModeJumps:
    """Proposes jumps first of all where modes were weighed.

    Their Gaussians are known then, so that rotations need not be searched where jumps are good.
    """

    name = "jumps between weighed modes"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: as `ModeJumps`, if there are such modes."""
        return ModeJumps().cost(context) if context.warmup.weighed else Cost()

    def propose(self, context: SearchContext) -> SearchContext:
        """`ModeJumps`, if there are such modes.

        Args:
            context: What the search knows.

        Returns:
            The context, with the candidate if there is one.
        """
        return ModeJumps().propose(context) if context.warmup.weighed else context


class ModeJumps:
    """Proposes jumps where chains of the warm-up disagree."""

    name = "jumps between modes"

    def cost(self, context: SearchContext) -> Cost:
        """What it may cost: climbs from all positions; where they end in modes, two runs."""
        if not self._applies(context):
            return Cost()
        chains, move = context.warmup.position.shape[1], 1 / (1 - HMC_SHARE)
        runs = len(_ANGLES) * chains * move * (SHORT_RUN + SHORT_WARMUP)
        return context.expected(chains * _CLIMB + _DRAWS + runs)

    @staticmethod
    def _applies(context: SearchContext) -> bool:
        few = len(context.warmup.position) <= THRESHOLDS.most_jump_dim
        has_jumps = any(c.kind is Kind.MODE_JUMP for c in context.candidates)
        return few and not context.warmup.agreed and not has_jumps

    def propose(self, context: SearchContext) -> SearchContext:
        """`ModeJump` between maxima that the chains' positions lead up to, with HMC moves mixed in.

        There is none with one maximum or too many, in many dimensions, or if its chains, from all
        those positions, do not meet either.

        Args:
            context: What the search knows.

        Returns:
            The context, with the candidate if there is one.
        """
        if not self._applies(context):
            return context
        account = context.budget.open()
        with account.timed():
            best = _best_jump(context, np.asarray(context.warmup.position), account)
        if best is None or not best.metrics.rhat_max < THRESHOLDS.unmixed_rhat:
            context.budget.absorb(account)
            return context
        return context.with_candidates((*context.candidates, best))


def _best_jump(context: SearchContext, position: np.ndarray, account: Account) -> Candidate | None:
    key, warmup = context.stream(Stream.MODE_JUMPS), context.warmup
    pool = warmup.draws.reshape(-1, len(position)).T
    white = Whitened(context.target, diagonal(pool, dtype=warmup.position.dtype))
    start = from_user(white, position)
    from_here = start
    if warmup.weighed:
        centres = np.array([mode.centre for mode in warmup.weighed], start.dtype).T
        some = farthest_point_subset(start, min(_CLIMBS, start.shape[1]))
        from_here = np.concatenate([from_user(white, centres), some], axis=1)
    found, spent = find_maxima(white, from_here, context.second)
    account.charge(spent)
    if found is None:
        return None
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    modes = refined(rng, white, found, jnp.asarray(start))
    account.charge(_DRAWS)
    best = None
    for i, angle in enumerate(_ANGLES):
        kernel = Transition(white, made(modes, angle, start.dtype))
        plain = Candidate(
            kind=Kind.MODE_JUMP,
            transition=kernel,
            metrics=None,  # type: ignore[arg-type]
            num_leapfrogs=1,
            account=account,
        )
        made_of_both = replace(with_small_steps(plain, warmup.step_size, account), shared=())
        start_here = jnp.asarray(start)
        metrics = evaluate(jax.random.fold_in(key, i), made_of_both.kernel, start_here)
        account.charge(metrics.spent_gradients)
        if best is None or metrics.worst > best.worst:
            best = replace(made_of_both, metrics=metrics)
    return best


def made(modes: Gaussians, angle: float, dtype: np.dtype) -> ModeJump:
    """The jump between ``modes``."""
    factor = np.linalg.cholesky(modes.covariance)
    arrays = (modes.centre, factor, np.log(modes.share()), angle)
    return ModeJump(*(jnp.asarray(array, dtype) for array in arrays))


def find_maxima(
    target: AbstractLogDensity,
    start: Float[np.ndarray, "dim n"],
    second: SecondDerivatives = SecondDerivatives.FULL,
) -> tuple[Gaussians | None, int]:
    """Maxima that L-BFGS climbs to, with the Gaussians of the curvature there (Laplace).

    Two positions within one deviation of one another are one maximum.

    Args:
        target: The log density.
        start: Positions (dim, n) to climb from.
        second: Which second derivatives it has.

    Returns:
        The maxima, and gradients spent. None for fewer than two or more than `MAX_MODES`, and for
        a log density without second derivatives.
    """
    from scipy.optimize import minimize

    spent = 0
    if second is SecondDerivatives.NONE:
        return None, spent

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

    found: list[_Maximum] = []
    for x in start.T:
        if not np.isfinite(down(x.astype(np.float64))[0]):
            continue
        end = minimize(
            down, x.astype(np.float64), jac=True, method="L-BFGS-B", options={"maxiter": 200}
        )
        # A much higher density within a deviation is a narrow mode in a wide one.
        if not np.isfinite(end.fun) or any(
            known.is_near(end.x) and -end.fun < known.top + 1 for known in found
        ):
            continue
        covariance = _covariance(target, jnp.asarray(end.x, start.dtype), second)
        spent += len(start)
        if covariance is None:
            continue
        here = _Maximum(end.x, covariance, -float(end.fun))
        found = [o for o in found if not (o.is_near(here.centre) and here.is_near(o.centre))]
        found.append(here)
        if len(found) > MAX_MODES:
            return None, spent
    log_mass = np.array([each.log_mass for each in found])
    total = logsumexp(log_mass) if found else 0.0
    kept = np.flatnonzero(log_mass - total > math.log(THRESHOLDS.least_mode_share))
    if len(kept) < 2:
        return None, spent
    centres = np.array([found[k].centre for k in kept])
    return Gaussians(centres, np.array([found[k].covariance for k in kept]), log_mass[kept]), spent


class _Maximum(NamedTuple):
    """A maximum (dim,), the covariance of its curvature, and the log density there."""

    centre: np.ndarray
    covariance: np.ndarray
    top: float

    @property
    def log_mass(self) -> float:
        """The log mass of its Gaussian, up to a constant."""
        return self.top + float(np.linalg.slogdet(self.covariance)[1]) / 2

    def is_near(self, x: np.ndarray) -> bool:
        """Whether ``x`` is within one deviation of it."""
        away = x - self.centre
        return float(away @ np.linalg.solve(self.covariance, away)) < 1


def _covariance(
    target: AbstractLogDensity, position: Vector, second: SecondDerivatives
) -> np.ndarray | None:
    """Minus the inverse of the Hessian; None where there is none or the point is no maximum."""
    try:
        curvature = -np.asarray(_hessian(target, position, second), np.float64)
        curvature = (curvature + curvature.T) / 2
        np.linalg.cholesky(curvature)
    except Exception:  # not positive definite, no second derivative, or the user's own
        return None
    covariance = np.linalg.inv(curvature)
    return covariance if np.isfinite(covariance).all() else None


@eqx.filter_jit
def _hessian(
    target: AbstractLogDensity, position: Vector, second: SecondDerivatives
) -> Float[Array, "dim dim"]:
    outer = jax.jacfwd if second is SecondDerivatives.FULL else jax.jacrev
    return outer(jax.grad(target))(position)


def refined(
    rng: np.random.Generator, target: AbstractLogDensity, modes: Gaussians, like: Vector
) -> Gaussians:
    """The same with means, covariances and masses by importance sampling::

        x ~ q = sum_k share_k N(c_k, C_k),    weight of x in mode k: p(x) / q(x) q_k(x) / q(x)

    with shares and covariances a little wider. What the curvature at the top says of a mode that is
    skewed, or has tails, is not its spread. A mode whose weights are worth little stays as it is.

    Args:
        rng: NumPy's generator.
        target: The log density.
        modes: The modes by their curvature.
        like: Positions: as many log densities are taken at a time.

    Returns:
        The refined modes.
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
        centred = draws - mean
        spread = (weights[k, :, None] * centred).T @ centred / total
        if not np.linalg.eigvalsh(spread)[0] > _THIN * np.linalg.eigvalsh(covariance[k])[0]:
            continue
        centre[k], covariance[k], log_mass[k] = mean, spread, math.log(total)
    return Gaussians(centre, covariance, log_mass)


def _exp(values: np.ndarray) -> np.ndarray:
    """Up to a constant."""
    finite = np.where(np.isfinite(values), values, -np.inf)
    return np.exp(finite - np.max(finite))
