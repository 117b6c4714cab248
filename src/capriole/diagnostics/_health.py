"""Health of a run: what went wrong, counted, in plain words with a remedy. Arrays in, strings out."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

type Counts = Bool[np.ndarray, "chains draws"] | Int[np.ndarray, "chains draws"]

STUCK_STEPS = 200
STUCK_SHARE = 0.2
"""Share of a chain's steps that, rejected in a row, make its draws not to be trusted."""
LOW_ACCEPTANCE = 0.1
MOST_DIVERGED = 1e-3
MAX_ROUNDING = 1e-2
RHAT_LIMIT = 1.01
"""R-hat of many draws above which their chains have not mixed."""
MOST_NONFINITE = 0.05
"""Share of proposals without a finite log density above which draws are not to be trusted."""


class Remedies(NamedTuple):
    """What to do about chains that never moved, accept little, are stuck or disagree, and divergent
    proposals.
    """

    still: str
    slow: str
    stuck: str
    apart: str
    diverging: str


TRAINED = Remedies(
    still="start from a smaller step size, or from points of higher log density",
    slow="train longer or start from a smaller step size",
    stuck="mix in plain HMC moves (capriole.kernels.Mixture, both for kernel.target) or train from more dispersed starts",
    apart="run longer",
    diverging="train longer or start from a smaller step size",
)
"""For those who choose step sizes and training themselves."""
FITTED = Remedies(
    still="start elsewhere (init, spread), or reparameterise",
    slow="reparameterise, or start wider (spread)",
    stuck="draw more, start wider (spread), or reparameterise",
    apart="draw more, or reparameterise",
    diverging="look at the pairs plot for places where the log density falls steeply, and reparameterise there",
)
"""For those whose kernel `fit` found."""


class Tally(NamedTuple):
    """What `health` needs to know of the steps of a run, counted; one number per chain unless said
    otherwise.

    ``longest`` and ``current`` are runs of rejections; ``diverging`` and ``nonfinite`` are totals
    over all chains (a proposal that is not finite counts as divergent too); ``logdensity`` is the
    mean magnitude of the log density and ``precision`` the rounding error of a number near 1, 0 if
    unknown.
    """

    num_steps: int
    acceptance_rate: Float[np.ndarray, " chains"]
    accepted: Int[np.ndarray, " chains"]
    longest: Int[np.ndarray, " chains"]
    current: Int[np.ndarray, " chains"]
    diverging: int
    nonfinite: int
    logdensity: float
    precision: float

    def __add__(self, later: "Tally") -> "Tally":  # type: ignore[override]
        """Both parts, ``later`` counted with this one as ``before``."""
        share = later.num_steps / (self.num_steps + later.num_steps)
        return Tally(
            self.num_steps + later.num_steps,
            (1 - share) * self.acceptance_rate + share * later.acceptance_rate,
            self.accepted + later.accepted,
            np.maximum(self.longest, later.longest),
            later.current,
            self.diverging + later.diverging,
            self.nonfinite + later.nonfinite,
            (1 - share) * self.logdensity + share * later.logdensity,
            later.precision,
        )


def tally(
    acceptance_rate: Float[np.ndarray, "chains draws"],
    accepted: Counts,
    diverging: Counts,
    num_nonfinite: int,
    *,
    thin: int = 1,
    logdensity: Float[np.ndarray, "chains draws"] | None = None,
    before: Tally | None = None,
) -> Tally:
    """Count one block of steps, after those of ``before``.

    With ``thin`` steps between two draws ``accepted`` and ``diverging`` count them (0 to ``thin``),
    as ``num_nonfinite`` does over all draws. A run of rejections is then one of draws without any
    acceptance, times ``thin``: the shortest that it can be.
    """
    started = np.zeros(len(accepted), int) if before is None else before.current
    longest, current = _rejections(accepted, started, thin)
    finite = np.zeros(0) if logdensity is None else np.abs(logdensity[np.isfinite(logdensity)])
    block = Tally(
        thin * accepted.shape[1],
        acceptance_rate.mean(axis=1, dtype=np.float64),
        accepted.sum(axis=1),
        longest,
        current,
        int(diverging.sum()),
        num_nonfinite,
        float(finite.mean(dtype=np.float64)) if finite.size else 0.0,
        0.0 if logdensity is None else float(np.finfo(logdensity.dtype).eps) / 2,
    )
    return block if before is None else before + block


def _rejections(
    accepted: np.ndarray, current: np.ndarray, thin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Longest run of rejections of every chain, and its last one, if it came with ``current``
    rejections behind it.
    """
    longest = current.copy()
    for moves in accepted.T:
        current = np.where(moves > 0, 0, current + thin)
        longest = np.maximum(longest, current)
    return longest, current


def health(
    acceptance_rate: Float[np.ndarray, "chains draws"],
    accepted: Counts,
    diverging: Counts,
    num_nonfinite: int,
    *,
    thin: int = 1,
    logdensity: Float[np.ndarray, "chains draws"] | None = None,
    rhat_max: float | None = None,
    rhat_limit: float = RHAT_LIMIT,
    mode_weights: Float[np.ndarray, " modes"] | None = None,
    mode_rhat: float | None = None,
    mode_switches: float | None = None,
    remedies: Remedies = TRAINED,
) -> list[str]:
    """Plain-language warnings, each with its value and a remedy; empty if all is well.

    A fine ESS does not make a run healthy: chains that all sit in one of several modes have a fine
    ESS. Figures are those of `tally`, ``thin`` steps between two draws; for draws that do not fit
    into memory count them with it, block by block, and ask `health_of`.
    """
    if not acceptance_rate.shape == accepted.shape == diverging.shape:
        raise ValueError(
            f"arrays must share one shape, got {acceptance_rate.shape}, {accepted.shape} and "
            f"{diverging.shape}"
        )
    counted = tally(
        acceptance_rate, accepted, diverging, num_nonfinite, thin=thin, logdensity=logdensity
    )
    return health_of(
        counted,
        rhat_max=rhat_max,
        rhat_limit=rhat_limit,
        mode_weights=mode_weights,
        mode_rhat=mode_rhat,
        mode_switches=mode_switches,
        remedies=remedies,
    )


def health_of(
    counted: Tally,
    *,
    rhat_max: float | None = None,
    rhat_limit: float = RHAT_LIMIT,
    mode_weights: Float[np.ndarray, " modes"] | None = None,
    mode_rhat: float | None = None,
    mode_switches: float | None = None,
    remedies: Remedies = TRAINED,
) -> list[str]:
    """`health` of steps that were counted; ``mode_switches`` is per step."""
    messages = _movement(counted, remedies) + _numerics(counted, remedies)
    if rhat_max is not None and np.isnan(rhat_max):
        messages.append(
            "R-hat is not defined: run at least 2 chains and check for constant or non-finite "
            "coordinates"
        )
    elif rhat_max is not None and rhat_max > rhat_limit:
        messages.append(
            f"R-hat is {rhat_max:.3f}, above {rhat_limit:.3g}: the chains have not mixed; "
            f"{remedies.apart}"
        )
    if mode_weights is not None and np.any(np.asarray(mode_weights) == 0):
        missing = np.flatnonzero(np.asarray(mode_weights) == 0).tolist()
        messages.append(
            f"modes {missing} were never visited: train with tempering and dispersed starts"
        )
    elif mode_switches == 0:
        messages.append(
            "no chain ever left the mode it started in, so mode weights are those of the starts: "
            "temper"
        )
    elif mode_rhat is not None and not mode_rhat <= 1.05:
        messages.append(
            f"R-hat of the mode weights is {mode_rhat:.2f}: chains hardly leave their modes; use "
            "tempering"
        )
    return messages


def _movement(counted: Tally, remedies: Remedies) -> list[str]:
    messages = []
    per_chain = counted.acceptance_rate
    frozen = int(np.sum(counted.accepted == 0))
    if frozen:
        messages.append(
            f"error: {frozen} of {len(per_chain)} chains accepted none of {counted.num_steps} "
            "proposals and never "
            f"moved: {remedies.still}"
        )
    slow = int(np.sum(~(per_chain >= LOW_ACCEPTANCE)))
    if slow > frozen:
        messages.append(
            f"acceptance is below {LOW_ACCEPTANCE} in {slow} of {len(per_chain)} chains (worst "
            f"{per_chain.min():.3f}, "
            f"median {np.median(per_chain):.3f}): {remedies.slow}"
        )
    stuck = (counted.longest >= STUCK_STEPS) & (counted.accepted > 0)
    if stuck.any():
        error = (
            "error: " if np.any(counted.longest[stuck] >= STUCK_SHARE * counted.num_steps) else ""
        )
        messages.append(
            f"{error}{stuck.sum()} of {len(per_chain)} chains rejected {STUCK_STEPS} proposals in "
            "a row, at most "
            f"{counted.longest[stuck].max()} of {counted.num_steps}: {remedies.stuck}"
        )
    return messages


def _numerics(counted: Tally, remedies: Remedies) -> list[str]:
    """Proposals that are not finite count as divergent too, so they are told apart here."""
    messages = []
    steps = counted.num_steps * len(counted.accepted)
    nonfinite = counted.nonfinite / steps
    if nonfinite > 1e-3:
        error, grave = (
            ("error: ", "the draws may be cut off there; ")
            if nonfinite > MOST_NONFINITE
            else ("", "")
        )
        messages.append(
            f"{error}{100 * nonfinite:.2g} % of proposals had a log density that is not finite: "
            f"{grave}use float64, "
            "transform parameters that have bounds, or guard the log density"
        )
    diverging = counted.diverging - counted.nonfinite
    if diverging > MOST_DIVERGED * steps:
        messages.append(f"{diverging} of {steps} proposals diverged: {remedies.diverging}")
    return messages + rounding(counted.logdensity, counted.precision)


def rounding(magnitude: float, precision: float) -> list[str]:
    """What to say if log densities of that ``magnitude``, rounded to a relative ``precision``,
    drown the acceptance ratio in noise: an error if by more than its own size.
    """
    noise = 2 * magnitude * precision
    if noise <= MAX_ROUNDING:
        return []
    error = "error: " if noise > 1 else ""
    return [
        f"{error}log densities are about {magnitude:.2g} in magnitude, so the acceptance ratio is "
        "rounded by about "
        f"{100 * noise:.2g} %: compute in float64 (jax_enable_x64; on the command line --float64, "
        "for fit without "
        "--float32), or take a constant off every term before they are summed"
    ]


def training_health(
    loss: Float[np.ndarray, " steps"],
    acceptance_rate: Float[np.ndarray, " steps"],
    is_skipped: Bool[np.ndarray, " steps"],
) -> list[str]:
    """Warnings about a training history, each with its value and a remedy: frozen, not finite,
    skipped, rejected.
    """
    messages = []
    late = slice(len(loss) // 2, None)
    if len(loss) >= 20 and np.isfinite(loss[late]).all() and np.ptp(loss[late]) == 0:
        messages.append(
            f"the training loss stayed at exactly {loss[-1]:.4g} over the last {len(loss[late])} "
            "steps: training is "
            "frozen; start from a smaller step size or from other points"
        )
    bad = int(np.sum(~np.isfinite(loss)))
    if bad:
        messages.append(
            f"the training loss was not finite in {bad} of {len(loss)} steps: guard the log density"
        )
    skipped = int(np.sum(is_skipped))
    if skipped > 0.01 * len(loss):
        messages.append(
            f"{skipped} of {len(loss)} updates were not finite and skipped: lower the learning rate"
        )
    if len(loss) and not (final := float(np.mean(acceptance_rate[late]))) >= LOW_ACCEPTANCE:
        messages.append(
            f"proposals were accepted at a rate of {final:.3f} in the second half of training: "
            "train longer"
        )
    return messages
