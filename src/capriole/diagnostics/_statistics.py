"""Diagnostics: arrays in, arrays out. Draws have ArviZ's layout (chains, draws, dim); ArviZ does
what it does well.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ._health import RHAT_LIMIT, Tally, health, health_of, tally, training_health

CUTOFF = 0.05


def autocorrelation(
    draws: Float[np.ndarray, "chains draws dim"],
    mean: Float[np.ndarray, " dim"],
    max_lag: int | None = None,
) -> Float[np.ndarray, " lags"]:
    """The paper's autocorrelation, summed over coordinates and averaged over time and chains::

        A(tau) = mean_{t, chains} <x_t - mean, x_{t+tau} - mean> / mean_{t, chains} |x_t - mean|^2

    for lags 0 to ``max_lag`` (None: all), by FFT. NaN where draws are not finite or never leave the
    mean. Dominated by the widest coordinate. Source: Levy et al. 2018, section 5.1 and its released
    code.
    """
    _check_draws(draws)
    num = draws.shape[1]
    lags = num if max_lag is None else min(max_lag + 1, num)
    centred = np.asarray(draws, np.float64) - mean
    scale = np.max(np.abs(centred))  # keeps squares of huge or tiny draws in range
    if not (np.isfinite(scale) and scale > 0):
        return np.full(lags, np.nan)
    centred /= scale
    power = np.zeros(num + 1)
    for coordinate in range(draws.shape[2]):
        power += np.sum(
            np.abs(np.fft.rfft(centred[:, :, coordinate], 2 * num, axis=1)) ** 2, axis=0
        )
    covariance = np.fft.irfft(power, 2 * num)[:lags] / (num - np.arange(lags))
    return covariance / covariance[0]


def paper_ess(
    draws: Float[np.ndarray, "chains draws dim"], mean: Float[np.ndarray, " dim"]
) -> float:
    """Effective draws per Metropolis-Hastings step as the paper defines them::

        1 / (1 + 2 sum_{tau >= 1} A(tau) [A(tau) > 0.05])

    At most 1, and blind to narrow directions. It drops the negative lags of an antithetic chain but
    keeps its positive ones, so an AR(1) chain with coefficient -0.9 scores 0.1: for the paper's
    table alone.
    """
    rho = autocorrelation(draws, mean)[1:]
    if not np.isfinite(rho).all():
        return float("nan")
    return float(1 / (1 + 2 * np.sum(rho[rho > CUTOFF])))


def _check_draws(draws: np.ndarray) -> None:
    if draws.ndim != 3:
        raise ValueError(f"draws must have shape (chains, draws, dim), got {draws.shape}")


def _by_arviz(name: str, draws: np.ndarray, method: str) -> np.ndarray:
    """ArviZ's statistic of each coordinate; NaN if constant, infinite or fewer than 8 draws."""
    from arviz_stats.base import array_stats

    _check_draws(draws)
    values = np.full(draws.shape[2], np.nan)
    for coordinate in range(draws.shape[2]):
        column = np.asarray(draws[:, :, coordinate], np.float64)
        if column.shape[1] >= 8 and np.isfinite(column).all() and np.ptp(column) > 0:
            with np.errstate(
                divide="ignore", invalid="ignore"
            ):  # of frozen chains; the result says it
                values[coordinate] = getattr(array_stats, name)(
                    column, chain_axis=0, draw_axis=1, method=method
                )
    return values


def bulk_ess(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Rank-normalised bulk ESS of every coordinate over all chains, by ArviZ (Vehtari et al. 2021).

    NaN where a coordinate is constant or not finite, and for fewer than 8 draws.
    """
    return _by_arviz("ess", draws, "bulk")


def bulk_ess_sq(
    draws: Float[np.ndarray, "chains draws dim"], centre: Float[np.ndarray, " dim"] | None = None
) -> Float[np.ndarray, " dim"]:
    """Bulk ESS of ``(x - centre)^2``: whether variances mix, which antithetic kernels hide from
    `bulk_ess`.

    ``centre`` is the mean of the draws if not given.
    """
    _check_draws(draws)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = np.asarray(draws, np.float64)
        return bulk_ess((wide - (wide.mean(axis=(0, 1)) if centre is None else centre)) ** 2)


def rhat(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Rank-normalised split R-hat of every coordinate, by ArviZ (Vehtari et al. 2021).

    NaN where a coordinate is constant or not finite, for fewer than 2 chains and fewer than 8
    draws.
    """
    _check_draws(draws)
    return np.full(draws.shape[2], np.nan) if len(draws) < 2 else _by_arviz("rhat", draws, "rank")


def rhat_limit(num_chains: int, num_draws: int, dim: int) -> float:
    """The largest R-hat of draws that may be used: 1.01, or for few draws what independent ones may
    have by chance::

        sqrt(1 + (F - 1) / n),   F the 1 - 0.01 / (2 dim) quantile of F(m - 1, m (n - 1))

    with m = 2 ``num_chains`` halves of n = ``num_draws`` / 2 draws, and two statistics (bulk and
    folded) in each of ``dim`` coordinates: one of a hundred runs of independent draws is above it
    at most. 4 chains of 100 draws in 10 dimensions: 1.028, which most such runs of a perfect
    sampler would need; 16 of 1,000 in 200: 1.01.
    """
    from scipy import stats

    halves, length = 2 * num_chains, num_draws // 2
    if halves < 2 or length < 2:
        return RHAT_LIMIT
    ratio = stats.f.isf(0.01 / (2 * dim), halves - 1, halves * (length - 1))
    return max(RHAT_LIMIT, float(np.sqrt(1 + (ratio - 1) / length)))


def mean_error(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Monte Carlo standard error of every coordinate's mean, by ArviZ: ``sd / sqrt(ESS of the
    mean)``.

    NaN where a coordinate is constant or not finite, and for fewer than 8 draws.
    """
    return _by_arviz("mcse", draws, "mean")


class Moments(NamedTuple):
    """Means and variances, each of shape ``(dim,)``, with their Monte Carlo standard errors
    (`mean_error`).
    """

    mean: Float[np.ndarray, " dim"]
    mean_error: Float[np.ndarray, " dim"]
    variance: Float[np.ndarray, " dim"]
    variance_error: Float[np.ndarray, " dim"]


def moments(
    draws: Float[np.ndarray, "chains draws dim"], centre: Float[np.ndarray, " dim"] | None = None
) -> Moments:
    """`Moments` of draws; variances are means of ``(x - centre)^2``, by default around the mean of
    the draws.
    """
    draws = np.asarray(draws, np.float64)
    mean = draws.mean(axis=(0, 1))
    squares = (draws - (mean if centre is None else centre)) ** 2
    return Moments(mean, mean_error(draws), squares.mean(axis=(0, 1)), mean_error(squares))


def z_scores(
    draws: Float[np.ndarray, "chains draws dim"],
    mean: Float[np.ndarray, " dim"],
    variance: Float[np.ndarray, " dim"],
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """Standardised errors of means and variances; chains are independent, so their spread is the
    standard error::

        z = (average of chain averages - exact) / (sd of chain averages / sqrt(chains))

    for x and for (x - mean)^2. NaN where the exact moment is. Raises ValueError for fewer than 4
    chains.
    """
    _check_draws(draws)
    if len(draws) < 4:
        raise ValueError(f"z-scores need at least 4 chains for a standard error, got {len(draws)}")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        centred = np.asarray(draws, np.float64) - mean
        return _standardised(centred.mean(axis=1), 0.0), _standardised(
            (centred**2).mean(axis=1), variance
        )


def _standardised(per_chain: np.ndarray, exact: np.ndarray | float) -> np.ndarray:
    error = per_chain.std(axis=0, ddof=1) / np.sqrt(len(per_chain))
    difference = per_chain.mean(axis=0) - exact
    return np.where(difference == 0, 0.0, difference / error)


class ModeSummary(NamedTuple):
    """Occupation of modes: weights, their standard errors over chains, switches per step, chains
    that saw all modes.
    """

    weights: Float[np.ndarray, " modes"]
    errors: Float[np.ndarray, " modes"]
    switches_per_step: float
    saw_all: float


def mode_summary(labels: Int[np.ndarray, "chains draws"], num_modes: int) -> ModeSummary:
    """How often, and how evenly, chains visit the modes; the standard error is the chains' spread /
    sqrt(chains).

    Raises ValueError for labels outside 0 to ``num_modes`` - 1.
    """
    if labels.min() < 0 or labels.max() >= num_modes:
        raise ValueError(
            f"labels must lie in 0 to {num_modes - 1}, got {labels.min()} to {labels.max()}"
        )
    per_chain = (labels[:, :, None] == np.arange(num_modes)).mean(axis=1)
    chains = len(labels)
    errors = (
        per_chain.std(axis=0, ddof=1) / np.sqrt(chains)
        if chains > 1
        else np.full(num_modes, np.nan)
    )
    switches = float(np.mean(labels[:, 1:] != labels[:, :-1])) if labels.shape[1] > 1 else 0.0
    return ModeSummary(
        per_chain.mean(axis=0), errors, switches, float(np.mean((per_chain > 0).all(axis=1)))
    )


def mode_rhat(labels: Int[np.ndarray, "chains draws"], num_modes: int) -> float:
    """Largest split R-hat of the mode indicators: 1 when all chains agree on the weights, inf when
    all are stuck.

    NaN for fewer than 2 chains or 4 draws. Blind to modes that no chain visits: read it with
    `mode_summary`.
    """
    from arviz_stats.base import array_stats

    if len(labels) < 2 or labels.shape[1] < 4:
        return float("nan")
    worst = 1.0
    for mode in range(num_modes):
        indicator = (labels == mode).astype(np.float64)
        if np.ptp(indicator) == 0:
            continue
        if np.ptp(indicator, axis=1).max() == 0:
            return float("inf")
        with np.errstate(divide="ignore", invalid="ignore"):  # half chains without a switch: inf
            worst = max(
                worst, float(array_stats.rhat(indicator, chain_axis=0, draw_axis=1, method="split"))
            )
    return worst


class Efficiency(NamedTuple):
    """Worst dimension's bulk ESS, of x and of (x - centre)^2, over all chains' steps, gradients or
    seconds.
    """

    ess_per_step: float
    ess_per_gradient: float
    ess_per_second: float
    ess_sq_per_step: float
    ess_sq_per_gradient: float
    ess_sq_per_second: float


def efficiency(
    draws: Float[np.ndarray, "chains draws dim"],
    *,
    num_gradients_total: int,
    seconds: float,
    centre: Float[np.ndarray, " dim"] | None = None,
) -> Efficiency:
    """What the draws cost: ``min over dimensions of bulk ESS / cost``, cost summed over all chains."""
    if not (num_gradients_total > 0 and seconds > 0):
        raise ValueError(
            f"num_gradients_total and seconds must be positive, got {num_gradients_total} and "
            f"{seconds}"
        )
    costs = (draws.shape[0] * draws.shape[1], num_gradients_total, seconds)
    worst = (float(np.min(bulk_ess(draws))), float(np.min(bulk_ess_sq(draws, centre))))
    return Efficiency(*(ess / cost for ess in worst for cost in costs))


__all__ = [
    "Efficiency",
    "ModeSummary",
    "Moments",
    "Tally",
    "autocorrelation",
    "bulk_ess",
    "bulk_ess_sq",
    "efficiency",
    "health",
    "health_of",
    "mode_rhat",
    "mode_summary",
    "moments",
    "paper_ess",
    "rhat",
    "rhat_limit",
    "tally",
    "training_health",
    "z_scores",
]
