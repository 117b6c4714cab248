"""The thresholds and lengths of the warm-up and what is learnt beside it, each with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupSettings:
    """How the warm-up's chains run, and when they are believed.

    Attributes:
        mixed_rhat: R-hat of a window below which its chains agree, so that the warm-up may end.
        slow_rhat: R-hat below which chains that are only slow still count as agreeing when the
            windows are used up.
        settled_change: Largest factor by which a scale may change in the last window.
        lost_nats: Nats below the median of all chains from which on the estimated mass of a
            chain's place counts as none.
        far_share: Share of a Gaussian's mass beyond which a chain that stands still is far out.
        leave_from: The first window in which chains may be taken out of places without mass.
        chunk: Steps of a compiled run, here and in the search after it.
        steps: Steps of a window; its second half is pooled.
        leapfrogs: Leapfrogs of a step.
        update: Steps between two updates of the step size.
        acceptance: Mean acceptance that the step size is steered to (0.8: Stan's).
        first_angle: The first angle of one leapfrog, in radians.
        largest_angle: The largest angle of one leapfrog; it is unstable from 2 on.
        jitter: Range of factors of the angle, for each chain, against resonances.
        exploratory_steps: Steps of an exploratory chain.
        exploratory_angle: Its largest angle. A step that suits a wide mode throws a chain out of a
            narrow one.
        most_gradients: Gradients that a whitening by gradients takes at most.
    """

    mixed_rhat: float = 1.05
    slow_rhat: float = 1.1
    settled_change: float = 1.5
    lost_nats: float = 50.0
    far_share: float = 1e-6
    leave_from: int = 3
    chunk: int = 100
    steps: int = 200
    leapfrogs: int = 8
    update: int = 4
    acceptance: float = 0.8
    first_angle: float = 0.1
    largest_angle: float = 1.2
    jitter: tuple[float, float] = (0.6, 1.2)
    exploratory_steps: int = 40
    exploratory_angle: float = 0.025
    most_gradients: int = 4096


@dataclass(frozen=True)
class ShortWarmupSettings:
    """How the short warm-up runs, and when it ends.

    With 16 chains and these lengths it ended after 8,300 gradients on 15 of the bench's targets in
    2 to 50 dimensions. Four chains of the best NUTS took 24,000 or more (results/answer).

    Attributes:
        windows: Steps of each window; the second half of them is kept.
        leapfrogs: Leapfrogs of a step.
        update: Steps between two updates of the step size.
        first_angle: The first angle of one leapfrog, in radians.
        fewest_windows: Windows before it may end.
        settled_change: Largest factor by which a scale may change in the last window.
        settled_rhat: R-hat of the last window below which chains roughly agree: its few draws are
            dependent.
        dependence: Draws that count as one where coordinates are estimated by draws alone.
    """

    windows: tuple[int, ...] = (20, 20, 40, 40, 80, 80)
    leapfrogs: int = 6
    update: int = 1
    first_angle: float = 0.1
    fewest_windows: int = 3
    settled_change: float = 1.5
    settled_rhat: float = 1.3
    dependence: float = 10.0


@dataclass(frozen=True)
class MarginalSettings:
    """How a parent's marginal is laid on a grid, and when it is believed.

    Attributes:
        most_dim: Most dimensions in which the others are integrated out.
        steps: Step of the grid in standard deviations, with one parent and with two.
        lowest: Nats below the top at which the grid ends.
        cliff: Nats below the top above which a neighbour that is not finite is a cliff.
        most_rows: Most values of the grid.
        newton: Steps of Newton's method.
        damping: Factors of a Newton step that are tried.
        samples: Draws of the importance sampler at each value.
        kept: Draws that are kept of them.
        least_share: Share of the draws that are effective below which a value is not believed.
        least_sure: Share of the mass at values that are believed below which there is no marginal.
        bent_draws: Draws at which the change of the curvature is asked.
        most_bent: Dimensions that it names at most.
    """

    most_dim: int = 300
    steps: tuple[float, float] = (0.2, 0.35)
    lowest: float = -9.0
    cliff: float = -4.0
    most_rows: int = 800
    newton: int = 8
    damping: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.0)
    samples: int = 2048
    kept: int = 256
    least_share: float = 0.03
    least_sure: float = 0.99
    bent_draws: int = 256
    most_bent: int = 3


@dataclass(frozen=True)
class PropernessSettings:
    """Where a log density is asked whether it falls.

    Attributes:
        distances: Distances along a line, in standard deviations of the starts. Squares of the
            last are numbers in float32.
        exact: How many of them are asked along a combination of dimensions. Further out rounding
            of the coordinates in float32 lets a flat combination fall.
        fall: Nats that ``log pi + log t`` must fall between two of them.
        clamp: Nats that it must be below the middle to be a clamp that holds nothing: a floor 40
            nats down at the second distance. NumPyro's stick-breaking in float32 has one 42 nats
            down for Dirichlet(1/2) and 88 for Dirichlet(1); no chain gets that far.
        named: Dimensions that an error names at most.
    """

    distances: tuple[float, ...] = (1e2, 1e4, 1e6, 1e9, 1e12, 1e15, 1e18)
    exact: int = 5
    fall: float = 0.1
    clamp: float = 30.0
    named: int = 5


@dataclass(frozen=True)
class ModeSearchSettings:
    """How modes are searched that no start is near, and when one counts.

    Attributes:
        most_dim: Most dimensions in which is searched: Gaussians are dense.
        around_starts: Points around the starts.
        start_widths: Their smallest and largest width, in spreads of the starts. Of two modes 11
            deviations apart in 10 dimensions, one 0.35 times as wide as the other, 0.16 % of the
            points lead to the narrow one.
        far_out: Points farther out.
        far_widths: Their widths, in spreads of the starts.
        around_draws: Points around the draws of the warm-up.
        draw_widths: Their widths, in standard deviations of the draws.
        batch: Points that climb side by side.
        steps: Steps of a climb.
        longer: Steps of a climb that goes on to the top.
        tops: Ends of a batch that climb on side by side.
        rounds: How often others of a batch do, where tops do not explain them.
        most_gradients: Gradients from which on no further batch climbs.
        first_step: The first step of a climb, in deviations times the root of the dimension.
        landing: Squared distance from a mode's centre, for each dimension, within which Newton's
            step must lead from a point that the mode explains.
        landing_share: The same, for each squared deviation from the centre: the covariance of some
            hundred draws is known to a few percent, so that far points of a Gaussian land so near.
        excess_nats: Nats by which the density there may be above the mode's Gaussian.
        excess_share: The same, for each squared deviation from the centre.
        draws_per_dim: Draws for each dimension below which a mode has variances alone.
        difference: Step of a difference of gradients, in deviations.
        most_fall: Nats that the density may fall in such a step; a tenth of it is tried else.
        most_passes: Times that such steps are tried.
        flattest: Least eigenvalue of a curvature in units of its diagonal: below it is noise.
        still: Newton decrement, for each dimension, below which a climb is at the top.
        draws: Draws of an importance sampler.
        wider: Factor of its covariance: tails must be covered.
        few: Effective draws for each dimension below which the curvature is trusted instead.
        ridge: Part of the curvature's covariance that is added to that of the draws.
        inside: The share of a Gaussian in its ellipsoid.
        least_effective: Share of the draws that are effective below which a mass is not believed.
        sure_effective: The same above which it is believed rather than that of the draws' Gaussian.
        least_share: Share of the mass below which a mode is no matter (that of the verdict).
        weighed_share: The same by the curvature, below which a mode is not weighed.
        visited: Share of what the draws should have in the ellipsoid from which on it was visited.
        seeded: Least and largest share of the chains that are moved to modes that were found.
    """

    most_dim: int = 1000
    around_starts: int = 10240
    start_widths: tuple[float, float] = (0.5, 5.0)
    far_out: int = 1024
    far_widths: tuple[float, float] = (5.0, 50.0)
    around_draws: int = 3072
    draw_widths: tuple[float, float] = (0.4, 10.0)
    batch: int = 512
    steps: int = 20
    longer: int = 60
    tops: int = 12
    rounds: int = 3
    most_gradients: int = 36000
    first_step: float = 0.3
    landing: float = 0.5
    landing_share: float = 0.01
    excess_nats: float = 2.0
    excess_share: float = 0.1
    draws_per_dim: int = 20
    difference: float = 0.05
    most_fall: float = 0.5
    most_passes: int = 8
    flattest: float = 1e-8
    still: float = 0.05
    draws: int = 1024
    wider: float = 1.2
    few: float = 4.0
    ridge: float = 1e-3
    inside: float = 0.99
    least_effective: float = 0.02
    sure_effective: float = 0.1
    least_share: float = 0.01
    weighed_share: float = 1e-4
    visited: float = 0.25
    seeded: tuple[float, float] = (0.125, 0.5)


@dataclass(frozen=True)
class ExpectedSettings:
    """What a search is expected to take, before it begins.

    Attributes:
        least_windows: Windows that every warm-up has: exploratory chains come after the first.
        search: Gradients of all chains at once that warm-up and search take, low and high. On the
            bench a tenth took 6,100, half at most 12,900, three quarters at most 35,500.
    """

    least_windows: int = 2
    search: tuple[float, float] = (6.1e3, 3.6e4)


WARMUP = WarmupSettings()
SHORT_WARMUP = ShortWarmupSettings()
EXPECTED = ExpectedSettings()
MARGINALS = MarginalSettings()
PROPERNESS = PropernessSettings()
MODE_SEARCH = ModeSearchSettings()

CHUNK = WARMUP.chunk
"""Steps of a compiled run of the warm-up and of the search after it."""
NEGLIGIBLE_NATS = WARMUP.lost_nats
"""Nats from which on the estimated mass of a chain's place counts as none."""
