"""Every threshold of the estimation of coordinates, with its unit and its reason.

A gain is a rise of the mean log density per draw, in nats, of draws that were not fitted. Where a
reason names a target, it is one of the benchmark in ``docs/peers.md``, and something was measured
there. For the other values no measurement is on record.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of `estimate_whitening`, `fisher_whitening` and `estimate_transport`."""

    max_full_rank_dim: int = 64
    """Dimensions. Up to here products of full rank cost less than one more compilation."""

    max_outlier_deviations: float = 5.0
    """Robust standard deviations. Draws farther out are left out of a covariance."""

    min_scale: float = 1e-12
    """Relative to location, standard deviation or largest eigenvalue. Less is rounding error."""

    min_eigenvalue: float = 1e-14
    """Share of the largest eigenvalue of a covariance. A smaller one is rounding error."""

    min_map_gain: float = 0.03
    """Nats. A transport map that gains less is not worth the cost of its evaluation."""

    min_parent_gain: float = 0.3
    """Nats. Asked of every further parent, and of the first one if chains are not reliable: with
    less asked, the draws of mog-asym led to a map of its two modes."""

    min_part_gain: float = 0.02
    """Nats. Asked of the first parent of reliable draws, of a child in many dimensions and of a
    mixed row: for 0.02 nats a parent doubled the worst ESS of eight schools non-centred."""

    min_own_axes_gain: float = 0.05
    """Nats. The children's own axes replace common axes if they gain this much: on volatility
    correlations grow without limit, so there are no common axes."""

    min_moving_offset_gain: float = 0.01
    """Nats. A mean that does not shrink with its scale must gain this much. gp_pois_regr has such
    means; in the neck of batting an offset that is 0.01 wrong is 60 standard deviations."""

    min_shape_gain: float = 20.0
    """Squared standard errors. A marginal with skew or tails must fit better by this much."""

    min_heaviness_gain: float = 10.0
    """Squared standard errors, asked of heavy tails. With less asked, a skewed marginal took them
    and chains of eight schools non-centred stuck."""

    min_heaviness_gain_both_ends: float = 3.0
    """Squared standard errors, asked of heavy tails if both tails of the best light fit are too
    short, as they are for Student's t."""

    min_heaviness_gain_symmetric: float = -3.0
    """Squared standard errors, asked of heavy tails if the best light fit is symmetric and wide.
    Negative, because tails that are too light are never visited: one seed of six lost those of
    Student's t with 3 degrees of freedom."""

    max_symmetric_skew: float = 0.15
    """Skew of the sinh-arcsinh marginal, no unit. Below it a marginal counts as symmetric."""

    max_wide_tail: float = 0.7
    """Tail parameter of the sinh-arcsinh marginal; 1 is Gaussian. Below it tails count as wide."""

    max_dim: int = 300
    """Dimensions. No transport map above it, because its matrices are dense."""

    max_dense_dim: int = 60
    """Coordinates that may all be children of a parent, or mixed rows: cost grows as a power."""

    max_parents: int = 3
    """Parents of a map. Each adds four features to every conditional mean and scale."""

    max_candidates: int = 4
    """Candidates for the next parent that are tried with a fitted map each."""

    max_draws: int = 8000
    """Draws that a fit uses; more are thinned, because the time of a fit grows with them."""

    min_draws_per_dim: int = 20
    """Draws per dimension. With fewer a map would fit noise."""

    independent_share: float = 0.1
    """Share of draws that count as independent, since neighbours are of one chain."""

    num_blocks: int = 64
    """Blocks of draws, every second of them held out: neighbours may be of one chain."""

    max_residual: float = 10.0
    """Standard deviations. A residual farther out counts as one at this distance."""

    max_squared_misfit: float = 50.0
    """Squared standard deviations. Limit of one draw's pull on a log scale."""

    max_scoring_step: float = 0.5
    """Nats. Longest step of Fisher scoring for a coefficient of a log scale."""

    scoring_tolerance: float = 1e-3
    """Nats. Fisher scoring stops when every step is shorter."""

    max_mixing_rounds: int = 15
    """Rounds of least squares and Fisher scoring for one mixed row."""

    mixing_ridge: float = 1e-3
    """Ridge per draw, for standardised coefficients; keeps undetermined ones at 0."""

    min_explained: float = 0.01
    """Share of a row's variance that another row must explain to be a predictor of it."""

    max_predictors: int = 8
    """Predictors of one mixed row; the time of a fit grows with their square."""

    max_sweeps: int = 20
    """Sweeps of joint diagonalisation over all pairs of rows."""


THRESHOLDS = Thresholds()
"""The values in use."""
