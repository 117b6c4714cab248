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
        tail_shares: Shares of the draws on either side of a dimension that are its far ends.
        tail_fewest: Draws of a far end below which nothing is said of it.
        tail_held_ratio: Ratio of acceptance rates above which chains are held in a far end. It is
            3 at most on logistic regression and eight schools, and 4.6 on a chain of parabolas that
            had a sixteenth of the draws beyond the 99.9 % point.
        tail_held_ratio_diverging: The same where divergent steps begin. NUTS on a banana had 2.3,
            and a quarter of the draws beyond the 99 % point.
        tail_held_ratio_fatal: The ratio above which draws are unusable. A product of Student's t
            with 5 degrees of freedom had 5 and up to 3.4 times its share beyond a 99.9 % point, a
            chain of parabolas 30.
        tail_diverging: Divergent steps from a far end below which they say nothing.
        tail_diverging_rate: Share of the steps from a far end that must diverge.
        tail_diverging_ratio: Ratio of that share to the share of all steps. NUTS had 8 on a
            horseshoe, 12 in the necks of a random walk with random volatility.
        tail_diverging_fatal: Divergent steps from a far end that make draws unusable.
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
    tail_shares: tuple[float, ...] = (0.002, 0.005, 0.01)
    tail_fewest: int = 30
    tail_held_ratio: float = 4.0
    tail_held_ratio_diverging: float = 2.0
    tail_held_ratio_fatal: float = 10.0
    tail_diverging: int = 5
    tail_diverging_rate: float = 0.05
    tail_diverging_ratio: float = 5.0
    tail_diverging_fatal: int = 10
    tail_standard_errors: float = 4.0
    tail_factor: float = 2.0
    middle: tuple[float, float] = (0.3, 0.7)


THRESHOLDS = Thresholds()
