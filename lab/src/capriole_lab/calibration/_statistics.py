"""Arrays in, p-values out: distances between distributions and uniformity of ranks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

type Values = Float[np.ndarray, " draws"]
type Ranks = Int[np.ndarray, " draws"]


def one_sample_p(values: Values, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """Bound ``2 exp(-2 n D^2)`` on the p-value of ``D = sup |F_n - F|`` between independent draws
    and a distribution.

    Source: Dvoretzky, Kiefer and Wolfowitz 1956; Massart 1990.
    """
    u = np.sort(cdf(values))
    n = len(u)
    distance = max(np.max(np.arange(1, n + 1) / n - u), np.max(u - np.arange(n) / n))
    return _bound(float(distance), n)


def two_sample_p(first: Values, second: Values) -> float:
    """Bound on the p-value of the distance between two samples of independent draws, as many in
    both::

        D = sup |F_n - G_n|;    p <= 2 exp(-n D^2)       for n >= 458 (Wei and Dudley 2012)

    Ties between the samples are allowed; a NaN is no draw, and rejects. Raises ValueError for
    unequal sizes or fewer than 458 draws.
    """
    n = len(first)
    if n != len(second) or n < 458:
        raise ValueError(
            f"the bound needs two samples of one size, at least 458, got {n} and {len(second)}"
        )
    if np.isnan(first).any() or np.isnan(second).any():
        return 0.0
    first, second = np.sort(first), np.sort(second)
    both = np.concatenate([first, second])
    below = [np.searchsorted(sample, both, side="right") / n for sample in (first, second)]
    return _bound(float(np.max(np.abs(below[0] - below[1]))), n / 2)


def _bound(distance: float, effective: float) -> float:
    return (
        float(min(1.0, 2 * np.exp(-2 * effective * distance**2))) if np.isfinite(distance) else 0.0
    )


def found_distance(level: float, effective: float) -> float:
    """The band: the smallest distance that is rejected; one of twice that is, with probability 1 -
    level.

    ``effective`` is n for one sample of n, n / 2 for two of them.
    """
    return float(np.sqrt(np.log(2 / level) / (2 * effective)))


def randomised_ranks(
    own: Values,
    others: Float[np.ndarray, "num draws"],
    rng: np.random.Generator,
    *,
    tolerance: float = 1e-12,
) -> Ranks:
    """How many of ``others`` lie below ``own``, 0 to num, ties broken at random.

    Two values count as tied within ``tolerance``, absolute and relative: a rejected move repeats a
    value, and the same value computed twice may differ in its last digit. NaN is never below.
    """
    slack = tolerance * (1 + np.abs(own))
    tied = np.abs(others - own) <= slack
    below = np.sum((others < own) & ~tied, axis=0)
    return below + np.floor(rng.random(len(own)) * (np.sum(tied, axis=0) + 1)).astype(int)


def chi_square_p(ranks: Ranks, num_values: int) -> float:
    """Pearson's test of uniform ranks. Raises ValueError below 5 expected per value."""
    if len(ranks) < 5 * num_values:
        raise ValueError(
            f"chi-square needs 5 ranks per value, got {len(ranks)} for {num_values} values"
        )
    return float(stats.chisquare(np.bincount(ranks, minlength=num_values)).pvalue)


class RankBand(NamedTuple):
    """Counts of ranks below 1, 2, ... between which all of them lie with the wanted probability."""

    low: Int[np.ndarray, " points"]
    high: Int[np.ndarray, " points"]


def ecdf_p(ranks: Ranks, num_values: int) -> float:
    """Exact p-value of the distribution function of ranks, uniform on 0 to num_values - 1 if all is
    well::

        C_i = #{ranks < i} ~ Binomial(N, i / num_values)
        g = min_i 2 min(P(C <= C_i), P(C >= C_i))

    The p-value is the probability of a g as small: the smallest level whose simultaneous band the
    ranks leave. Below about 1e-9 it is Bonferroni's bound. Source: Saeilynoja, Buerkner and Vehtari
    (2022), with their recursion.
    """
    n, points = len(ranks), np.arange(1, num_values)
    counts = np.cumsum(np.bincount(ranks, minlength=num_values))[:-1]
    probability = points / num_values
    tails = np.minimum(
        stats.binom.cdf(counts, n, probability), stats.binom.sf(counts - 1, n, probability)
    )
    worst = 2 * float(np.min(tails))
    if worst < 1e-9:  # where 1 - P(inside) would be rounding: Bonferroni's bound
        return worst * len(points)
    return float(1 - _inside(_band(n, num_values, worst, strict=True), n, num_values))


def ecdf_band(num_ranks: int, num_values: int, level: float) -> RankBand:
    """The simultaneous band that `ecdf_p` leaves at ``level``, by bisection."""
    low, high = np.log(level / num_values), np.log(level)
    for _ in range(20):
        middle = (low + high) / 2
        outside = 1 - _inside(
            _band(num_ranks, num_values, float(np.exp(middle))), num_ranks, num_values
        )
        low, high = (middle, high) if outside <= level else (low, middle)
    return _band(num_ranks, num_values, float(np.exp(low)))


def _band(n: int, num_values: int, pointwise: float, *, strict: bool = False) -> RankBand:
    """Counts whose two-sided tail is at least ``pointwise``; above it if ``strict``."""
    probability = np.arange(1, num_values) / num_values
    shifted = pointwise / 2 * (1 + 1e-9 if strict else 1)
    low = stats.binom.ppf(shifted, n, probability).astype(int)
    high = stats.binom.isf(shifted, n, probability).astype(int)
    return RankBand(low, high)


def _inside(band: RankBand, n: int, num_values: int) -> float:
    """Probability that the counts of n uniform ranks stay in the band, by a Markov chain."""
    state, weights, log_factorial = (
        np.array([0]),
        np.array([1.0]),
        special.gammaln(np.arange(n + 1) + 1),
    )
    for i, (low, high) in enumerate(zip(*band, strict=True)):
        if low > high:
            return 0.0
        new = np.arange(low, high + 1)
        step, left = new[:, None] - state[None, :], n - state[None, :]
        p = 1 / (num_values - i)
        possible = (step >= 0) & (step <= left)
        step = np.where(possible, step, 0)
        log = log_factorial[left] - log_factorial[step] - log_factorial[left - step]
        moves = np.where(
            possible, np.exp(log + step * np.log(p) + (left - step) * np.log1p(-p)), 0.0
        )
        state, weights = new, moves @ weights
    return float(weights.sum())


def autocorrelation_times(
    values: Float[np.ndarray, "chains draws"],
) -> Float[np.ndarray, " chains"]:
    """Steps per effective draw of every chain: ``-1 + 2 sum of rho_2k + rho_2k+1`` while those
    pairs are positive.

    Geyer's (1992) initial positive sequence, each chain about its own mean. The number of draws
    where a chain never moves; at least 1, so that an antithetic chain is not taken for more draws
    than it has.
    """
    num = values.shape[1]
    values = np.where(np.isfinite(values) & (np.abs(values) < 1e100), values, 0)
    centred = values - values.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * num, axis=1)) ** 2
    covariance = np.fft.irfft(power, 2 * num, axis=1)[:, : num // 2 * 2]
    variance = covariance[:, :1]
    # Far below the values themselves a variance is rounding: a chain that never moves.
    moving = variance > 1e-24 * np.max(values**2, axis=1, keepdims=True) * num
    rho = np.where(moving & np.isfinite(covariance), covariance, 0) / np.where(moving, variance, 1)
    pairs = rho[:, 0::2] + rho[:, 1::2]
    positive = np.cumprod(pairs > 0, axis=1)
    times = np.clip(2 * np.sum(pairs * positive, axis=1) - 1, 1, num)
    return np.where(moving[:, 0], times, num)
