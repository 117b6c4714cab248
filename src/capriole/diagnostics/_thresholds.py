"""The thresholds of the checks of draws, each with its unit and why it has its value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """When a run or its draws are called unhealthy.

    Attributes:
        rhat: Rank-normalised R-hat above which chains have not mixed (Vehtari et al. 2021).
        moved_share: Share of its steps in which a chain must move; one that moves in fewer is
            stuck (warm-up).
        separation: Distance of a chain's mean from the others, in its own standard deviations,
            that shows another mode: chance does not produce it.
        stuck_steps: Rejections in a row that are worth a warning.
        stuck_share: Share of a chain's steps, rejected in a row, that makes its draws unusable.
        low_acceptance: Mean acceptance of a chain that is worth a warning.
        divergent_share: Share of divergent proposals that is worth a warning.
        nonfinite_warning: Share of proposals without a finite log density that is worth a warning.
        nonfinite_fatal: The share above which draws may be cut off, so that they are unusable.
        rounding_warning: Rounding error of the acceptance ratio that is worth a warning; above 1
            the ratio is noise, so draws are unusable.
        mode_rhat: R-hat of mode indicators above which chains hardly leave their modes.
        skipped_share: Share of training updates that were not finite and is worth a warning.
        reported_mode_share: Share of the mass from which on a mode must not be missing in draws.
        tail_share: Share of the draws on either side of a dimension that is its far end.
        tail_fewest: Draws of a far end below which nothing is said of it.
        tail_held_ratio: Ratio of acceptance rates above which chains are held in a far end.
        tail_standard_errors: Standard errors of a tail's share from which on it is wrong.
        tail_factor: Factor by which a tail's share must be wrong, too.
        middle: Shares of the draws below a marginal's median between which it is the same mode's.
    """

    rhat: float = 1.01
    moved_share: float = 0.1
    separation: float = 6.0
    stuck_steps: int = 200
    stuck_share: float = 0.2
    low_acceptance: float = 0.1
    divergent_share: float = 1e-3
    nonfinite_warning: float = 1e-3
    nonfinite_fatal: float = 0.05
    rounding_warning: float = 1e-2
    mode_rhat: float = 1.05
    skipped_share: float = 0.01
    reported_mode_share: float = 0.01
    tail_share: float = 0.005
    tail_fewest: int = 32
    tail_held_ratio: float = 4.0
    tail_standard_errors: float = 4.0
    tail_factor: float = 2.0
    middle: tuple[float, float] = (0.3, 0.7)


THRESHOLDS = Thresholds()
