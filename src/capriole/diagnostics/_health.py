"""Health of a run: what went wrong, counted, with a remedy. Arrays in, problems out."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from ._problems import Problem, ProblemKind, Severity
from ._thresholds import THRESHOLDS

type Counts = Bool[np.ndarray, "chains draws"] | Int[np.ndarray, "chains draws"]

RHAT_LIMIT = THRESHOLDS.rhat
"""R-hat of many draws above which their chains have not mixed."""


class Remedies(NamedTuple):
    """What to do about chains that never moved, accept little, are stuck or disagree, and divergent
    proposals.
    """

    still: str
    slow: str
    stuck: str
    apart: str
    diverging: str


TRAINING_REMEDIES = Remedies(
    still="start from a smaller step size, or from points of higher log density",
    slow="train longer or start from a smaller step size",
    stuck=(
        "mix in plain HMC moves (capriole.kernels.Mixture, both for kernel.target) or train from "
        "more dispersed starts"
    ),
    apart="run longer",
    diverging="train longer or start from a smaller step size",
)
"""For those who choose step sizes and training themselves."""
FIT_REMEDIES = Remedies(
    still="start elsewhere (init, spread), or reparameterise",
    slow="reparameterise, or start wider (spread)",
    stuck="draw more, start wider (spread), or reparameterise",
    apart="draw more, or reparameterise",
    diverging=(
        "look at the pairs plot for places where the log density falls steeply, and reparameterise "
        "there"
    ),
)
"""For those whose kernel `fit` found."""


class Tally(NamedTuple):
    """What `health` needs to know of the steps of a run, counted.

    Attributes:
        num_steps: Steps of each chain.
        acceptance_rate: Mean acceptance of each chain.
        accepted: Accepted proposals of each chain.
        longest: Longest run of rejections of each chain.
        current: Rejections of each chain since its last acceptance.
        diverging: Divergent proposals of all chains, those that are not finite included.
        nonfinite: Proposals of all chains without a finite log density.
        logdensity: Mean magnitude of the log density, in nats.
        precision: Rounding error of a number near 1; 0 if unknown.
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
    """Count one block of steps.

    Args:
        acceptance_rate: Mean acceptance of the steps that led to each draw.
        accepted: Accepted proposals of these steps (0 to ``thin``), or whether there was one.
        diverging: Divergent proposals of these steps.
        num_nonfinite: Proposals of all chains without a finite log density.
        thin: Steps between two draws. A run of rejections is then one of draws without any
            acceptance, times ``thin``: the shortest that it can be.
        logdensity: Log densities of the draws, for what rounding does.
        before: The counts of the steps before.

    Returns:
        The counts, those before included.
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
    remedies: Remedies = TRAINING_REMEDIES,
) -> list[Problem]:
    """Problems of a run; empty if all is well.

    A fine ESS does not make a run healthy: chains that all sit in one of several modes have a fine
    ESS. Draws that do not fit into memory are counted with `tally`, block by block, and judged by
    `health_of_tally`.

    Args:
        acceptance_rate: As in `tally`.
        accepted: As in `tally`.
        diverging: As in `tally`.
        num_nonfinite: As in `tally`.
        thin: As in `tally`.
        logdensity: As in `tally`.
        rhat_max: R-hat of the worst dimension, if it is known.
        rhat_limit: R-hat above which chains have not mixed.
        mode_weights: Shares of the draws in each mode, if modes are known.
        mode_rhat: R-hat of the mode indicators.
        mode_switches: Switches between modes per step.
        remedies: What to advise.

    Returns:
        The problems, each with its value and a remedy.

    Raises:
        ValueError: The arrays do not share one shape.
    """
    if not acceptance_rate.shape == accepted.shape == diverging.shape:
        raise ValueError(
            f"arrays must share one shape, got {acceptance_rate.shape}, {accepted.shape} and "
            f"{diverging.shape}"
        )
    counted = tally(
        acceptance_rate, accepted, diverging, num_nonfinite, thin=thin, logdensity=logdensity
    )
    return health_of_tally(
        counted,
        rhat_max=rhat_max,
        rhat_limit=rhat_limit,
        mode_weights=mode_weights,
        mode_rhat=mode_rhat,
        mode_switches=mode_switches,
        remedies=remedies,
    )


def health_of_tally(
    counted: Tally,
    *,
    rhat_max: float | None = None,
    rhat_limit: float = RHAT_LIMIT,
    mode_weights: Float[np.ndarray, " modes"] | None = None,
    mode_rhat: float | None = None,
    mode_switches: float | None = None,
    remedies: Remedies = TRAINING_REMEDIES,
) -> list[Problem]:
    """`health` of steps that were counted.

    Args:
        counted: The counts.
        rhat_max: As in `health`.
        rhat_limit: As in `health`.
        mode_weights: As in `health`.
        mode_rhat: As in `health`.
        mode_switches: As in `health`.
        remedies: As in `health`.

    Returns:
        The problems, each with its value and a remedy.
    """
    found = _movement(counted, remedies) + _numerics(counted, remedies)
    if rhat_max is not None and np.isnan(rhat_max):
        text = "R-hat is not defined"
        remedy = "run at least 2 chains and check for constant or non-finite coordinates"
        found.append(Problem(ProblemKind.NOT_MIXED, Severity.FATAL, text, remedy))
    elif rhat_max is not None and rhat_max > rhat_limit:
        found.append(not_mixed(rhat_max, rhat_limit, remedies.apart))
    if mode_weights is not None and np.any(np.asarray(mode_weights) == 0):
        missing = np.flatnonzero(np.asarray(mode_weights) == 0).tolist()
        text, remedy = (
            f"modes {missing} were never visited",
            "train with tempering and dispersed starts",
        )
        found.append(_warning(ProblemKind.MODE_MISSED, text, remedy))
    elif mode_switches == 0:
        text = "no chain ever left the mode it started in, so mode weights are those of the starts"
        found.append(_warning(ProblemKind.MODE_NEVER_LEFT, text, "temper"))
    elif mode_rhat is not None and not mode_rhat <= THRESHOLDS.mode_rhat:
        text = f"R-hat of the mode weights is {mode_rhat:.2f}: chains hardly leave their modes"
        found.append(_warning(ProblemKind.MODE_NEVER_LEFT, text, "use tempering"))
    return found


def not_mixed(rhat_max: float, limit: float, remedy: str = "") -> Problem:
    """The problem of chains whose R-hat is above its limit.

    Args:
        rhat_max: The largest R-hat of any dimension.
        limit: What it must not exceed.
        remedy: What to do.

    Returns:
        A fatal problem.
    """
    text = f"R-hat is {rhat_max:.3f}, above {limit:.3g}: the chains have not mixed"
    return Problem(ProblemKind.NOT_MIXED, Severity.FATAL, text, remedy)


def _warning(kind: ProblemKind, message: str, remedy: str) -> Problem:
    return Problem(kind, Severity.WARNING, message, remedy)


def _movement(counted: Tally, remedies: Remedies) -> list[Problem]:
    found = []
    rates, num, limits = counted.acceptance_rate, len(counted.acceptance_rate), THRESHOLDS
    still = int(np.sum(counted.accepted == 0))
    if still:
        text = (
            f"{still} of {num} chains accepted none of {counted.num_steps} proposals and never "
            "moved"
        )
        found.append(Problem(ProblemKind.NEVER_MOVED, Severity.FATAL, text, remedies.still))
    slow = int(np.sum(~(rates >= limits.low_acceptance)))
    if slow > still:
        text = (
            f"acceptance is below {limits.low_acceptance} in {slow} of {num} chains (worst "
            f"{rates.min():.3f}, median {np.median(rates):.3f})"
        )
        found.append(_warning(ProblemKind.LOW_ACCEPTANCE, text, remedies.slow))
    stuck = (counted.longest >= limits.stuck_steps) & (counted.accepted > 0)
    if stuck.any():
        is_fatal = np.any(counted.longest[stuck] >= limits.stuck_share * counted.num_steps)
        severity = Severity.FATAL if is_fatal else Severity.WARNING
        text = (
            f"{stuck.sum()} of {num} chains rejected {limits.stuck_steps} proposals in a row, at "
            f"most {counted.longest[stuck].max()} of {counted.num_steps}"
        )
        found.append(Problem(ProblemKind.STUCK, severity, text, remedies.stuck))
    return found


def _numerics(counted: Tally, remedies: Remedies) -> list[Problem]:
    """Proposals that are not finite count as divergent too, so they are told apart here."""
    found, limits = [], THRESHOLDS
    steps = counted.num_steps * len(counted.accepted)
    nonfinite = counted.nonfinite / steps
    if nonfinite > limits.nonfinite_warning:
        is_fatal = nonfinite > limits.nonfinite_fatal
        severity = Severity.FATAL if is_fatal else Severity.WARNING
        text = f"{100 * nonfinite:.2g} % of proposals had a log density that is not finite"
        text += ", so the draws may be cut off there" if is_fatal else ""
        remedy = "use float64, transform parameters that have bounds, or guard the log density"
        found.append(Problem(ProblemKind.NONFINITE, severity, text, remedy))
    diverging = counted.diverging - counted.nonfinite
    if diverging > limits.divergent_share * steps:
        text = f"{diverging} of {steps} proposals diverged"
        found.append(_warning(ProblemKind.DIVERGENT, text, remedies.diverging))
    return found + rounding(counted.logdensity, counted.precision)


def rounding(magnitude: float, precision: float) -> list[Problem]:
    """Whether rounding of log densities drowns the acceptance ratio in noise.

    Args:
        magnitude: Mean absolute log density of the draws, in nats.
        precision: Relative rounding error of a number, half of its type's epsilon.

    Returns:
        No problem, a warning, or a fatal problem where the noise exceeds the ratio itself.
    """
    noise = 2 * magnitude * precision
    if noise <= THRESHOLDS.rounding_warning:
        return []
    text = (
        f"log densities are about {magnitude:.2g} in magnitude, so the acceptance ratio is rounded "
        f"by about {100 * noise:.2g} %"
    )
    remedy = (
        "compute in float64, the default, or take a constant off every term before they are summed"
    )
    severity = Severity.FATAL if noise > 1 else Severity.WARNING
    return [Problem(ProblemKind.ROUNDING, severity, text, remedy)]


def training_health(
    loss: Float[np.ndarray, " steps"],
    acceptance_rate: Float[np.ndarray, " steps"],
    is_skipped: Bool[np.ndarray, " steps"],
) -> list[Problem]:
    """What is wrong with a training history.

    Args:
        loss: The loss of every step.
        acceptance_rate: Mean acceptance of every step.
        is_skipped: Whether the update of a step was not finite and left out.

    Returns:
        Problems, each with its value and a remedy.
    """
    found: list[tuple[str, str]] = []
    late = slice(len(loss) // 2, None)
    if len(loss) >= 20 and np.isfinite(loss[late]).all() and np.ptp(loss[late]) == 0:
        text = (
            f"the training loss stayed at exactly {loss[-1]:.4g} over the last {len(loss[late])} "
            "steps: training is frozen"
        )
        found.append((text, "start from a smaller step size or from other points"))
    bad = int(np.sum(~np.isfinite(loss)))
    if bad:
        text = f"the training loss was not finite in {bad} of {len(loss)} steps"
        found.append((text, "guard the log density"))
    skipped = int(np.sum(is_skipped))
    if skipped > THRESHOLDS.skipped_share * len(loss):
        text = f"{skipped} of {len(loss)} updates were not finite and skipped"
        found.append((text, "lower the learning rate"))
    final = float(np.mean(acceptance_rate[late])) if len(loss) else 1.0
    if not final >= THRESHOLDS.low_acceptance:
        text = f"proposals were accepted at a rate of {final:.3f} in the second half of training"
        found.append((text, "train longer"))
    return [_warning(ProblemKind.TRAINING, text, remedy) for text, remedy in found]
