"""Diagnostics: arrays in, arrays out. Draws have ArviZ's layout (chains, draws, dim); ArviZ does what it does well."""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

CUTOFF = 0.05
STUCK_STEPS = 200


def autocorrelation(
    draws: Float[np.ndarray, "chains draws dim"], mean: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " draws"]:
    """The paper's autocorrelation, summed over coordinates and averaged over time and chains::

        A(tau) = mean_{t, chains} <x_t - mean, x_{t+tau} - mean> / mean_{t, chains} |x_t - mean|^2

    By FFT. Dominated by the widest coordinate. Source: Levy et al. 2018, section 5.1 and its released code.
    """
    num = draws.shape[1]
    centred = np.asarray(draws, np.float64) - mean
    power = np.zeros(num + 1)
    for coordinate in range(draws.shape[2]):
        power += np.sum(np.abs(np.fft.rfft(centred[:, :, coordinate], 2 * num, axis=1)) ** 2, axis=0)
    covariance = np.fft.irfft(power)[:num] / (num - np.arange(num))
    if not covariance[0] > 0:
        return np.full(num, np.nan)
    return covariance / covariance[0]


def paper_ess(draws: Float[np.ndarray, "chains draws dim"], mean: Float[np.ndarray, " dim"]) -> float:
    """Effective draws per Metropolis-Hastings step as the paper defines them::

        1 / (1 + 2 sum_{tau >= 1} A(tau) [A(tau) > 0.05])

    At most 1, blind to negative autocorrelation and to narrow directions: for the paper's table alone.
    """
    rho = autocorrelation(draws, mean)[1:]
    if not np.isfinite(rho).all():
        return float("nan")
    return float(1 / (1 + 2 * np.sum(rho[rho > CUTOFF])))


def _by_arviz(name: str, draws: np.ndarray, **options: str) -> np.ndarray:
    from arviz_stats.base import array_stats

    function = getattr(array_stats, name)
    values = np.full(draws.shape[2], np.nan)
    for coordinate in range(draws.shape[2]):
        column = np.asarray(draws[:, :, coordinate], np.float64)
        if np.isfinite(column).all() and np.ptp(column) > 0:
            with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ArviZ warns about frozen chains; we return what it computes
                values[coordinate] = function(column, chain_axis=0, draw_axis=1, **options)
    return values


def bulk_ess(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Rank-normalised bulk ESS of every coordinate over all chains, by ArviZ (Vehtari et al. 2021).

    NaN where a coordinate is constant or not finite.
    """
    return _by_arviz("ess", draws, method="bulk")


def bulk_ess_sq(
    draws: Float[np.ndarray, "chains draws dim"], centre: Float[np.ndarray, " dim"]
) -> Float[np.ndarray, " dim"]:
    """Bulk ESS of ``(x - centre)^2``: whether variances mix, which antithetic kernels hide from `bulk_ess`."""
    return _by_arviz("ess", (np.asarray(draws, np.float64) - centre) ** 2, method="bulk")


def rhat(draws: Float[np.ndarray, "chains draws dim"]) -> Float[np.ndarray, " dim"]:
    """Rank-normalised split R-hat of every coordinate, by ArviZ (Vehtari et al. 2021); NaN where it is undefined."""
    return _by_arviz("rhat", draws, method="rank")


def z_scores(
    draws: Float[np.ndarray, "chains draws dim"], mean: Float[np.ndarray, " dim"], variance: Float[np.ndarray, " dim"]
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]:
    """Standardised errors of means and variances; chains are independent, so their spread is the standard error::

        z = (average of chain averages - exact) / (sd of chain averages / sqrt(chains))

    for x and for (x - mean)^2. NaN where the exact moment is. Raises ValueError for fewer than 4 chains.
    """
    chains = draws.shape[0]
    if chains < 4:
        raise ValueError(f"z-scores need at least 4 chains for a standard error, got {chains}")
    centred = np.asarray(draws, np.float64) - mean
    return _standardised(centred.mean(axis=1), 0.0), _standardised((centred**2).mean(axis=1), variance)


def _standardised(per_chain: np.ndarray, exact: np.ndarray | float) -> np.ndarray:
    error = per_chain.std(axis=0, ddof=1) / np.sqrt(len(per_chain))
    difference = per_chain.mean(axis=0) - exact
    return np.where(
        error > 0,
        difference / np.where(error > 0, error, 1),
        np.where(difference == 0, 0.0, np.inf * np.sign(difference)),
    )


class ModeSummary(NamedTuple):
    """Occupation of modes: weights, their standard errors over chains, switches per step, chains that saw all modes."""

    weights: Float[np.ndarray, " modes"]
    errors: Float[np.ndarray, " modes"]
    switches_per_step: float
    saw_all: float


def mode_summary(labels: Int[np.ndarray, "chains draws"], num_modes: int) -> ModeSummary:
    """How often, and how evenly, chains visit the modes; the standard error is the chains' spread / sqrt(chains)."""
    per_chain = (labels[:, :, None] == np.arange(num_modes)).mean(axis=1)
    chains = len(labels)
    errors = per_chain.std(axis=0, ddof=1) / np.sqrt(chains) if chains > 1 else np.full(num_modes, np.nan)
    switches = float(np.mean(labels[:, 1:] != labels[:, :-1])) if labels.shape[1] > 1 else 0.0
    return ModeSummary(per_chain.mean(axis=0), errors, switches, float(np.mean((per_chain > 0).all(axis=1))))


def mode_rhat(labels: Int[np.ndarray, "chains draws"], num_modes: int) -> float:
    """Largest split R-hat of the mode indicators: 1 when all chains agree on the weights, inf when all are stuck."""
    from arviz_stats.base import array_stats

    worst = 1.0
    for mode in range(num_modes):
        indicator = (labels == mode).astype(np.float64)
        if np.ptp(indicator) == 0:
            continue
        if np.ptp(indicator, axis=1).max() == 0:
            return float("inf")
        worst = max(worst, float(array_stats.rhat(indicator, chain_axis=0, draw_axis=1, method="split")))
    return worst


def longest_rejection(is_accepted: Bool[np.ndarray, "chains draws"]) -> Int[np.ndarray, " chains"]:
    """Longest run of rejections of every chain."""
    longest = np.zeros(len(is_accepted), int)
    current = np.zeros(len(is_accepted), int)
    for accepted in is_accepted.T:
        current = np.where(accepted, 0, current + 1)
        longest = np.maximum(longest, current)
    return longest


def health(
    acceptance_rate: Float[np.ndarray, "chains draws"],
    is_accepted: Bool[np.ndarray, "chains draws"],
    is_divergent: Bool[np.ndarray, "chains draws"],
    num_nonfinite: int,
    *,
    rhat_max: float | None = None,
    mode_weights: Float[np.ndarray, " modes"] | None = None,
    mode_rhat: float | None = None,
) -> list[str]:
    """Plain-language warnings, each with its value and a remedy; empty if all is well.

    A fine ESS does not make a run healthy: chains that all sit in one of several modes have a fine ESS.
    """
    messages = []
    steps = is_accepted.size
    overall = float(acceptance_rate.mean())
    if overall < 0.1:
        messages.append(f"acceptance is {overall:.3f}: train longer or start from a smaller step size")
    stuck = int(np.sum(longest_rejection(is_accepted) >= STUCK_STEPS))
    if stuck:
        messages.append(
            f"{stuck} of {len(is_accepted)} chains rejected {STUCK_STEPS} proposals in a row: mix in plain HMC moves "
            "(capriole.Mixture) or train from more dispersed starts"
        )
    nonfinite = num_nonfinite / steps
    if nonfinite > 1e-3:
        grave = "the draws may be cut off there; " if nonfinite > 0.05 else ""
        messages.append(
            f"{100 * nonfinite:.2g} % of proposals had a log density that is not finite: {grave}use float64 or guard "
            "the log density"
        )
    divergent = int(is_divergent.sum()) - num_nonfinite
    if divergent > 1e-3 * steps:
        messages.append(f"{divergent} of {steps} proposals diverged: train longer or start from a smaller step size")
    if rhat_max is not None and not rhat_max <= 1.01:
        messages.append(f"R-hat is {rhat_max:.3f}, above 1.01: the chains have not mixed; run longer")
    if mode_weights is not None and np.any(np.asarray(mode_weights) == 0):
        missing = np.flatnonzero(np.asarray(mode_weights) == 0).tolist()
        messages.append(f"modes {missing} were never visited: train with tempering and dispersed starts")
    elif mode_rhat is not None and not mode_rhat <= 1.05:
        messages.append(f"R-hat of the mode weights is {mode_rhat:.2f}: chains hardly leave their modes; use tempering")
    return messages
