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
EXPECTED = ExpectedSettings()
MARGINALS = MarginalSettings()
PROPERNESS = PropernessSettings()

CHUNK = WARMUP.chunk
"""Steps of a compiled run of the warm-up and of the search after it."""
NEGLIGIBLE_NATS = WARMUP.lost_nats
"""Nats from which on the estimated mass of a chain's place counts as none."""
