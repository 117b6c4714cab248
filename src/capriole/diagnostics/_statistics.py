"""Statistics of draws in ArviZ's layout (chains, draws, dim); ArviZ computes ESS and R-hat."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ._health import RHAT_LIMIT

CUTOFF = 0.05
"""Autocorrelation below which the paper's ESS counts a lag as zero."""
MIN_DRAWS = 8
"""Draws per chain that ArviZ's statistics need: two half chains of four."""
RHAT_LEVEL = 0.01
"""Share of runs of independent draws whose largest R-hat exceeds `rhat_limit`."""


def autocorrelation(
    draws: Float[np.ndarray, "chains draws dim"],
    mean: Float[np.ndarray, " dim"],
    max_lag: int | None = None,
) -> Float[np.ndarray, " lags"]:
    """The paper's autocorrelation, summed over coordinates and averaged over time and chains::

        A(tau) = mean_{t, chains} <x_t - mean, x_{t+tau} - mean> / mean_{t, chains} |x_t - mean|^2

    The widest coordinate dominates it.

    Args:
        draws: draws of all chains.
        mean: exact mean of the target.
        max_lag: largest lag; None: all lags.

    Returns:
        A(0), A(1), ...; NaN where draws are not finite or never leave the mean.

    Raises:
        ValueError: ``draws`` has another number of axes.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, section 5.1, and its released code.
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
    """The paper's effective sample size, per Metropolis-Hastings step::

        1 / (1 + 2 sum_{tau >= 1} A(tau) [A(tau) > 0.05])

    It is at most 1 and does not see narrow directions. It drops the negative lags of an antithetic
    chain and keeps its positive ones, so an AR(1) chain with coefficient -0.9 scores 0.1. Use it
    for the paper's table only.

    Args:
        draws: draws of all chains.
        mean: exact mean of the target.

    Returns:
        The ESS per step; NaN where the autocorrelation is.

    References:
        Levy, Hoffman and Sohl-Dickstein 2018, section 5.1.
    """
    rho = autocorrelation(draws, mean)[1:]
    if not np.isfinite(rho).all():
        return float("nan")
    return float(1 / (1 + 2 * np.sum(rho[rho > CUTOFF])))


def _check_draws(draws: np.ndarray) -> None:
    """Raise ValueError unless draws have three axes."""
    if draws.ndim != 3:
        raise ValueError(f"draws must have shape (chains, draws, dim), got {draws.shape}")


def _by_arviz(name: str, draws: np.ndarray, method: str) -> np.ndarray:
    """ArviZ's statistic of each coordinate; NaN if constant, not finite, or of too few draws."""
    from arviz_stats.base import array_stats

    _check_draws(draws)
    values = np.full(draws.shape[2], np.nan)
    for coordinate in range(draws.shape[2]):
        column = np.asarray(draws[:, :, coordinate], np.float64)
        if column.shape[1] >= MIN_DRAWS and np.isfinite(column).all() and np.ptp(column) > 0:
            # stuck chains divide by zero; the result shows them
            with np.errstate(divide="ignore", invalid="ignore"):
                values[coordinate] = getattr(array_stats, name)(
                    column, chain_axis=0, draw_axis=1, method=method
                )
    return values


def bulk_ess(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Rank-normalised bulk ESS of every coordinate over all chains, by ArviZ.

    Args:
        draws: draws of all chains.

    Returns:
        ESS of each coordinate; NaN where it is constant or not finite, and for fewer than 8 draws.

    References:
        Vehtari et al. 2021, Rank-normalization, folding, and localization, section 4.
    """
    return _by_arviz("ess", draws, "bulk")


def bulk_ess_sq(
    draws: Float[np.ndarray, "chains draws dim"], centre: Float[np.ndarray, " dim"] | None = None
) -> Float[np.ndarray, " dim"]:
    """Bulk ESS of ``(x - centre)^2``: whether variances mix.

    Antithetic kernels mix means well and variances badly, which `bulk_ess` does not show.

    Args:
        draws: draws of all chains.
        centre: centre of each coordinate; None: the mean of the draws.

    Returns:
        ESS of each coordinate; NaN as in `bulk_ess`.
    """
    _check_draws(draws)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = np.asarray(draws, np.float64)
        return bulk_ess((wide - (wide.mean(axis=(0, 1)) if centre is None else centre)) ** 2)


def rhat(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Rank-normalised split R-hat of every coordinate, by ArviZ.

    Args:
        draws: draws of all chains.

    Returns:
        R-hat of each coordinate; NaN where it is constant or not finite, and for fewer than 2
        chains or 8 draws.

    References:
        Vehtari et al. 2021, Rank-normalization, folding, and localization, section 4.
    """
    _check_draws(draws)
    return np.full(draws.shape[2], np.nan) if len(draws) < 2 else _by_arviz("rhat", draws, "rank")


def rhat_limit(num_chains: int, num_draws: int, dim: int) -> float:
    """Largest R-hat that does not show bad mixing::

        max(1.01, sqrt(1 + (F - 1) / n)),   F the 1 - 0.01 / (2 dim) quantile of F(m - 1, m (n - 1))

    with m = 2 ``num_chains`` half chains of n = ``num_draws`` / 2 draws, and two statistics (bulk
    and folded) in each of ``dim`` coordinates. At most one in a hundred runs of independent draws
    exceeds it. For 4 chains of 100 draws in 10 dimensions it is 1.028; for 16 chains of 1,000 draws
    in 200 dimensions it is 1.01.

    Args:
        num_chains: number of chains.
        num_draws: draws per chain.
        dim: number of coordinates.

    Returns:
        The limit, at least 1.01.
    """
    from scipy import stats

    halves, length = 2 * num_chains, num_draws // 2
    if halves < 2 or length < 2:
        return RHAT_LIMIT
    ratio = stats.f.isf(RHAT_LEVEL / (2 * dim), halves - 1, halves * (length - 1))
    return max(RHAT_LIMIT, float(np.sqrt(1 + (ratio - 1) / length)))


def mean_error(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Monte Carlo standard error of every coordinate's mean, by ArviZ::

        sd / sqrt(ESS of the mean)

    Args:
        draws: draws of all chains.

    Returns:
        Error of each coordinate; NaN as in `bulk_ess`.

    References:
        Vehtari et al. 2021, Rank-normalization, folding, and localization.
    """
    return _by_arviz("mcse", draws, "mean")


class Moments(NamedTuple):
    """Means and variances with their Monte Carlo standard errors, per coordinate.

    Attributes:
        mean: means.
        mean_error: standard errors of the means.
        variance: variances.
        variance_error: standard errors of the variances.
    """

    mean: Float[np.ndarray, " dim"]
    mean_error: Float[np.ndarray, " dim"]
    variance: Float[np.ndarray, " dim"]
    variance_error: Float[np.ndarray, " dim"]


def moments(
    draws: Float[np.ndarray, "chains draws dim"], centre: Float[np.ndarray, " dim"] | None = None
) -> Moments:
    """Means and variances of draws, with their Monte Carlo standard errors.

    Args:
        draws: draws of all chains.
        centre: variances are means of ``(x - centre)^2``; None: the mean of the draws.

    Returns:
        The moments.
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
    """Standardised errors of means and variances::

        z = (average of chain averages - exact) / (sd of chain averages / sqrt(chains))

    for x and for (x - mean)^2. Chains are independent, so their averages give the standard error.

    Args:
        draws: draws of all chains.
        mean: exact means.
        variance: exact variances.

    Returns:
        z of the means and z of the variances; NaN where the exact value is.

    Raises:
        ValueError: fewer than 4 chains.
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
    """Error of the mean over chains (chains, dim) in standard errors; 0 where there is none."""
    error = per_chain.std(axis=0, ddof=1) / np.sqrt(len(per_chain))
    difference = per_chain.mean(axis=0) - exact
    return np.where(difference == 0, 0.0, difference / error)


class Efficiency(NamedTuple):
    """Bulk ESS of the worst dimension, of x and of (x - centre)^2, per unit of cost.

    Attributes:
        ess_per_step: of x, per Metropolis-Hastings step of one chain.
        ess_per_gradient: of x, per gradient of one chain.
        ess_per_second: of x, per second.
        ess_sq_per_step: of the square, per step.
        ess_sq_per_gradient: of the square, per gradient.
        ess_sq_per_second: of the square, per second.
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
    """ESS of the worst dimension per unit of cost::

        min over dimensions of bulk ESS / cost

    Args:
        draws: draws of all chains.
        num_gradients_total: gradients of all chains.
        seconds: time that the draws took.
        centre: centre of the squares; None: the mean of the draws.

    Returns:
        ESS of x and of its square, per step, gradient and second, costs summed over chains.

    Raises:
        ValueError: a cost is not positive.
    """
    if not (num_gradients_total > 0 and seconds > 0):
        raise ValueError(
            f"num_gradients_total and seconds must be positive, got {num_gradients_total} and "
            f"{seconds}"
        )
    costs = (draws.shape[0] * draws.shape[1], num_gradients_total, seconds)
    worst = (float(np.min(bulk_ess(draws))), float(np.min(bulk_ess_sq(draws, centre))))
    return Efficiency(*(ess / cost for ess in worst for cost in costs))
